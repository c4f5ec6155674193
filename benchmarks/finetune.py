"""What does a base save? Emoji of one style as base, 200 of another as the new domain: from scratch, fine-tuned whole, by LoRA.

    (cd CACHE && npm pack emoji-datasource-twitter@16.0.0 && npm pack emoji-datasource-google@16.0.0)   # real, 130 MB
    .venv/bin/python benchmarks/finetune.py --cache CACHE [--seeds 3] [--jobs 2]

Pictures of 16 x 16 on white, split by code point: A for the base (Twitter's style) and for the judge (both styles), B for the 200
to adapt to (Google's style), C to judge by, which nothing learnt from. The base is a `diffusion/ddpm`, trained once and kept in
CACHE by the digest of what made it. Each way sees the same items. Peers (benchmarks/peers/diffusers_tuning.py: diffusers' and
peft's own classes, the recipe of their scripts) begin with the same base, written by genwright as a folder of diffusers, and get
the seconds that ours took; of two rates the better counts. Distances are on features of a classifier of categories: FD-local.
The fine-tuned model is distilled to two steps and exported, and drawn in turns with the pipeline of diffusers that it came from.

Writes benchmarks/results/finetune.json and finetune.md.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.emoji import Pictures, splits
from benchmarks.shared import RESULTS, ROOT, circumstances, verdicts

SAMPLES, STEPS = 1000, 20
BASE_ITEMS, ITEMS, RANK = 96_000, 9_600, 4
CONFIG = {"steps": STEPS}
OURS, PEERS = ("scratch", "finetune", "lora"), ("peer finetune", "peer lora")
PEER_RATES = (1e-4, 1e-3)
PACKAGES = ("torch", "diffusers", "peft", "onnxruntime-gpu")
METRICS = ("fd", "coverage", "memorised")
NOTES = """What the figures do not say. Ours have 50 more pictures, held out, by which the checkpoint is
chosen; the peers, as their scripts, take the last. Ours have the rates that genwright takes by itself; of
the peers' two the higher was the better, and a higher one still may be. How far a held-out loss may rise
(a quarter of its fall) was chosen when seed 0 of LoRA had been seen against the same pictures. Shares have
no interval of their own. The student is of one seed."""
STUDENT_STEPS, STUDENT_ITEMS, BATCH, ROUNDS = 2, 19_200, 50, 5


def train(
    folder: Path, split: Pictures, *, items: int, seed: int, start: Any, config: dict[str, Any], known: Any, variant: str = "ddpm"
) -> Any:
    """The checkpoint that genwright's trainer keeps. `known`: the extractor, and held-out items where there is a base."""
    from components.core.records import DataSpec
    from components.evaluation.signal import FixedNoiseQuality
    from components.training.plan import TrainPlan
    from components.training.start import build
    from components.training.trainer import Trainer
    from components.training.tuning import Tuning, drawn_by_base
    from components.training.untracked import Untracked

    extractor, held_out = known
    plan = TrainPlan(
        family="diffusion", variant=variant, config=config, spec=DataSpec.of(split.dataset), dataset=split.dataset,
        folder=str(folder), run_id="bench", threads=1, items_seen=items, start=start, seed=seed,
    )  # fmt: skip
    quality, family = FixedNoiseQuality.of(extractor, split, seed=seed), build(plan)
    drawn = drawn_by_base(family, plan, split)
    tuning = Tuning(drawn, held_out, condition=None, distance=quality.distance_to(drawn.items)) if drawn else None
    return Trainer(family, plan, split=split, quality=quality, tracker=Untracked(), tuning=tuning).run(), family


def extractor_of(cache: Path, judge: Pictures) -> Any:
    from components.evaluation.extractor import Extractor, train_extractor

    folder = cache / f"judge-{judge.md5[:12]}"
    if not folder.exists():
        train_extractor(judge, classes=int(judge.labels.max()) + 1, dest=folder, dataset_md5=judge.md5)
    return Extractor.load(folder)


def base_of(cache: Path, parts: dict[str, Pictures], extractor: Any) -> tuple[Any, Path]:
    """The base and the folder of its training: once, by the digest of its data and recipe."""
    from components.core.records import Checkpoint
    from components.training.start.scratch import Scratch

    made_of = json.dumps([parts["base"].md5, BASE_ITEMS, CONFIG, "0"])
    folder = cache / f"base-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    if not (folder / "base.json").exists():
        base, _ = train(folder, parts["base"], items=BASE_ITEMS, seed=0, start=Scratch(), config=CONFIG, known=(extractor, None))
        base.write(folder / "base.json")
    return Checkpoint.read(folder / "base.json"), folder


