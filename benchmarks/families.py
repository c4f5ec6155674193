"""Which variant makes what of one equal budget? Every one, and its peers, on the same data, judged by the same scorecard.

    .venv/bin/python benchmarks/families.py digits [--seconds 60] [--seeds 3] [--only vae/vq pythae/vae ...]
    .venv/bin/python benchmarks/families.py mnist --seconds 240 --seeds 1

A row is one model under one seed, trained and judged in a process of its own. Rows stand in
benchmarks/results/families-DATA.jsonl as soon as they end, so an interrupted bench goes on where it was; `--again` repeats those
of `--only`. It ends with families-DATA.md: the mean of the seeds, their spread, and each peer beside the variant it is held
against. `--jobs 2` trains two rows at a time, each with one thread: they share the machine evenly.

A peer (benchmarks/peers) runs in an environment of its own that uv makes from the lines at its top.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.shared import RESULTS, ROOT, circumstances

PEERS = {  # the peer, its script, and the variant it is held against
    "diffusers/ddpm": ("diffusers_ddpm.py", "diffusion/ddpm"),
    "denoising-diffusion-pytorch/v": ("denoising_diffusion.py", "diffusion/ddpm"),
    "denoising-diffusion-pytorch/edm": ("denoising_diffusion.py", "diffusion/edm"),
    "pythae/ae": ("pythae_models.py", "autoencoder/plain"),
    "pythae/vae": ("pythae_models.py", "vae/gaussian"),
    "pythae/beta-vae": ("pythae_models.py", "vae/beta"),
    "pythae/vq-vae": ("pythae_models.py", "vae/vq"),
    "normflows/realnvp": ("normflows_models.py", "flow/realnvp"),
    "normflows/glow": ("normflows_models.py", "flow/glow"),
}
CONFIG = {"vae/beta": {"beta": 2.0}}  # the peer's, which collapses on digits at 4
SAMPLES = {"digits": 1000, "mnist": 500, "cifar10": 500}
SECONDS = {"cpu": {"digits": 60, "mnist": 240, "cifar10": 600}, "cuda": {"digits": 60, "mnist": 600, "cifar10": 600}}
SHOWN = {  # metric -> heading; lower is better for all but the four shares
    "fd": "FD-local",
    "confident_share": "sure",
    "class_share_min": "rarest class",
    "coverage": "coverage",
    "recall": "recall",
    "bits_per_dim": "bits/dim",
}
COMPARED = ("fd", "coverage", "recall", "confident_share", "class_share_min", "bits_per_dim")
LOWER = {"fd", "bits_per_dim"}
PACKAGES = ("genwright", "torch", "diffusers")
UNNAMED = "x86_64"  # a processor, in rows of before processors were named


@dataclass(frozen=True)
class Row:
    """One model to train under one seed."""

    model: str
    data: str
    seed: int
    seconds: float
    threads: int
    device: str

    @property
    def key(self) -> tuple[object, ...]:
        return (self.model, self.data, self.seed, self.seconds, self.threads, self.device)


class Given:
    """Images that a peer has drawn, handed out in their order."""

    def __init__(self, images: Any, subject: str) -> None:
        self.images, self.subject, self.at = images, subject, 0

    def __call__(self, seeds: Sequence[int], labels: Sequence[int] | None = None) -> Any:
        self.at += len(seeds)
        return self.images[self.at - len(seeds) : self.at]


def dataset_of(name: str) -> Any:
    """The prepared dataset and its extractor, made where they are missing."""
    from components.core.brief import DataBrief
    from components.data.versions import fetch
    from components.pipeline.extractor import load_extractor
    from flows.settings import load_backends

    backends = load_backends()
    data = DataBrief(path=f"data/prepared/{name}")
    dataset = fetch(data, cache=backends.named_home.data, mirror=backends.settings.data_mirror)
    return dataset, load_extractor(dataset, backends)


def measure(row: Row) -> dict[str, Any]:
    """Train one row and judge it: what a line of the results holds."""
    from components.data.joined import held_out
    from components.data.shards import open_split
    from components.evaluation.score import score

    dataset, extractor = dataset_of(row.data)
    train, rest = open_split(dataset.path, "train"), held_out(dataset)
    with tempfile.TemporaryDirectory() as folder:
        run = _run_peer if row.model in PEERS else _run_ours
        sampler, told = run(row, dataset, train, rest, extractor, Path(folder))
        card = score(
            sampler,
            dataset=dataset,
            train=train,
            reference=rest,
            extractor=extractor,
            samples=SAMPLES[row.data],
            reference_split="validation+test",
            device=row.device,
            model=told.pop("model", None),
        )
    metrics = {name: metric.model_dump(mode="json") for name, metric in card.metrics.items()} | told.pop("metrics")
    if row.model not in PEERS:
        told["sample_s"] = SAMPLES[row.data] / metrics["throughput_per_s"]["value"]
    return told | {"protocol": card.protocol.model_dump(mode="json"), "metrics": metrics}


def _run_ours(row: Row, dataset: Any, train: Any, rest: Any, extractor: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    """The trainer of every production, without a tracking server."""
    from components.core.records import Ceiling, DataSpec
    from components.evaluation.signal import FixedNoiseQuality
    from components.training.checkpoint import restore_best
    from components.training.plan import TrainPlan
    from components.training.sampling import TorchSampler
    from components.training.start import build
    from components.training.trainer import Trainer
    from components.training.untracked import Untracked

    family, variant = row.model.split("/")
    plan = TrainPlan(
        family=family,  # type: ignore[arg-type]
        variant=variant,
        config=CONFIG.get(row.model, {}),
        spec=DataSpec.of(dataset),
        dataset=dataset,
        folder=str(folder),
        run_id="bench",
        device=row.device,  # type: ignore[arg-type]
        threads=row.threads,
        seed=row.seed,
        ceiling=Ceiling(name="--seconds", seconds=row.seconds),
    )
    quality = FixedNoiseQuality.of(extractor, train, seed=row.seed)
    checkpoint = Trainer(build(plan), plan, split=train, quality=quality, tracker=Untracked()).run()
    best = restore_best(plan, checkpoint)
    told = {
        "steps": checkpoint.steps_total,
        "best_step": checkpoint.step,
        "batch_size": best.config.batch_size,
        "train_s": checkpoint.train_s,
        "parameters": sum(parameter.numel() for parameter in best.parameters()),
        "config": best.config.model_dump(mode="json"),
        "metrics": {},
        "model": best,  # tells the bits and the reconstruction
    }
    return TorchSampler(best, subject=f"torch:{checkpoint.weights.sha256}", device=row.device, batch=250), told


def _run_peer(row: Row, dataset: Any, train: Any, rest: Any, extractor: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    """The peer's script in its own environment, on the same images."""
    import numpy as np

    from components.evaluation.bootstrap import Bootstrap

    every = {name: split.take(np.arange(len(split))) for name, split in (("train", train), ("held_out", rest))}
    np.savez(folder / "data.npz", **every)
    out = folder / "out.npz"
    command = [
        *_interpreter(row),
        *(str(folder / "data.npz"), str(out), "--model", row.model.split("/")[1]),
        *("--seconds", str(row.seconds), "--seed", str(row.seed)),
        *("--samples", str(SAMPLES[row.data]), "--threads", str(row.threads or os.cpu_count()), "--device", row.device),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=row.seconds * 3 + 1800)
    with np.load(out) as given:
        told: dict[str, Any] = {name: given[name].item() for name in ("steps", "batch_size", "train_s", "sample_s", "parameters")}
        told["versions"] = dict(pin.split("==") for pin in given["versions"].tolist())
        told["metrics"] = {}
        if "bits_per_dim" in given:
            bits = Bootstrap(seed=0).mean(given["bits_per_dim"], stream="likelihood", better="lower")
            told["metrics"]["bits_per_dim"] = bits.model_dump(mode="json")
        return Given(given["images"], f"peer:{row.model}"), told


