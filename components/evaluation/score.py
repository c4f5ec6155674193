"""The scorecard: every metric of one artifact under one protocol (two beside each other: pair.py)."""

from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from components.core.errors import DataError
from components.core.protocols import ItemSampler, ItemSplit
from components.core.records import Dataset, Metric, Scorecard
from components.evaluation.by_class import by_class
from components.evaluation.definitions import defined, words, words_of
from components.evaluation.evaluated import Evaluated
from components.evaluation.samples import Classes, draw_samples
from components.evaluation.yardstick import Yardstick, make_yardstick
from components.runtime.progress import Report

if TYPE_CHECKING:
    from components.core.family import Family
    from components.evaluation.extractor import Extractor


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
    conditional: bool = False,
    timed: ItemSampler | None = None,
    model: "Family | None" = None,
    device: str = "cpu",
    resamples: int = 200,
    level: float = 0.95,
    progress: Report | None = None,
) -> Scorecard:
    """Measure one artifact.

    `reference` holds images that were not trained on; `reference_split` is its name in the protocol. A `conditional` sampler
    is asked for each class as often as the reference has it. `timed` is the artifact with batches of one, for latency_p95_ms;
    `model` is the model that it was made from, for what only a model can tell of items (bits_per_dim).
    Raises DataError when there are too few images or samples.
    """
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
    )
    counts_K = asked_classes(dataset, reference, conditional)
    return score_against(yardstick, sampler, counts_K=counts_K, timed=timed, model=model, device=device, progress=progress)


def score_against(
    yardstick: Yardstick,
    sampler: ItemSampler,
    *,
    counts_K: Classes | None = None,
    timed: ItemSampler | None = None,
    model: "Family | None" = None,
    device: str = "cpu",
    progress: Report | None = None,
) -> Scorecard:
    """Measure one artifact with a yardstick at hand; several artifacts (a bake-off) share one.

    `counts_K` are those of `asked_classes`.
    """
    protocol = yardstick.protocol
    drawn = draw_samples(sampler, seed=protocol.seed, samples=protocol.samples, counts_K=counts_K, progress=progress)
    return make_scorecard(Evaluated(drawn, yardstick, timed=timed, model=model, device=device))


def make_scorecard(seen: Evaluated) -> Scorecard:
    """All metrics of an artifact that apply to it."""
    return Scorecard(
        subject=seen.drawn.subject,
        protocol=seen.yardstick.protocol,
        metrics=measure(seen),
        device=seen.device,
        by_class=by_class(seen),
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


def asked_classes(dataset: Dataset, reference: ItemSplit, conditional: bool) -> Classes | None:
    """How many items of each class the reference has, which is how often a sampler is asked for it; None when it takes none."""
    if not conditional:
        return None
    if not dataset.classes or reference.labels is None:
        raise DataError(f"{dataset.name}: has no classes, but the model is conditional", do="prepare the data with labels")
    counts_K: Classes = np.bincount(reference.labels, minlength=len(dataset.classes))
    return counts_K


def deterministic(card: Scorecard) -> dict[str, Metric]:
    """The metrics that the same artifact and protocol give again to the last bit: all but the timed ones."""
    return {name: metric for name, metric in card.metrics.items() if not words_of(name).timed}
