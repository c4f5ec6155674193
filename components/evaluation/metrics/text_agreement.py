"""Text agreement: do samples show what the captions say that they were asked for?

The judge (evaluation/judge.py) was trained apart from the generator, on training items alone. R@k: the share of samples whose
caption, one of a held-out item, is among the k that the judge finds nearest (evaluation/retrieval.py). Beside it stand its own
score on the real held-out items, and that of samples held against another's caption, which is chance. Only of models that are
asked by a text.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np

from components.core.metrics import Gate, Words
from components.core.protocols import CaptionedSplit
from components.core.records import Metric
from components.evaluation.bootstrap import Bootstrap, Floats
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.judge import Judge
from components.evaluation.retrieval import Found, Gallery, captions_find, gallery_of, items_find, resampled
from components.evaluation.yardstick import Yardstick

WORDS = (
    Words(
        "text_r1",
        "Text R@1",
        "samples that find their caption first among those of the proof",
        better="higher",
        share=True,
        order=74,
    ),
    Words("text_r5", "Text R@5", "samples that find it among the first five", better="higher", share=True, order=75),
    Words(
        "text_r5_images",
        "Text R@5, by caption",
        "captions that find their sample among the first five",
        better="higher",
        share=True,
        order=76,
    ),
    Words("text_r5_real", "Text R@5, real items", "what the judge makes of the held-out items themselves", share=True, order=77),
    Words("text_r5_shuffled", "Text R@5, shuffled", "samples held against another's caption: chance", share=True, order=78),
    Words("text_excess", "Text R@5 above shuffled", "0: what is asked for does not show", better="higher", order=79),
    Words("text_lost", "Text R@5 lost", "the champion's less the candidate's, on the same captions", better="lower", order=79),
)
GATES = (
    Gate("text_excess_min", "text_excess", "min", default=0.01, takes="share", optional=True),
    Gate("text_lost_max", "text_lost", "max", default=0.1, takes="share", relative=True, optional=True),
)
FIRST, FIVE = 1, 5


@dataclass(frozen=True, eq=False)
class Agreed:
    """What the samples of one artifact find, and are found by."""

    first: Found
    five: Found
    shuffled: Found
    images: Found


@once
def gallery(yardstick: Yardstick) -> Gallery | None:
    """The captions of this proof."""
    return gallery_of(yardstick)


@once
def of_real(yardstick: Yardstick) -> tuple[Found, Found] | None:
    """What the real held-out items find by R@5, with their captions and with others': the judge's own score, and its chance."""
    shown = gallery(yardstick)
    if shown is None:
        return None
    vectors = _judge(yardstick).of_items(yardstick.reference.take(shown.items_G))
    own = np.arange(len(shown.captions))
    return items_find(vectors, own, shown, k=FIVE), items_find(vectors, shown.others_G, shown, k=FIVE)


@once
def of_samples(seen: Evaluated) -> Agreed | None:
    """None of an artifact that is not asked by a text, and where nothing can be told."""
    shown = gallery(seen.yardstick)
    if shown is None or seen.drawn.asked_N is None or seen.drawn.labels_N is not None:
        return None
    vectors, own = _judge(seen.yardstick).of_items(seen.items), shown.own_n
    others = np.where(own >= 0, shown.others_G[own], -1)
    return Agreed(
        first=items_find(vectors, own, shown, k=FIRST),
        five=items_find(vectors, own, shown, k=FIVE),
        shuffled=items_find(vectors, others, shown, k=FIVE),
        images=captions_find(vectors[shown.first_G], shown, k=FIVE),
    )


def compute(seen: Evaluated) -> dict[str, Metric]:
    """R@1 and R@5, both marks, and what was lost where there is a champion.

    Where the judge does not tell the real items' captions from others, nothing above chance can be asked of samples: then there
    is neither `text_excess` nor `text_lost`, and no gate on them.
    """
    found, real, shown = of_samples(seen), of_real(seen.yardstick), gallery(seen.yardstick)
    if found is None or real is None or shown is None:
        return {}
    boot, drawn, n = seen.boot, resampled(shown, seen.boot), len(shown.captions)
    shares = {
        "text_r1": found.first,
        "text_r5": found.five,
        "text_r5_images": found.images,
        "text_r5_real": real[0],
        "text_r5_shuffled": found.shuffled,
    }
    metrics = {name: boot.dependent_share(each.share(drawn), n=n) for name, each in shares.items()}
    if _above(real[0].share(drawn), real[1].share(drawn), boot, n=n).low <= 0:
        return metrics
    metrics["text_excess"] = _above(found.five.share(drawn), found.shuffled.share(drawn), boot, n=n)
    if seen.champion is not None and (theirs := of_samples(seen.champion)) is not None:
        metrics["text_lost"] = _above(theirs.five.share(drawn), found.five.share(drawn), boot, n=n)
    return metrics


def _above(one: Floats, other: Floats, boot: Bootstrap, *, n: int) -> Metric:
    """How much larger one share is than another that was resampled with it."""
    draws = one - other
    return boot.metric(float(draws[0]), draws[1:], n=n, least=-1, most=1)


def _judge(yardstick: Yardstick) -> Judge:
    return cast(Judge, yardstick.judge)


def captions_of(yardstick: Yardstick) -> tuple[str, ...]:
    """The first caption of each reference item."""
    captions = cast(CaptionedSplit, yardstick.reference).captions or ()
    return tuple(said[0] for said in captions)