def _interpreter(row: Row) -> list[str]:
    script = ROOT / "benchmarks" / "peers" / PEERS[row.model][0]
    return [str(ROOT / ".venv" / "bin" / "uv"), "run", "--quiet", "--no-project", "--script", str(script)]


def bench(rows: Sequence[Row], path: Path, *, jobs: int) -> None:
    """Each row in a process; its line is written when it ends, a failure too."""

    def one(row: Row) -> None:
        began = time.monotonic()
        print(f"{row.model} seed {row.seed}: training", flush=True)
        command = [sys.executable, __file__, row.data, "--row", json.dumps(row.__dict__)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        told = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"failure": _last_line(done.stderr)}
        told["wall_s"] = round(time.monotonic() - began, 1)
        line = row.__dict__ | circumstances(*PACKAGES, device=row.device) | told
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        shown = told.get("failure") or ", ".join(
            f"{title} {told['metrics'][name]['value']:.3f}" for name, title in SHOWN.items() if name in told["metrics"]
        )
        print(f"{row.model} seed {row.seed}: {shown}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, rows))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no word of why"])[-1][:300]


def read(path: Path) -> list[dict[str, Any]]:
    """The last line of each row that did not fail, or else its last failure."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    failures_first = sorted(lines, key=lambda line: "metrics" in line)
    return list({row_of(line).key: line for line in failures_first}.values())


def row_of(line: dict[str, Any]) -> Row:
    return Row(**{name: line[name] for name in Row.__annotations__})


READ_ANEW = "2026-11-29"  # before, a checkpoint was chosen otherwise (docs/decisions/0018-readings-and-parts.md)


def table(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Markdown: one row a model, the mean of its seeds and the half of their spread."""
    yield (
        "| model | held against | "
        + " | ".join(SHOWN.values())
        + " | ms a sample | images/s in training | seeds | failures | measured |"
    )
    yield "|---" * (len(SHOWN) + 7) + "|"
    for model, grouped in groupby(sorted(lines, key=_order), key=lambda line: line["model"]):
        every = list(grouped)
        good = [line for line in every if "metrics" in line]
        cells = [_cell([line["metrics"][name]["value"] for line in good if name in line["metrics"]]) for name in SHOWN]
        speed = _cell([1000 * line["sample_s"] / SAMPLES[line["data"]] for line in good], digits=2)
        rate = _cell([line["steps"] * line["batch_size"] / line["train_s"] for line in good], digits=0)
        against = PEERS[model][1] if model in PEERS else ""
        counts = f"{len(good)} | {len(every) - len(good)} | {every[-1]['date']}, {', '.join(sorted(hardware(every)))}"
        yield f"| {model} | {against} | {' | '.join(cells)} | {speed} | {rate} | {counts} |"


