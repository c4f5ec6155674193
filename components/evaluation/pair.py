"""A candidate beside the champion: same reference, seeds, classes and resamples, so that the chance they share cancels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.core.protocols import Images, ImageSampler, ImageSplit
from components.core.records import Dataset, Metric, Scorecard
from components.evaluation.bootstrap import Bootstrap
from components.evaluation.distances import ratio
from components.evaluation.samples import Drawn, Stock
from components.evaluation.score import asked_classes, make_card, measure
from components.evaluation.yardstick import RealSide, choose, make_yardstick
from components.runtime.progress import Report

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor

LOOKS = 3  # times the samples are looked at, doubled from one to the next


@dataclass(frozen=True)
class Contender:
    """An artifact to be compared. `conditional`: it takes classes. `timed`: the same with batches of one, for its latency.

    `stock` is given where several are measured beside it, so that its samples are drawn once.
    """

    sampler: ImageSampler
    conditional: bool = False
    timed: ImageSampler | None = None
    stock: Stock | None = None


@dataclass(frozen=True)
class Pair:
    """Two scorecards of one protocol. The candidate's holds fd_ratio, recall_lost and coverage_lost too."""

    candidate: Scorecard
    champion: Scorecard
    fd_ratio: Metric


def score_pair(
    candidate: Contender,
    champion: Contender,
    *,
    dataset: Dataset,
    train: ImageSplit,
    reference: ImageSplit,
    extractor: "Extractor",
    fd_ratio_max: float | None = None,
    seed: int = 0,
    samples: int = 2000,
    looks: int = LOOKS,
    reference_split: str = "validation",
    device: str = "cpu",
    resamples: int = 200,
    level: float = 0.95,
    progress: Report | None = None,
) -> Pair:
    """Measure both and the ratio of their distances, with its own interval rather than two overlapping ones.

    While the ratio's interval straddles `fd_ratio_max` the samples of both are doubled, for at most `looks` looks; None: one
    look. Each side of a 95 % interval errs once in 40, three looks less than once in 13. docs/decisions/0003-gates.md.
    Raises DataError when there are too few images or samples.
    """
    sides = (candidate, champion)
    classes = [asked_classes(dataset, side.conditional) for side in sides]
    real = RealSide.of(reference, extractor, Bootstrap(seed, resamples, level))
    stocks = [side.stock or Stock() for side in sides]
    for look in range(looks):
        count = samples << look
        ours, theirs = (
            stock.draw(side.sampler, seed=seed, samples=count, classes=asked, progress=progress)
            for side, asked, stock in zip(sides, classes, stocks, strict=True)
        )
        fd_ratio = _ratio(ours, theirs, real, choose(train, count, seed=seed))
        if fd_ratio_max is None or not fd_ratio.low <= fd_ratio_max < fd_ratio.high:
            break
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
    )
    (metrics, reached), (metrics_champion, reached_champion) = measure(ours, yardstick), measure(theirs, yardstick)
    metrics |= {"fd_ratio": fd_ratio, **reached.lost(reached_champion, yardstick.real.boot)}
    return Pair(
        candidate=make_card(ours, yardstick, metrics, classes=classes[0], timed=candidate.timed, device=device),
        champion=make_card(theirs, yardstick, metrics_champion, classes=classes[1], timed=champion.timed, device=device),
        fd_ratio=fd_ratio,
    )


def _ratio(ours: Drawn, theirs: Drawn, real: RealSide, train_images: Images) -> Metric:
    """The candidate's FD-local over the champion's, or over that of real images where the champion is better than they are:
    what real images differ by among themselves is no reason to refuse anything."""
    fd_real = real.distances(train_images, stream="train")[0]
    fd, fd_champion = real.distances(ours.images), real.distances(theirs.images)
    return ratio(fd, fd_champion + max(0.0, fd_real - fd_champion[0]), real.boot, n=len(ours.images))
