"""What does a student in few steps cost against its own teacher? Trained, distilled, proved and timed on one machine.

    .venv/bin/python benchmarks/distil.py [briefs/mnist.yaml] [--minutes 30] [--home FOLDER]

Produces the brief and distils it with `genwright distil` (4, 2 and 1 steps at its width, and 1 step against a critic), in a home
that `--home` keeps, so that an interrupted bench goes on. The teacher then draws as people run it in diffusers: 50 steps of DDIM
(for an EDM model the method of Euler in sigma, which is the same) in a pipeline of torch; the students from their ONNX graphs.
Rounds alternate between all of them, and a ratio is one within a round. Quality: one scorecard for all, beside the teacher's, by
the extractor's features and by those that only a proof sees.

Writes benchmarks/results/distil-NAME.json.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.shared import RESULTS, ROOT, circumstances, verdicts

GENWRIGHT = ROOT / ".venv" / "bin" / "genwright"
STEPS = (4, 2, 1)
DDIM_STEPS = 50
BATCH = 50
ROUNDS = 5
SAMPLES = 4000
PACKAGES = ("genwright", "torch", "diffusers", "onnxruntime-gpu")
SHOWN = ("fd", "distance_ratio", "heldout_ratio", "coverage", "coverage_lost", "recall", "recall_lost", "confident_share")


def pipeline_of(family: Any, *, steps: int) -> Any:
    """The teacher as a diffusers pipeline: n and a seed in, images x_NCHW in [-1, 1] out."""
    import torch
    from diffusers import DDIMScheduler, DiffusionPipeline, EDMEulerScheduler

    class Teacher(DiffusionPipeline):  # type: ignore[misc]
        def __init__(self, scheduler: Any) -> None:
            super().__init__()
            self.register_modules(scheduler=scheduler)

        @torch.no_grad()
        def __call__(self, seeds: list[int]) -> Any:
            noise = [torch.randn(family.spec.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
            self.scheduler.set_timesteps(steps)
            x = torch.stack(noise) * self.scheduler.init_noise_sigma
            for t in self.scheduler.timesteps:
                scaled = self.scheduler.scale_model_input(x, t)
                out = family.denoiser.network(scaled, (t * time_scale).expand(len(x)), None, None)
                x = self.scheduler.step(out, t, x).prev_sample
            return x.clamp(-1, 1)

    config = family.config
    if family.card.variant == "edm":
        time_scale = 250.0  # the scheduler's time is ln(sigma) / 4
        scheduler: Any = EDMEulerScheduler(
            sigma_min=config.sigma_min, sigma_max=config.sigma_max, sigma_data=config.sigma_data, rho=config.rho
        )
    else:
        time_scale = 1.0
        scheduler = DDIMScheduler(
            num_train_timesteps=config.levels,
            beta_schedule={"cosine": "squaredcos_cap_v2", "linear": "linear"}[config.schedule],
            prediction_type={"v": "v_prediction", "epsilon": "epsilon", "x0": "sample"}[config.prediction],
            timestep_spacing="trailing",
            clip_sample=config.clip,
        )
    pipeline = Teacher(scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class Pipelined:
    """The pipeline as a sampler: uint8 images of seeds."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline, self.subject = pipeline, "diffusers:teacher"

    def __call__(self, seeds: Any, labels: Any = None) -> Any:
        from components.core.units import to_stored
        from components.modalities.image.spec import ImageSpec

        x_NCHW = self.pipeline(list(seeds)).numpy()
        channels, height, width = x_NCHW.shape[1:]
        return to_stored(x_NCHW, ImageSpec(channels=channels, height=height, width=width))


def genwright(home: Path, *words: str, again: bool = True) -> Any:
    """The command line in the bench's home; its JSON. A gate's refusal is an answer, too: asked again, it tells what stands."""
    done = subprocess.run(
        [GENWRIGHT, *words, "--json"],
        cwd=ROOT, env={**os.environ, "GENWRIGHT_HOME": str(home)}, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 3):
        raise SystemExit(f"genwright {' '.join(words)}: exit code {done.returncode}")
    return genwright(home, *words, again=False) if again and not done.stdout else json.loads(done.stdout)