def comparisons(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Markdown: each variant beside its peers. Ahead and behind say that the intervals do not overlap."""
    yield "| peer | our variant | " + " | ".join(f"our {SHOWN[name]}" for name in COMPARED) + " |"
    yield "|---" * (len(COMPARED) + 2) + "|"
    measured = {model: [*grouped] for model, grouped in groupby(sorted(lines, key=_order), key=lambda line: line["model"])}
    for peer, (_, ours) in PEERS.items():
        if peer in measured and ours in measured:
            if not on_one_machine(measured[ours], measured[peer]):  # an equal time is another number of steps there
                yield f"| {peer} | {ours} |{' not measured on one machine |' * len(COMPARED)}"
                continue
            told = (_beside(_interval(measured[ours], name), _interval(measured[peer], name), name) for name in COMPARED)
            yield f"| {peer} | {ours} | {' | '.join(told)} |"


def hardware(lines: Sequence[dict[str, Any]]) -> set[str]:
    """The processors or GPUs that these rows were measured on."""
    return {str(line["hardware"]) for line in lines}


def on_one_machine(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> bool:
    """Whether their processors are the same; where one of them has no name in its rows, whether they were measured on one day."""
    names = [hardware(lines) - {UNNAMED} for lines in (ours, theirs)]
    days = [{line["date"] for line in lines} for lines in (ours, theirs)]
    return names[0] == names[1] if all(names) else bool(days[0] & days[1])


def _interval(lines: Sequence[dict[str, Any]], name: str) -> tuple[float, float] | None:
    """The mean of the seeds, and around it the mean of their bootstrap intervals or the range of the seeds, as is wider."""
    metrics = [line["metrics"][name] for line in lines if name in line.get("metrics", {})]
    if not metrics or not all(math.isfinite(metric["value"]) for metric in metrics):
        return None
    values = [metric["value"] for metric in metrics]
    half = sum(metric["high"] - metric["low"] for metric in metrics) / len(metrics) / 2
    return sum(values) / len(values), max(half, (max(values) - min(values)) / 2)


def _beside(ours: tuple[float, float] | None, theirs: tuple[float, float] | None, name: str) -> str:
    if ours is None or theirs is None:
        return "" if ours is theirs else "not there, or not finite" if ours is None else "the peer's is not there, or not finite"
    better = (theirs[0] - ours[0]) * (1 if name in LOWER else -1)
    verdict = "even" if abs(better) <= ours[1] + theirs[1] else "ahead" if better > 0 else "behind"
    return f"{verdict}: {' to '.join(f'{mean:.3f} ± {half:.3f}' for mean, half in (ours, theirs))}"


def _order(line: dict[str, Any]) -> tuple[object, ...]:
    """A peer stands below the variant it is held against."""
    model = line["model"]
    return (PEERS[model][1], 1, model) if model in PEERS else (model, 0, model)


def _cell(values: Sequence[float], *, digits: int = 3) -> str:
    if not values:
        return ""
    mean, half = sum(values) / len(values), (max(values) - min(values)) / 2
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if len(values) > 1 else "")


def write_table(path: Path, data: str, *, seconds: float, threads: int) -> None:
    """The rows of one budget and one number of threads."""
    lines = [line for line in read(path) if (line["seconds"], line["threads"]) == (seconds, threads)]
    device = lines[-1]["device"]
    text = [
        f"# Every variant on {data}, {seconds:.0f} seconds of training each",
        "",
        f"{lines[-1]['machine'].split(', load')[0]}, {threads or 'all'} used, {device}; "
        f"{', '.join(sorted({line['hardware'] for line in lines}))}.",
        f"Means of the seeds and half of their range. {SAMPLES[data]} samples a row from the torch sampler; one protocol",
        "for all rows. A likelihood that is a bound is counted as bits/dim too. Rows in full, with versions and intervals:",
        f"[{path.name}]({path.name}).",
        "",
        *table(lines),
        "",
        "## Beside the peers",
        "",
        "The mean of the seeds, and half of the 95 % interval that resampling the items gives, or of the range of the seeds",
        "where that is wider. Ahead or behind where these do not overlap, else even. A model that draws one image over and over",
        "is one the classifier is sure of; it covers nothing. Ours keep the last of six readings that is not worse than the",
        f"best, by features of a random network; those measured before {READ_ANEW} the best one, by the features that judge. The",
        "peers end with their last weights. A flow's mass is estimated with 8 draws",
        "of ours, 1 of the peer's. The beta of both beta-VAEs is 2 (ours has 4 by default, where pythae's collapses). Above side",
        "16 the diffusion models of both sides take two by two pixels as one place.",
        "",
        *comparisons(lines),
    ]
    path.with_suffix(".md").write_text("\n".join(text) + "\n")
    print(f"wrote {path.with_suffix('.md')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="digits", choices=sorted(SAMPLES))
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of one training; 0: as the trainer chooses, the default with one job")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(Row(**json.loads(options.row)))))
        return
    from components.families import cards

    known = ["/".join(key) for key in cards()] + list(PEERS)
    if unknown := sorted(set(options.only) - set(known)):
        parser.error(f"{', '.join(unknown)} given; allowed: {', '.join(known)}")
    models = options.only or known
    seconds = options.seconds or SECONDS[options.device][options.data]
    threads = options.threads if options.threads is not None else 1 if options.jobs > 1 else 0
    wanted = [
        Row(model, options.data, seed, seconds, threads, options.device) for seed in range(options.seeds) for model in models
    ]
    path = RESULTS / f"families-{options.data}{'-cuda' if options.device == 'cuda' else ''}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset_of(options.data)
    there = set() if options.again else {row_of(line).key for line in read(path) if "metrics" in line}
    bench([row for row in wanted if row.key not in there], path, jobs=options.jobs)
    write_table(path, options.data, seconds=seconds, threads=threads)


if __name__ == "__main__":
    main()
