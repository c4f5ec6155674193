"""What do the exporter's rewrites and lower precision give? The same sampler as several graphs, timed in turns.

    .venv/bin/python benchmarks/exporting.py [--only diffusion/ect ...] [--rounds 9]

Untrained networks as they are by default for 28x28 grey images on a CPU: arithmetic takes as long whatever it works on.

as exported   what torch.onnx makes, with GroupNormalization
fp32          as a production has it: norms as InstanceNormalization (components/export/norms.py)
ahead         that, optimised by ONNX Runtime beforehand as far as it is portable (its basic level), and saved
fp16, int8    lower precision (components/export/precision.py)

In each round every graph is called for half a second at a batch of 1 and of 16, one after another in a new order; a ratio is one
within a round, over fp32. Writes benchmarks/results/exporting.json: medians with the lowest and highest of the rounds, sizes,
operators, and the seconds that loading takes. A graph that cannot be had is left out with the reason.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks.shared import RESULTS, circumstances

MODELS = ("gan/dcgan", "vae/gaussian", "diffusion/ect", "flow/glow")
SIDE = 28
BATCHES = (1, 16)
FOR_S = 0.5
LOADS = 5


def family_of(model: str) -> Any:
    """An untrained member with weights that are no constants."""
    import torch

    from components.core.records import DataSpec
    from components.families import find
    from components.modalities.image.spec import ImageSpec

    torch.manual_seed(0)
    family, variant = model.split("/")
    made = find(family, variant).build({}, DataSpec(item=ImageSpec(channels=1, height=SIDE, width=SIDE)), light=True)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return made.eval()


def graphs_in(folder: Path, family: Any) -> tuple[dict[str, Path], dict[str, str]]:
    """Each graph's file by name, and why others are missing."""
    import onnxruntime as ort

    from components.core.errors import ExportError
    from components.export import graph

    made, missing = {}, {}
    with patch.object(graph, "groups_as_instances", lambda _: None):
        made["as exported"] = folder / "exported.onnx"
        graph.export_graph(family, made["as exported"])
    for precision in ("fp32", "fp16", "int8"):
        try:
            graph.export_graph(family, folder / f"{precision}.onnx", precision=precision)
            made[precision] = folder / f"{precision}.onnx"
        except ExportError as error:
            missing[precision] = str(error)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "ahead.onnx")
    ort.InferenceSession(made["fp32"], options, providers=["CPUExecutionProvider"])
    made["ahead"] = folder / "ahead.onnx"
    return made, missing


def loaded(path: Path) -> tuple[Any, float]:
    """A session as the server has it, and the seconds that it took."""
    import onnxruntime as ort

    from components.runtime.cpus import usable_cpus

    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    began = time.perf_counter()
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session, time.perf_counter() - began


def measured(model: str, *, rounds: int) -> dict[str, Any]:
    """The figures of one variant."""
    import onnx

    from components.core.noise import draw

    family, rng = family_of(model), random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        paths, missing = graphs_in(Path(name), family)
        feeds = {batch: dict(draw(family.noise_inputs(), range(batch))) for batch in BATCHES}
        calls: dict[tuple[str, int], Callable[[], Any]] = {}
        figures: dict[str, dict[str, Any]] = {}
        for label, path in paths.items():
            loads = [loaded(path) for _ in range(LOADS)]
            session = loads[-1][0]
            for batch in BATCHES:
                calls[label, batch] = lambda session=session, batch=batch: session.run(None, feeds[batch])
            figures[label] = {
                "load_s": median(seconds for _, seconds in loads),
                "size_mb": path.stat().st_size / 2**20,
                "operators": len(onnx.load(path).graph.node),
            }
        spent: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
        for number in range(rounds + 1):
            for key in rng.sample([*calls], len(calls)):
                found = _ms(calls[key])
                if number:  # the first round warms up
                    spent[key].append(found)
    for (label, batch), milliseconds in spent.items():
        ratios = [base / own for base, own in zip(spent["fp32", batch], milliseconds, strict=True)]
        figures[label][f"batch {batch}"] = {
            "ms": median(milliseconds),
            "times_as_fast": {"median": median(ratios), "lowest": min(ratios), "highest": max(ratios)},
        }
    return {"graphs": figures, "missing": missing}


def _ms(call: Callable[[], Any]) -> float:
    """The median milliseconds of a call."""
    until, found = time.perf_counter() + FOR_S, []
    while (began := time.perf_counter()) < until:
        call()
        found.append(1000 * (time.perf_counter() - began))
    return median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=MODELS)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    path = RESULTS / "exporting.json"
    told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for model in options.only:
        told[model] = measured(model, rounds=options.rounds) | circumstances("genwright", "torch", "onnxruntime-gpu")
        path.write_text(json.dumps(told, indent=1) + "\n")
        for label, each in told[model]["graphs"].items():
            times = {batch: each[f"batch {batch}"] for batch in BATCHES}
            speeds = ", ".join(
                f"batch {batch} {found['ms']:.2f} ms ({found['times_as_fast']['median']:.2f} x fp32)"
                for batch, found in times.items()
            )
            print(f"{model} {label}: {speeds}, {each['size_mb']:.1f} MB, loads in {each['load_s']:.2f} s", flush=True)
        for label, why in told[model]["missing"].items():
            print(f"{model} {label}: {why}")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
