"""What does a base save? Emoji of one style as base, 200 of another as the new domain: from scratch, fine-tuned whole, by LoRA.

    (cd CACHE && npm pack emoji-datasource-twitter@16.0.0 && npm pack emoji-datasource-google@16.0.0)   # real, 130 MB
    .venv/bin/python benchmarks/finetune.py --cache CACHE [--seeds 3] [--jobs 2]

Pictures of 16 x 16 on white, split by code point (benchmarks/emoji.py): the base learns A in Twitter's style, the judge A in
both styles; the 200 to adapt to are B in Google's, 50 held out are H; C judges, and nothing learnt it. The rules of genwright
were chosen on another B and H, with the seeds 0 to 2: all are new here. The base is a `diffusion/ddpm`, trained once and kept in
CACHE by the digest of what made it. Each way sees as many items.

Peers (benchmarks/peers/diffusers_tuning.py: diffusers' and peft's own classes, the recipe of their scripts) begin with the same
base, written by genwright as a folder of diffusers, and get the seconds of one CPU that ours took. Their rate is searched on the
very pictures that judge: from two rates on until the best, by its mean over the seeds, lies between two that are worse. That
favours them. All ways draw from the same noise, seed by seed, so that chance is in no difference. Distances are on features of
a classifier of categories: FD-local. An adapter is weighed by `combine`. The fine-tuned model is distilled to two steps and
exported, and drawn in turns with the pipeline of diffusers that it came from.

Writes benchmarks/results/finetune.json and finetune.md; `--again` judges the rows of finetune.json once more.
"""

import argparse
import hashlib
import json
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
from benchmarks.finetune_judged import OURS, PEERS, REAL, WEIGHED, judge, next_rates, table, value
from benchmarks.shared import RESULTS, ROOT, circumstances

SAMPLES, STEPS = 640, 20  # as many samples as there are pictures that judge
BASE_ITEMS, ITEMS, RANK, PRIOR = 96_000, 9_600, 4, 0.25
CONFIG = {"steps": STEPS}
FIRST_SEED = 3  # those below it were looked at when rules and rates were chosen
PACKAGES = ("torch", "diffusers", "peft", "onnxruntime-gpu")
METRICS = ("fd", "coverage", "memorised")
STUDENT_STEPS, STUDENT_ITEMS, BATCH, ROUNDS = 2, 12_800, 50, 5


def train(
    folder: Path, split: Pictures, *, items: int, seed: int, start: Any, config: dict[str, Any], known: Any, variant: str = "ddpm"
) -> Any:
    """The checkpoint that genwright's trainer keeps, and the seconds of one CPU, what the base draws first among them.

    `known`: the extractor, and held-out items where there is a base. What `folder` holds already is not trained again.
    """
    from components.core.records import DataSpec
    from components.evaluation.signal import FixedNoiseQuality
    from components.training.plan import TrainPlan
    from components.training.start import build
    from components.training.trainer import Trainer
    from components.training.tuning import Tuning, drawn_by_base, with_prior
    from components.training.untracked import Untracked

    extractor, held_out = known
    plan = TrainPlan(
        family="diffusion", variant=variant, config=config, spec=DataSpec.of(split.dataset), dataset=split.dataset,
        folder=str(folder), run_id="bench", threads=1, items_seen=items, start=start, seed=seed,
    )  # fmt: skip
    quality, family = FixedNoiseQuality.of(extractor, split, seed=seed), build(plan)
    began = time.process_time()
    drawn = drawn_by_base(family, plan, split)
    drawn_s = time.process_time() - began
    tuning = Tuning(drawn, held_out, condition=None, distance=quality.distance_to(drawn.items)) if drawn else None
    learnt = with_prior(split, drawn, plan)
    made = Trainer(family, plan, split=learnt, quality=quality, tracker=Untracked(), tuning=tuning, clock=time.process_time).run()
    return made, family, made.train_s + drawn_s


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
        base, *_ = train(folder, parts["base"], items=BASE_ITEMS, seed=0, start=Scratch(), config=CONFIG, known=(extractor, None))
        base.write(folder / "base.json")
    return Checkpoint.read(folder / "base.json"), folder


def row(how: str, seed: int, cache: Path, run: Path, *, seconds: float = 0.0, rate: float = 0.0) -> dict[str, Any]:
    """One way under one seed: what it took, and what it is worth in the new domain and in the base's, by samples of the
    same noise for all ways. `run`: where trainings of ours lie, for those that begin with them."""
    import torch

    from components.evaluation.samples import sample_seeds

    torch.set_num_threads(1)
    parts = splits(cache)
    extractor = extractor_of(cache, parts["judge"])
    known = base_of(cache, parts, extractor)
    asked = (seed, run, parts, extractor, known)
    with tempfile.TemporaryDirectory() as scratch:
        if how in REAL:
            images, told = parts[REAL[how]].images, {}
        elif how in PEERS:
            images, told = _peer(how, seed, Path(scratch), parts, known, seconds=seconds, rate=rate)
        else:
            if how == "base":
                sampler, told = _sampler(*known), {}
            elif how in WEIGHED:
                sampler, told = _weighed(how, *asked), {}
            elif how == "student":
                sampler, told = _student(Path(scratch), *asked)
            else:
                sampler, told, _ = _ours(how, *asked)
            images = sampler(sample_seeds(seed, SAMPLES))  # not those that a checkpoint was chosen by
    return told | {where: _judged(images, parts, where, extractor) for where in ("of new", "of base")}


