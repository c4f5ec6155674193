"""The scorecard: every metric of one artifact under one protocol (two beside each other: pair.py)."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from components.core.protocols import ItemSampler, ItemSplit
from components.core.records import Condition, Dataset, Metric, Scorecard
from components.evaluation.by_caption import by_caption
from components.evaluation.by_class import by_class
from components.evaluation.definitions import defined, words
from components.evaluation.evaluated import Evaluated
from components.evaluation.samples import asked_like, draw_samples
from components.evaluation.unseen import UnseenSide
from components.evaluation.yardstick import Yardstick, make_yardstick
from components.runtime.progress import Report

if TYPE_CHECKING:
    from components.core.family import Family
    from components.evaluation.extractor import Extractor
    from components.evaluation.judge import Judge
    from components.evaluation.unseen import Unseen


def score(
    sampler: ItemSampler,
    *,
    dataset: Dataset,
    train: ItemSplit,
    reference: ItemSplit,
    extractor: "Extractor",
    seed: int = 0,
    samples: int = 2000,
    reference_split: str = "validation",
    condition: Condition | None = None,
    timed: ItemSampler | None = None,
    model: "Family | None" = None,
    device: str = "cpu",
    resamples: int = 200,
    level: float = 0.95,
    looks: int = 1,
    margins: Mapping[str, float | None] | None = None,
    judge: "Judge | None" = None,
    unseen: "Unseen | None" = None,
    progress: Report | None = None,
) -> Scorecard:
    """Measure one artifact.

    `reference` holds items that were not trained on; `reference_split` is its name in the protocol. A sampler with a `condition`
    is asked as those items are: for each class as often as they have it. `timed` is the artifact with batches of one, for
    latency_p95_ms; `model` is the model that it was made from, for what only a model can tell of items (bits_per_dim);
    `judge` tells of one that is asked by a text whether samples show it: both splits then have captions and embeddings;
    `unseen`: what only a proof may look by; `looks`: how many a successor beside it will get, and `margins` by which its
    gates judge it, for what these can tell.
    Raises DataError when there are too few items or samples, or when the data does not hold what is asked by.
    """
    side = None if unseen is None else UnseenSide.of(unseen, train, reference, seed=seed)
    yardstick = make_yardstick(
        dataset=dataset,
        train=train,
        reference=reference,
        extractor=extractor,
        seed=seed,
        samples=samples,
        reference_split=reference_split,
        resamples=resamples,
        level=level,
        judge=judge,
        unseen=side,
        looks=looks,
        margins=margins,
    )
    return score_against(yardstick, sampler, condition=condition, timed=timed, model=model, device=device, progress=progress)


def score_against(
    yardstick: Yardstick,
    sampler: ItemSampler,
    *,
    condition: Condition | None = None,
    timed: ItemSampler | None = None,
    model: "Family | None" = None,
    device: str = "cpu",
    progress: Report | None = None,
) -> Scorecard:
    """Measure one artifact with a yardstick at hand; several artifacts (a bake-off) share one."""
    protocol = yardstick.protocol
    asked_N = asked_like(yardstick.reference, condition, protocol.samples, seed=protocol.seed)
    drawn = draw_samples(sampler, seed=protocol.seed, samples=protocol.samples, asked_N=asked_N, progress=progress)
    seen = Evaluated(drawn, yardstick, sampler=sampler, condition=condition, timed=timed, model=model, device=device)
    return make_scorecard(seen)


def make_scorecard(seen: Evaluated) -> Scorecard:
    """All metrics of an artifact that apply to it."""
    return Scorecard(
        subject=seen.drawn.subject,
        protocol=seen.yardstick.protocol,
        metrics=measure(seen),
        device=seen.device,
        by_class=by_class(seen),
        by_caption=by_caption(seen),
    )


def measure(seen: Evaluated) -> dict[str, Metric]:
    """Every metric that applies, in the order in which they are shown.

    Raises TypeError when a metric's file measures what it has no words for.
    """
    found: dict[str, Metric] = {}
    for file in defined("metrics"):
        values: dict[str, Metric] = import_module(file.module).compute(seen)
        if unknown := values.keys() - {word.id for word in file.words}:
            raise TypeError(f"{file.module}: measures {sorted(unknown)[0]!r}, for which its WORDS have none")
        found |= values
    return {name: found[name].model_copy(update={"better": word.better}) for name, word in words().items() if name in found}