def row(how: str, seed: int, cache: Path, *, seconds: float = 0.0, rate: float = 0.0) -> dict[str, Any]:
    """One way under one seed: what it took, and what it is worth in the new domain and in the base's."""
    import torch

    torch.set_num_threads(1)
    parts = splits(cache)
    extractor = extractor_of(cache, parts["judge"])
    base, folder = base_of(cache, parts, extractor)
    with tempfile.TemporaryDirectory() as scratch:
        if how == "base":
            sampler, told = _sampler(base, folder), {}
        elif how in OURS:
            sampler, told, _ = _ours(how, seed, Path(scratch), parts, extractor, (base, folder))
        elif how == "student":
            sampler, told = _student(seed, Path(scratch), parts, extractor, (base, folder))
        else:
            sampler, told = _peer(how, seed, Path(scratch), parts, (base, folder), seconds=seconds, rate=rate)
        images = sampler([*range(SAMPLES)])
    return told | {where: _judged(images, parts, where, extractor) for where in ("of new", "of base")}


def _sampler(checkpoint: Any, folder: Path) -> Any:
    from components.training.checkpoint import restore
    from components.training.folder import best_weights
    from components.training.sampling import TorchSampler

    return TorchSampler(restore(checkpoint, best_weights(folder, checkpoint.weights)), subject="torch:bench", batch=250)


def _ours(
    how: str, seed: int, to: Path, parts: dict[str, Pictures], extractor: Any, base: tuple[Any, Path]
) -> tuple[Any, dict[str, Any], Any]:
    from components.core.brief import LoraBrief
    from components.training.folder import best_weights
    from components.training.start import find_start
    from components.training.start.finetune import recipe

    known, folder = base
    start, config = find_start(how), dict(CONFIG)
    if how != "scratch":
        config = recipe(known, variant=known.variant)
        config |= {"lr_peak": config["lr_peak"] * start.base_rate}
    begun = start.of(base=known, weights=best_weights(folder, known.weights), lora=LoraBrief(rank=RANK))
    made, family = train(
        to, parts["new"], items=ITEMS, seed=seed, start=begun, config=config, known=(extractor, parts["held out"])
    )
    told = {
        "train_s": made.train_s, "steps": made.steps_total, "kept": made.step, "rate": config.get("lr_peak"),
        "trainable": sum(each.numel() for each in family.parameters() if each.requires_grad),
        "tuning": [
            [each.step, each.distance, each.beside.get("held_out_loss"), each.beside.get("base_loss")] for each in made.tuning
        ],
    }  # fmt: skip
    return _sampler(made, to), told, made


def _student(seed: int, to: Path, parts: dict[str, Pictures], extractor: Any, base: tuple[Any, Path]) -> tuple[Any, Any]:
    """The graph of a student of what is fine-tuned, how far it is from torch, and how fast it draws."""
    import torch

    from components.export.graph import export_graph
    from components.export.parity import check_parity
    from components.runtime.session import GraphSampler
    from components.training.checkpoint import restore
    from components.training.distillation import recipe, student_card
    from components.training.folder import best_weights
    from components.training.start.student import Student

    _, taught, teacher = _ours("finetune", seed, to / "teacher", parts, extractor, base)
    weights = best_weights(to / "teacher", teacher.weights)
    start = Student(teacher=teacher, weights=weights)
    made, _ = train(
        to / "student", parts["new"], items=STUDENT_ITEMS, seed=seed, start=start, config=recipe(teacher, steps=STUDENT_STEPS),
        known=(extractor, None), variant=student_card(teacher).variant,
    )  # fmt: skip
    family = restore(made, best_weights(to / "student", made.weights))
    graph = export_graph(family, to / "model.onnx")
    parity = check_parity(family, to / "model.onnx", graph)
    sampler = GraphSampler(
        to / "model.onnx", spec=family.spec, noise=family.noise_inputs(), condition=graph.condition, output=graph.output,
        batch=BATCH, threads=1,
    )  # fmt: skip
    restore(teacher, weights).pipeline().save_pretrained(to / "pipeline", safe_serialization=True)
    from diffusers import DDIMPipeline

    pipeline = DDIMPipeline.from_pretrained(to / "pipeline", use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)

    def drawn_by_pipeline() -> None:
        pipeline(batch_size=BATCH, num_inference_steps=STEPS, output_type="np", generator=torch.Generator().manual_seed(seed))

    rates: dict[str, list[float]] = {"pipeline": [], "graph": []}
    for number in range(ROUNDS + 1):
        for name, draw in {"pipeline": drawn_by_pipeline, "graph": lambda: sampler([*range(BATCH)])}.items():
            began, images = time.perf_counter(), 0
            while time.perf_counter() - began < 2.0:
                draw()
                images += BATCH
            if number:
                rates[name].append(images / (time.perf_counter() - began))
    told = {"train_s": made.train_s, "steps": made.steps_total, "rate": made.config["lr_peak"], "teacher": taught}
    return sampler, told | {"images_per_s": rates, "parity": parity.worst, "tolerance": parity.tolerance}