def _sampler(checkpoint: Any, folder: Path) -> Any:
    from components.training.checkpoint import restore
    from components.training.folder import best_weights

    return _drawing(restore(checkpoint, best_weights(folder, checkpoint.weights)))


def _drawing(family: Any) -> Any:
    from components.training.sampling import TorchSampler

    return TorchSampler(family, subject="torch:bench", batch=BATCH)


def _folder(run: Path, how: str, seed: int) -> Path:
    return run / f"{how.replace(' ', '-')}-{seed}"


def _ours(
    how: str, seed: int, run: Path, parts: dict[str, Pictures], extractor: Any, base: tuple[Any, Path]
) -> tuple[Any, dict[str, Any], Any]:
    from components.core.brief import LoraBrief
    from components.training.folder import best_weights
    from components.training.start import find_start
    from components.training.start.finetune import recipe

    known, folder = base
    kind, _, prior = how.partition(" ")
    start, config, to = find_start(kind), dict(CONFIG), _folder(run, how, seed)
    if kind != "scratch":
        config = recipe(known, variant=known.variant, start=start)
    begun = start.of(
        base=known,
        weights=best_weights(folder, known.weights),
        lora=LoraBrief(rank=RANK),
        prior_preservation=PRIOR if prior else 0.0,
    )
    made, family, train_s = train(
        to, parts["new"], items=ITEMS, seed=seed, start=begun, config=config, known=(extractor, parts["held out"])
    )
    told = {
        "train_s": train_s, "steps": made.steps_total, "kept": made.step, "rate": config.get("lr_peak"),
        "trainable": sum(each.numel() for each in family.parameters() if each.requires_grad),
        "tuning": [
            [each.step, each.distance, each.beside.get("held_out_loss"), each.beside.get("base_loss")] for each in made.tuning
        ],
    }  # fmt: skip
    return _sampler(made, to), told, made


def _weighed(how: str, seed: int, run: Path, parts: dict[str, Pictures], extractor: Any, base: tuple[Any, Path]) -> Any:
    """The base with a share of the adapter of LoRA."""
    from components.core.records import DataSpec
    from components.training.folder import best_weights
    from components.training.plan import TrainPlan
    from components.training.start.combine import Addend, Combine

    known, folder = base
    _, _, adapter = _ours("lora", seed, run, parts, extractor, base)
    files = (best_weights(_folder(run, "lora", seed), adapter.weights),)
    start = Combine(
        base=known,
        weights=best_weights(folder, known.weights),
        adapters=(Addend(checkpoint=adapter, weight=WEIGHED[how], files=files),),
    )
    plan = TrainPlan(
        family=known.family, variant=known.variant, config=known.config, spec=DataSpec.of(parts["new"].dataset),
        dataset=parts["new"].dataset, folder="", run_id="bench", threads=1, items_seen=ITEMS, start=start, seed=seed,
    )  # fmt: skip
    return _drawing(start.build(plan))


def _student(
    to: Path, seed: int, run: Path, parts: dict[str, Pictures], extractor: Any, base: tuple[Any, Path]
) -> tuple[Any, Any]:
    """The graph of a student of what is fine-tuned, its distance over its teacher's, how far it is from torch, and how fast."""
    import torch
    from diffusers import DDIMPipeline

    from components.core.errors import ExportError
    from components.evaluation.pair import Contender, score_pair
    from components.export.graph import export_graph
    from components.export.parity import check_parity
    from components.runtime.session import GraphSampler
    from components.training.checkpoint import restore
    from components.training.distillation import recipe, student_card
    from components.training.folder import best_weights
    from components.training.start.student import Student

    drawn, taught, teacher = _ours("finetune", seed, run, parts, extractor, base)
    weights = best_weights(_folder(run, "finetune", seed), teacher.weights)
    start = Student(teacher=teacher, weights=weights)
    folder = _folder(run, "student", seed)
    made, _, train_s = train(
        folder, parts["new"], items=STUDENT_ITEMS, seed=seed, start=start, config=recipe(teacher, steps=STUDENT_STEPS),
        known=(extractor, None), variant=student_card(teacher).variant,
    )  # fmt: skip
    family = restore(made, best_weights(folder, made.weights))
    graph = export_graph(family, to / "model.onnx")
    try:
        parity = check_parity(family, to / "model.onnx", graph).worst
    except ExportError:  # a figure that is missed, not the end of the bench
        parity = float("inf")
    sampler = GraphSampler(
        to / "model.onnx", spec=family.spec, noise=family.noise_inputs(), condition=graph.condition, output=graph.output,
        batch=BATCH, threads=1,
    )  # fmt: skip
    beside = score_pair(
        Contender(sampler), Contender(drawn), dataset=parts["new"].dataset, train=parts["new"], reference=parts["of new"],
        extractor=extractor, samples=SAMPLES, looks=1, reference_split="C",
    )  # fmt: skip
    restore(teacher, weights).pipeline().save_pretrained(to / "pipeline", safe_serialization=True)
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
    told = {"train_s": train_s, "steps": made.steps_total, "rate": made.config["lr_peak"], "teacher": taught}
    ratio = beside.ratio.model_dump(mode="json", include={"value", "low", "high"})
    return sampler, told | {"distance over teacher": ratio, "images_per_s": rates, "parity": parity}


