"""A candidate beside the champion: same reference, seeds, classes and resamples, so that the chance they share cancels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.core.protocols import ImageSampler, ImageSplit
from components.core.records import Dataset, Metric, Scorecard
from components.evaluation.bootstrap import Floats
from components.evaluation.distances import ratio
from components.evaluation.samples import Drawn, Progress, draw_samples
from components.evaluation.score import asked_classes, make_card, measure
from components.evaluation.yardstick import Yardstick, make_yardstick

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor

LOOKS = 3  # times the samples are looked at, doubled from one to the next


@dataclass(frozen=True)
class Contender:
    """An artifact to be compared. `conditional`: it takes classes. `timed`: the same with batches of one, for its latency."""

    sampler: ImageSampler
    conditional: bool = False
    timed: ImageSampler | None = None


@dataclass(frozen=True)
class Pair:
    """Two scorecards of one protocol. The candidate's holds fd_ratio too."""

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
    progress: Progress | None = None,
) -> Pair:
    """Measure both and the ratio of their distances, with its own interval rather than two overlapping ones.

    While the ratio's interval straddles `fd_ratio_max` the samples of both are doubled, for at most `looks` looks; None: one
    look. Each side of a 95 % interval errs once in 40, three looks less than once in 13. docs/decisions/0003-gates.md.
    Raises DataError when there are too few images or samples.
    """
    drawn: tuple[Drawn | None, Drawn | None] = (None, None)
    classes = [asked_classes(dataset, side.conditional) for side in (candidate, champion)]
    for look in range(looks):
        count = samples << look
        ours, theirs = (
            draw_samples(side.sampler, seed=seed, samples=count, classes=asked, have=have, progress=progress)
            for side, asked, have in zip((candidate, champion), classes, drawn, strict=True)
        )
        drawn = (ours, theirs)
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
        (metrics, fd), (metrics_champion, fd_champion) = measure(ours, yardstick), measure(theirs, yardstick)
        fd_ratio = champion_ratio(fd, fd_champion, yardstick)
        if fd_ratio_max is None or not fd_ratio.low <= fd_ratio_max < fd_ratio.high:
            break
    return Pair(
        candidate=make_card(
            ours, yardstick, {**metrics, "fd_ratio": fd_ratio}, classes=classes[0], timed=candidate.timed, device=device
        ),
        champion=make_card(theirs, yardstick, metrics_champion, classes=classes[1], timed=champion.timed, device=device),
        fd_ratio=fd_ratio,
    )


def champion_ratio(fd: Floats, fd_champion: Floats, yardstick: Yardstick) -> Metric:
    """The candidate's FD-local over the champion's, or over that of real images where the champion is better than they are:
    what real images differ by among themselves is no reason to refuse anything."""
    floor = yardstick.metrics["fd_real"].value
    return ratio(fd, np.maximum(fd_champion, floor), yardstick.boot, n=yardstick.protocol.samples)
