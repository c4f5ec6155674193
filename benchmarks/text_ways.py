"""What benchmarks/text.py trains and judges: each way from scratch by text, and Stable Diffusion's road to a graph of few steps.

Each row is made in a process of its own, on one thread; what it draws for the first captions is kept for the picture.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.emoji import STYLES
from benchmarks.texts import Captioned

WAYS = ("edm", "latent", "cascade", "unclip")  # of the family diffusion
NEAREST = "nearest learnt caption"
REAL = tuple(f"real, {style}" for style in STYLES)
UNREAD = {"signal_images": 2, "signal_steps": 1}  # of a reading, which chooses nothing here: the last average is judged
METRICS = (
    "text_r1",
    "text_r5",
    "text_r5_images",
    "text_r5_real",
    "text_r5_shuffled",
    "text_excess",
    "fd",
    "coverage",
    "memorised",
)
SHOWN = 12  # captions in the picture
BATCH = 50


@dataclass(frozen=True, eq=False)
class Known:
    """What all rows share: made once in CACHE."""

    parts: dict[str, Captioned]
    encoder: Path
    condition: Any
    judge: Any
    extractor: Any
    samples: int  # of each way
    took: dict[str, float]  # seconds of the CPU, of what lies in CACHE by its digest

    @classmethod
    def of(cls, cache: Path, *, aside: bool, samples: int = 0) -> "Known":
        from benchmarks.texts import embedded, minilm, parts
        from components.evaluation.extractor import train_extractor
        from components.evaluation.judge import train_judge

        found = parts(cache, aside=aside)
        every, took = found["of the judge"], {}

        def once(name: str, folder: Path, make: Callable[[], Any]) -> Any:
            """What is made, and the seconds of the CPU that it took when it was not there yet."""
            told, began, there = folder.parent / f"{folder.name}.took.json", time.process_time(), folder.exists()
            made = make()
            if not there:
                told.write_text(json.dumps(time.process_time() - began))
            if told.exists():
                took[name] = json.loads(told.read_text())
            return made

        folder, record = minilm(cache, once)
        embedded(folder, cache, found, once)
        md5, to = every.md5, {name: cache / f"{name}-{every.md5[:12]}" for name in ("texts", "looks")}
        judge = once(
            "the judge of texts", to["texts"], lambda: train_judge(every, record.condition(), dest=to["texts"], dataset_md5=md5)
        )
        classes = int(every.labels.max()) + 1
        extractor = once(
            "the judge of pictures",
            to["looks"],
            lambda: train_extractor(every, classes=classes, dest=to["looks"], dataset_md5=md5),
        )
        return cls(found, folder, record.condition(), judge, extractor, samples or len(found["judged"]), took)


def train(
    folder: Path, known: Known, *, variant: str, seconds: float, seed: int, config: dict[str, Any], start: Any = None,
    ready: Any = None,
) -> Any:  # fmt: skip
    """The last average of genwright's trainer after so many seconds of one CPU. `ready`: makes the untrained family fit."""
    from components.core.records import Ceiling, DataSpec, Reading
    from components.training.plan import TrainPlan
    from components.training.start import build
    from components.training.start.scratch import Scratch
    from components.training.trainer import Trainer
    from components.training.untracked import Untracked

    learnt = known.parts["learnt"]
    plan = TrainPlan(
        family="diffusion", variant=variant, config=config, spec=DataSpec.of(learnt.dataset, condition=known.condition),
        dataset=learnt.dataset, folder=str(folder), run_id="bench", threads=1, ceiling=Ceiling(name="seconds", seconds=seconds),
        start=start or Scratch(), seed=seed, **UNREAD,
    )  # fmt: skip
    family = build(plan)
    if ready is not None:
        ready(family)
    trainer = Trainer(
        family, plan, split=learnt, quality=lambda _: Reading(distance=1.0), tracker=Untracked(), clock=time.process_time
    )
    return trainer.run()


def restored(made: Any, folder: Path, **config: Any) -> Any:
    """The family of a checkpoint; `config`: what of its recipe is another, as its guidance."""
    from components.training.checkpoint import restore
    from components.training.folder import best_weights

    return restore(made.model_copy(update={"config": made.config | config}), best_weights(folder, made.weights))


def scored(sampler: Any, known: Known) -> dict[str, Any]:
    """What the scorecard says of samples that are asked for by the captions that judge."""
    from components.evaluation.score import score

    judged = known.parts["judged"]
    card = score(
        sampler, dataset=judged.dataset, train=known.parts["learnt"], reference=judged, extractor=known.extractor,
        samples=known.samples, reference_split="judged", condition=known.condition, judge=known.judge,
    )  # fmt: skip
    return cells(card, METRICS)


def cells(card: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: card.metrics[name].model_dump(mode="json", include={"value", "low", "high"}) for name in names}


def way(run: Path, known: Known, variant: str, *, seconds: float, seed: int) -> dict[str, Any]:
    """One way from scratch."""
    from components.training.sampling import TorchSampler

    made = train(run / variant, known, variant=variant, seconds=seconds, seed=seed, config={})
    family = restored(made, run / variant)
    sampler, began = TorchSampler(family, subject="torch:bench", batch=BATCH), time.process_time()
    told = scored(sampler, known)
    keep_shown(run, variant, sampler, known)
    weights = sum(each.numel() for each in family.parameters())
    return told | {
        "train_s": made.train_s, "steps": made.steps_total, "kept": made.step, "weights": weights,
        "guidance": made.config["guidance"], "sampling_s": time.process_time() - began,
    }  # fmt: skip


def nearest(run: Path, known: Known) -> dict[str, Any]:
    """What no generator made: the learnt picture whose first caption is nearest to what is asked for, by means of rows."""
    from components.evaluation.judge import mean_of_tokens

    learnt = known.parts["learnt"]

    def unit(rows_NLD: Any) -> Any:
        mean_ND = mean_of_tokens(rows_NLD)
        return mean_ND / np.linalg.norm(mean_ND, axis=1, keepdims=True)

    of_learnt_ND = unit(learnt.embeddings.of([said[0] for said in learnt.captions]))

    def sampler(seeds: Any, asked: Any = None) -> Any:
        """By odd seeds in the second style."""
        other = len(learnt) // 2 * (np.asarray(seeds) % 2)
        return learnt.images[(unit(asked) @ of_learnt_ND[: len(learnt) // 2].T).argmax(1) + other]

    sampler.subject = "torch:nearest"  # type: ignore[attr-defined]
    keep_shown(run, NEAREST, sampler, known)
    return scored(sampler, known)


def keep_shown(run: Path, what: str, sampler: Any, known: Known) -> None:
    """What is drawn for the first captions, by the first seeds."""
    rows = known.parts["judged"].take_condition(np.arange(SHOWN))
    run.mkdir(exist_ok=True)
    np.save(run / f"shown {what}.npy", sampler([*range(SHOWN)], rows))


def shown(run: Path, known: Known) -> dict[str, Any]:
    """The first captions, in the order of their code points' digests, the real pictures and what each way drew."""
    judged, real = known.parts["judged"], known.parts["of both styles"]
    found = {name: real.images[at : at + SHOWN] for name, at in zip(REAL, (0, len(judged)), strict=True)}
    found |= {path.stem.removeprefix("shown "): np.load(path) for path in sorted(run.glob("shown *.npy"))}
    return {"captions": [said[0] for said in judged.captions[:SHOWN]], "pictures": found}