def alternated(what: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Images a second of each, round by round, after one round that warms up."""
    rates: dict[str, list[float]] = {name: [] for name in what}
    for number in range(ROUNDS + 1):
        for name, draw in what.items():
            began = time.perf_counter()
            images = 0
            while time.perf_counter() - began < 2.0 or not images:
                draw()
                images += BATCH
            if number:
                rates[name].append(images / (time.perf_counter() - began))
    return rates


def measure(home: Path, brief: str, *, minutes: float) -> dict[str, Any]:
    """The teacher of a brief and its students: trained, proved beside it, and timed in turns."""
    import torch

    from components.pipeline.backends import Backends
    from components.pipeline.distil.request import teacher_of
    from components.runtime.cpus import usable_cpus
    from components.training.checkpoint import restore
    from flows.settings import Settings

    name, curve = distilled(home, brief, minutes=minutes)
    backends = Backends(Settings(home=home))
    _, run, trained = teacher_of(name, backends)
    torch.set_num_threads(usable_cpus())
    family = restore(trained.checkpoint, backends.workspace.open(trained.checkpoint.weights))
    teacher = Pipelined(pipeline_of(family, steps=DDIM_STEPS))
    graphs = graphs_of(curve, backends.workspace)
    seeds = [*range(BATCH)]
    rates = alternated({name: partial(drawn, seeds) for name, drawn in {"teacher": teacher, **graphs}.items()})
    return {
        "brief": brief,
        "teacher": {"train_s": trained.checkpoint.train_s, "steps": trained.checkpoint.steps_total, "sampler_steps": DDIM_STEPS},
        "students": {named(each): {"train_s": each["train_s"], "latency": each["latency_p95_ms"]} for each in curve["tried"]},
        "images_per_s": rates,
        "times_the_teacher": {
            name: median(ours / theirs for ours, theirs in zip(rate, rates["teacher"], strict=True))
            for name, rate in rates.items()
        },
        "metrics": proved(teacher, graphs, run, backends),
    }


def distilled(home: Path, brief: str, *, minutes: float) -> tuple[str, dict[str, Any]]:
    """The release that a brief makes, and the curve of its students."""
    release = genwright(home, "produce", brief)["release"]
    name = f"{release['model']}/{release['version']}"
    wanted = ("--minutes", f"{minutes:g}", "--steps", ",".join(map(str, STEPS)), "--widths", "1", "--precisions", "fp32")
    return name, genwright(home, "distil", name, *wanted)["curve"]


def named(student: dict[str, Any]) -> str:
    """A student of a curve, of which all have one width and precision."""
    from components.pipeline.run import in_steps

    return in_steps(student["steps"], adversarial=student["adversarial"])


def graphs_of(curve: dict[str, Any], workspace: Any) -> dict[str, Any]:
    """The graph of every student, by its name."""
    from components.core import store_keys
    from components.pipeline.run import Exported, Trained

    model, found = f"{curve['teacher']['model']}-distilled", {}
    for each in curve["tried"]:
        exported = workspace.read(store_keys.run_record(model, each["export_key"], "export"), Exported)
        trained = workspace.read(store_keys.run_record(model, each["train_key"], "train"), Trained)
        found[named(each)] = _graph(exported, trained, steps=each["steps"], workspace=workspace)
    return found


def proved(teacher: Any, graphs: dict[str, Any], run: Any, backends: Any) -> dict[str, Any]:
    """What is SHOWN of the scorecards of all, each student's measured beside the teacher's."""
    from components.data.joined import held_out
    from components.data.shards import open_split
    from components.evaluation.pair import Contender, score_pair
    from components.evaluation.samples import Stock
    from components.pipeline.extractor import load_extractor, load_unseen
    from components.pipeline.local_data import data_of

    data = data_of(run, backends)
    reference = held_out(data)
    protocol: dict[str, Any] = {
        "dataset": run.dataset,
        "train": open_split(data.path, "train"),
        "reference": reference,
        "extractor": load_extractor(data, backends),
        "unseen": load_unseen(None, reference, data, backends, device="cpu"),
        "samples": SAMPLES,
        "reference_split": "validation+test",
    }
    beside, metrics = Contender(teacher, stock=Stock()), {}
    for name, graph in graphs.items():
        pair = score_pair(Contender(graph), beside, **protocol)
        theirs = pair.champion.metrics
        metrics["teacher"] = {each: theirs[each].model_dump(mode="json") for each in SHOWN if each in theirs}
        metrics[name] = {each: pair.candidate.metrics[each].model_dump(mode="json") for each in SHOWN}
    return metrics


def reached(told: dict[str, Any]) -> dict[str, Any]:
    """What was to be reached of students on a CPU, and whether it was."""
    times, metrics, one = told["times_the_teacher"], told["metrics"], "1 step, adversarial"
    fd = {name: each["fd"]["value"] / metrics["teacher"]["fd"]["value"] for name, each in metrics.items()}

    def of(name: str, metric: str, end: str = "value") -> float:
        return float(metrics[name][metric][end])

    return verdicts(
        {
            "2 steps: times the images a second": (times["2 steps"], ">=", 25.0),
            "2 steps: FD-local over the teacher's": (fd["2 steps"], "<=", 1.1),
            "2 steps: coverage lost": (of("2 steps", "coverage_lost"), "<=", 0.03),
            "1 step: times the images a second": (times[one], ">=", 45.0),
            "1 step: distance over the teacher's, on features that only a proof sees": (of(one, "heldout_ratio"), "<=", 1.1),
            "1 step: coverage lost": (of(one, "coverage_lost"), "<=", 0.03),
            "1 step: recall lost": (of(one, "recall_lost"), "<=", 0.03),
            "1 step: minutes against the critic": (told["students"][one]["train_s"] / 60, "<=", 10.0),
            "4 steps: the low end of the ratio's interval": (of("4 steps", "distance_ratio", "low"), "<=", 1.0),
        }
    )


def _graph(exported: Any, trained: Any, *, steps: int, workspace: Any) -> Any:
    """The student's graph, BATCH images at a time."""
    from components.runtime.cpus import usable_cpus
    from components.runtime.session import GraphSampler
    from components.training.checkpoint import restore

    drawn = trained.checkpoint.model_copy(update={"config": trained.checkpoint.config | {"steps": steps}})
    family = restore(drawn, workspace.open(drawn.weights))
    return GraphSampler(
        workspace.open(exported.graph),
        spec=family.spec,
        noise=family.noise_inputs(),
        condition=exported.condition,
        output=exported.output,
        batch=-(-BATCH // usable_cpus()),  # a part to each core
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("brief", nargs="?", default="briefs/mnist.yaml")
    parser.add_argument("--minutes", type=float, default=30.0, help="for all students together")
    parser.add_argument("--home", type=Path, help="kept, and gone on from")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        told = measure((options.home or Path(folder)).resolve(), options.brief, minutes=options.minutes)
    told |= {"reached": reached(told), "wall_s": time.monotonic() - began}
    path = RESULTS / f"distil-{Path(options.brief).stem}.json"
    path.write_text(json.dumps(told | circumstances(*PACKAGES), indent=2) + "\n")
    for name, times in told["times_the_teacher"].items():
        quality = ", ".join(f"{metric} {value['value']:.3f}" for metric, value in told["metrics"][name].items())
        print(f"{name}: {times:.1f} x the teacher's images a second; {quality}")
    for name, each in told["reached"].items():
        print(f"{'reached' if each['reached'] else 'MISSED '} {name}: {each['found']:.4g}, wanted {each['wanted']}")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