def _peer(
    how: str, seed: int, to: Path, parts: dict[str, Pictures], base: tuple[Any, Path], *, seconds: float, rate: float
) -> tuple[Any, Any]:
    from components.training.checkpoint import restore
    from components.training.folder import best_weights

    known, folder = base
    restore(known, best_weights(folder, known.weights)).pipeline().save_pretrained(to / "base", safe_serialization=True)
    np.savez(to / "data.npz", train=parts["new"].images)
    script = ROOT / "benchmarks" / "peers" / "diffusers_tuning.py"
    places = {name: str(to / file) for name, file in {"base": "base", "data": "data.npz", "out": "out.npz"}.items()}
    asked = places | {
        "seconds": seconds,
        "seed": seed,
        "rate": rate,
        "rank": RANK if how == "peer lora" else 0,
        "samples": SAMPLES,
        "steps": STEPS,
    }
    subprocess.run([sys.executable, str(script), json.dumps(asked)], check=True, stdout=subprocess.DEVNULL)
    with np.load(to / "out.npz") as made:
        images = made["images"]
        told = {name: made[name].item() for name in ("train_s", "steps", "trainable", "sample_s")}
    return (lambda seeds: images[: len(seeds)]), told | {"rate": rate}


def _judged(images: Any, parts: dict[str, Pictures], where: str, extractor: Any) -> dict[str, Any]:
    """Distance and coverage of the domain, by pictures that nothing learnt from, with their intervals."""
    from components.evaluation.score import score

    def given(seeds: Sequence[int], asked: Any = None) -> Any:
        return images[np.asarray(seeds) % len(images)]

    given.subject = "torch:bench"  # type: ignore[attr-defined]
    learnt = parts["new"] if where == "of new" else parts["base"]
    card = score(
        given, dataset=learnt.dataset, train=learnt, reference=parts[where], extractor=extractor, samples=SAMPLES,  # type: ignore[arg-type]
        reference_split="C",
    )  # fmt: skip
    return {name: card.metrics[name].model_dump(mode="json", include={"value", "low", "high"}) for name in METRICS}


