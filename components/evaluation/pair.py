"""A candidate beside the champion: same reference, seeds, classes and resamples, so that the chance they share cancels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from components.core.protocols import ItemSampler, ItemSplit
from components.core.records import Condition, Dataset, Metric, Scorecard
from components.evaluation.bootstrap import Bootstrap
from components.evaluation.evaluated import Evaluated
from components.evaluation.metrics import distance, heldout
from components.evaluation.power import FIRST, LOOKS, SECOND
from components.evaluation.samples import Drawn, Stock, asked_like
from components.evaluation.score import make_scorecard
from components.evaluation.unseen import UnseenSide
from components.evaluation.yardstick import RealSide, Yardstick, make_yardstick
from components.runtime.progress import Report

if TYPE_CHECKING:
    from components.core.family import Family
    from components.evaluation.extractor import Extractor
    from components.evaluation.judge import Judge
    from components.evaluation.unseen import Unseen


@dataclass(frozen=True)
class Contender:
    """An artifact to be compared. `condition`: what it is asked by, None: nothing. `timed`: the same with batches of one, for its
    latency; `model`: what it was made from, for what only a model can tell.

    `reference`: what was not trained on, opened with what its own encoder makes of the captions, where that is another.
    `stock` is given where several are measured beside it, so that its samples are drawn once.
    """

    sampler: ItemSampler
    condition: Condition | None = None
    timed: ItemSampler | None = None
    reference: ItemSplit | None = None
    stock: Stock | None = None
    model: "Family | None" = None


@dataclass(frozen=True)
class Pair:
    """Two scorecards of one protocol. The candidate's holds distance_ratio, recall_lost and coverage_lost too."""

    candidate: Scorecard
    champion: Scorecard
    ratio: Metric


def score_pair(
    candidate: Contender,
    champion: Contender,
    *,
    dataset: Dataset,
    train: ItemSplit,
    reference: ItemSplit,
    extractor: "Extractor",
    margins: Mapping[str, float | None] | None = None,
    seed: int = 0,
    samples: int = 2000,
    looks: int = LOOKS,
    reference_split: str = "validation",
    device: str = "cpu",
    resamples: int = 200,
    level: float = 0.95,
    judge: "Judge | None" = None,
    unseen: "Unseen | None" = None,
    progress: Report | None = None,
) -> Pair:
    """Measure both and the ratio of their distances, with its own interval rather than two overlapping ones.

    While the ratio's interval straddles its gate's of the `margins`, or that on the `unseen` features of a proof does, the
    samples of both are doubled, for at most `looks` looks; without margins: one look. A ratio that is wholly beyond ends it, as
    the other cannot help. What the gates may get wrong is spent over the looks (power.py). docs/decisions/0003-gates.md.
    Raises DataError when there are too few items or samples, or when the data does not hold what is asked by.
    """
    margins = margins or {}
    real = RealSide.of(reference, extractor, Bootstrap(seed, resamples, level))
    drawn = [partial(_drawn, side, side.stock or Stock(), reference, seed, progress) for side in (candidate, champion)]
    side_of_unseen = None if unseen is None else UnseenSide.of(unseen, train, reference, seed=seed)
    gates = {FIRST: distance.over_champion} | ({} if unseen is None else {SECOND: heldout.over_champion})
    looks = looks if any(margins.get(gate) is not None for gate in gates) else 1
    for look in range(looks):
        count = samples << look
        yardstick = make_yardstick(
            dataset=dataset,
            train=train,
            reference=reference,
            extractor=extractor,
            seed=seed,
            samples=count,
            reference_split=reference_split,
            resamples=resamples,
            level=level,
            real=real,
            judge=judge,
            unseen=side_of_unseen,
            look=look,
            looks=looks,
            margins=margins,
        )
        ours, theirs = (draw(count) for draw in drawn)
        beside = _evaluated(champion, theirs, yardstick, device)
        seen = replace(_evaluated(candidate, ours, yardstick, device), champion=beside)
        narrows = {FIRST: True, SECOND: side_of_unseen is not None and side_of_unseen.grows(count)}
        if not look_again([(over(seen, beside), margins.get(gate), narrows[gate]) for gate, over in gates.items()]):
            break
    scorecard = make_scorecard(seen)
    return Pair(candidate=scorecard, champion=make_scorecard(beside), ratio=scorecard.metrics["distance_ratio"])


def look_again(ratios: Sequence[tuple[Metric, float | None, bool]]) -> bool:
    """Of each ratio with its margin, None where nobody asks, and whether more samples would narrow it: while one straddles, and
    none is wholly beyond."""
    asked = [(ratio, margin, grows) for ratio, margin, grows in ratios if margin is not None]
    if any(ratio.low > margin for ratio, margin, _ in asked):
        return False
    return any(grows and ratio.low <= margin < ratio.high for ratio, margin, grows in asked)


def _drawn(side: Contender, stock: Stock, reference: ItemSplit, seed: int, progress: Report | None, count: int) -> Drawn:
    asked_N = asked_like(side.reference or reference, side.condition, count, seed=seed)
    return stock.draw(side.sampler, seed=seed, samples=count, asked_N=asked_N, progress=progress)


def _evaluated(side: Contender, drawn: Drawn, yardstick: Yardstick, device: str) -> Evaluated:
    return Evaluated(
        drawn,
        yardstick,
        sampler=side.sampler,
        condition=side.condition,
        timed=side.timed,
        model=side.model,
        device=device,
    )