def _peer(
    how: str, seed: int, to: Path, parts: dict[str, Pictures], base: tuple[Any, Path], *, seconds: float, rate: float
) -> tuple[Any, Any]:
    from components.core.noise import draw
    from components.evaluation.samples import sample_seeds
    from components.training.checkpoint import restore
    from components.training.folder import best_weights

    known, folder = base
    family = restore(known, best_weights(folder, known.weights))
    family.pipeline().save_pretrained(to / "base", safe_serialization=True)
    [noise] = draw(family.noise_inputs(), sample_seeds(seed, SAMPLES)).values()
    np.savez(to / "data.npz", train=parts["new"].images, noise=noise)
    script = ROOT / "benchmarks" / "peers" / "diffusers_tuning.py"
    places = {name: str(to / file) for name, file in {"base": "base", "data": "data.npz", "out": "out.npz"}.items()}
    asked = places | {
        "seconds": seconds,
        "seed": seed,
        "rate": rate,
        "rank": RANK if how == "peer lora" else 0,
        "steps": STEPS,
    }
    subprocess.run([sys.executable, str(script), json.dumps(asked)], check=True, stdout=subprocess.DEVNULL)
    with np.load(to / "out.npz") as made:
        images = made["images"]
        told = {name: made[name].item() for name in ("train_s", "steps", "trainable")}
    return images, told | {"rate": rate}


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


def rows(cache: Path, run: Path, seeds: int, jobs: int) -> Iterator[dict[str, Any]]:
    """Each row in a process of its own; after ours what begins with them, and the peers, who get their seconds."""

    def one(how: str, seed: int, **more: Any) -> dict[str, Any]:
        asked = ["--cache", str(cache), "--run", str(run), "--row", json.dumps([how, seed, more])]
        command = [sys.executable, "-W", "ignore", __file__, *asked]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{how}, seed {seed}: {done.stderr[-2000:]}")
        made = {"how": how, "seed": seed} | json.loads(done.stdout.splitlines()[-1])
        print(f"{how} seed {seed} {more or ''}: FD-local {value(made):.3f}, of base {value(made, 'of base'):.3f}", flush=True)
        return made

    numbers = range(FIRST_SEED, FIRST_SEED + seeds)
    yield from [one(how, 0) for how in REAL]
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda each: one(*each), [("base", seed) for seed in numbers])
        ours = [*pool.map(lambda each: one(*each), [(how, seed) for seed in numbers for how in OURS])]
        yield from ours
        took = {(each["how"], each["seed"]): each["train_s"] for each in ours}
        yield from pool.map(lambda each: one(*each), [(how, seed) for seed in numbers for how in WEIGHED])
        for how in PEERS:
            known: list[dict[str, Any]] = []
            while rates := next_rates(known):
                asked = [(seed, rate) for seed in numbers for rate in rates]
                known += pool.map(
                    lambda each, how=how: one(how, each[0], seconds=took[how.removeprefix("peer "), each[0]], rate=each[1]), asked
                )
            yield from known
    yield one("student", FIRST_SEED)  # alone, as its speed is measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="a folder with the two packages")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="judge the rows of finetune.json once more; nothing is trained")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    results = RESULTS / "finetune.json"
    if options.again:
        _write(results, json.loads(results.read_text()))
        return
    if options.cache is None:
        parser.error("--cache FOLDER is needed: a folder with the two packages")
    cache = options.cache.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        run = options.run or Path(scratch)
        if options.row:
            how, seed, more = json.loads(options.row)
            print(json.dumps(row(how, seed, cache, run, **more)))
            return
        began = time.monotonic()
        found = [*rows(cache, run, options.seeds, options.jobs)]
        minutes = (time.monotonic() - began) / 60
    asked = {"items": ITEMS, "samples": SAMPLES, "prior": PRIOR, "jobs": options.jobs, "minutes": minutes}
    _write(results, circumstances(*PACKAGES) | {"asked": asked, "rows": found})


def _write(results: Path, told: dict[str, Any]) -> None:
    results.write_text(json.dumps(told, indent=1) + "\n")  # what was measured is kept, whatever comes of judging it
    reached = judge(told["rows"])
    results.write_text(json.dumps(told | {"reached": reached}, indent=1) + "\n")
    results.with_suffix(".md").write_text(table(told | {"reached": reached}))
    print(results.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