def rows(cache: Path, seeds: int, jobs: int) -> Iterator[dict[str, Any]]:
    """Each row in a process of its own; peers after ours, whose seconds they get."""

    def one(how: str, seed: int, **more: Any) -> dict[str, Any]:
        command = [sys.executable, "-W", "ignore", __file__, "--cache", str(cache), "--row", json.dumps([how, seed, more])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{how}, seed {seed}: {done.stderr[-2000:]}")
        made = {"how": how, "seed": seed} | json.loads(done.stdout.splitlines()[-1])
        print(f"{how} seed {seed} {more or ''}: FD-local {made['of new']['fd']['value']:.3f}", flush=True)
        return made

    yield (base := one("base", 0))
    assert base
    with ThreadPoolExecutor(jobs) as pool:
        ours = [*pool.map(lambda each: one(*each), [(how, seed) for seed in range(seeds) for how in OURS])]
        yield from ours
        took = {(each["how"], each["seed"]): each["train_s"] for each in ours}
        asked = [
            (how, seed, {"seconds": took[how.removeprefix("peer "), seed], "rate": rate})
            for seed in range(seeds)
            for how in PEERS
            for rate in PEER_RATES
        ]
        yield from pool.map(lambda each: one(each[0], each[1], **each[2]), asked)
    yield one("student", 0)  # alone, as its speed is measured


def mean(found: list[dict[str, Any]], where: str, name: str) -> tuple[float, float]:
    """Of the seeds, and half of the interval of one or of the seeds' range, whichever is wider."""
    values = [each[where][name]["value"] for each in found]
    half = statistics.fmean((each[where][name]["high"] - each[where][name]["low"]) / 2 for each in found)
    return statistics.fmean(values), max(half, (max(values) - min(values)) / 2)


def _loss_forgotten(row: dict[str, Any]) -> float:
    """By how much the loss on what the base drew rose until the checkpoint that is kept."""
    of_base = {step: loss for step, _, _, loss in row["tuning"]}
    return float(of_base[row["kept"]] - of_base[0])


def _beyond(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """The mean of the differences in distance, seed by seed, and half of their range."""
    apart = [a["of new"]["fd"]["value"] - b["of new"]["fd"]["value"] for a, b in zip(ours, theirs, strict=True)]
    return statistics.fmean(apart) + (max(apart) - min(apart)) / 2


def judge(found: list[dict[str, Any]]) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """The rows of each way, of a peer those at its better rate, and what the figures were to reach."""
    of: dict[str, list[dict[str, Any]]] = {
        how: [each for each in found if each["how"] == how] for how in ("base", *OURS, "student")
    }
    for how in PEERS:
        by_rate = [[each for each in found if each["how"] == how and each["rate"] == rate] for rate in PEER_RATES]
        of[how] = min(by_rate, key=lambda some: mean(some, "of new", "fd")[0])
    fd = {how: mean(some, "of new", "fd") for how, some in of.items()}
    covered = {how: mean(some, "of new", "coverage") for how, some in of.items()}
    forgot = {how: mean(some, "of base", "fd")[0] - mean(of["base"], "of base", "fd")[0] for how, some in of.items()}
    apart: dict[str, tuple[float, str, float]] = {}
    for how in ("finetune", "lora"):
        apart[f"{how} nearer than scratch, beyond both intervals"] = (
            fd["scratch"][0] - fd["scratch"][1] - fd[how][0] - fd[how][1], ">=", 0.0,
        )  # fmt: skip
        apart[f"{how} covers more than scratch, beyond both intervals"] = (
            covered[how][0] - covered[how][1] - covered["scratch"][0] - covered["scratch"][1], ">=", 0.0,
        )  # fmt: skip
        apart[f"{how} beyond its peer: the seeds' differences, their mean and half of their range"] = (
            _beyond(of[how], of[f"peer {how}"]), "<=", 0.0,
        )  # fmt: skip
    gains = {how: fd["base"][0] - fd[how][0] for how in ("finetune", "lora")}
    trainable = {how: of[how][0]["trainable"] for how in ("finetune", "lora")}
    over = {how: fd["scratch"][0] - fd[how][0] for how in ("finetune", "lora")}
    apart["share of the gain over scratch that LoRA has"] = (over["lora"] / over["finetune"], ">=", 0.9)
    apart["share of the gain over the base that LoRA has"] = (gains["lora"] / gains["finetune"], ">=", 0.9)
    apart["share of the weights that LoRA learns"] = (trainable["lora"] / trainable["finetune"], "<=", 0.1)
    apart["share of what is forgotten that LoRA forgets, by FD-local"] = (forgot["lora"] / forgot["finetune"], "<=", 1 / 3)
    unlearnt = {how: statistics.fmean(_loss_forgotten(each) for each in of[how]) for how in ("finetune", "lora")}
    apart["share of it by the loss on what the base drew"] = (unlearnt["lora"] / unlearnt["finetune"], "<=", 1 / 3)
    student = of["student"][0]
    rates = student["images_per_s"]
    faster = [ours / theirs for ours, theirs in zip(rates["graph"], rates["pipeline"], strict=True)]
    apart["images a second of the student's graph, over the pipeline's in its steps"] = (statistics.median(faster), ">=", 10.0)
    apart["the student's graph and torch differ by, in data units"] = (student["parity"], "<=", 1e-4)
    return of, verdicts(apart)


def table(of: dict[str, list[dict[str, Any]]], found: dict[str, Any], how_measured: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "# From a base, or from scratch: 200 emoji of another style",
        "",
        f"{how_measured['machine'].partition(',')[0]}, {how_measured['hardware']}, {how_measured['date']}; one thread a row, "
        f"{ITEMS:,} items seen. Means of the seeds, and half of the wider of the 95 % interval and the seeds' range; {SAMPLES:,} "
        "samples against pictures that nothing learnt from. `benchmarks/finetune.py` repeats it.",
        "",
        "| way | FD-local, new style | coverage | copies | FD-local, base's style | weights that learn | seconds | steps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for how, some in of.items():
        cells = [("of new", "fd"), ("of new", "coverage"), ("of new", "memorised"), ("of base", "fd")]
        shown = " | ".join(f"{value:.3f} ± {half:.3f}" for value, half in (mean(some, *cell) for cell in cells))
        first = some[0]
        work = f"{first.get('trainable', 0):,} | {first.get('train_s', 0):.0f} | {first.get('steps', 0):,}"
        rate = f", rate {first['rate']:g}" if first.get("rate") else ""
        lines.append(f"| {how}{rate} | {shown} | {work} |")
    lines += ["", NOTES, "", "| what was to be reached | found | wanted | reached |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {each['found']:.3g} | {each['wanted']} | {'yes' if each['reached'] else 'no'} |"
        for name, each in found.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="a folder with the two packages")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cache = options.cache.resolve()
    if options.row:
        how, seed, more = json.loads(options.row)
        print(json.dumps(row(how, seed, cache, **more)))
        return
    found = [*rows(cache, options.seeds, options.jobs)]
    of, reached = judge(found)
    told = circumstances(*PACKAGES)
    (RESULTS / "finetune.json").write_text(json.dumps(told | {"rows": found, "reached": reached}, indent=1) + "\n")
    (RESULTS / "finetune.md").write_text(table(of, reached, told))
    print((RESULTS / "finetune.md").read_text())


if __name__ == "__main__":
    main()
