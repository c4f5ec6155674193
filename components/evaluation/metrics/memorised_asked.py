"""Memorised by caption: samples that are asked for by captions of training items, and are copies of them.

A model may answer captions that it never saw with new items, and those of its training with what it learnt by heart. What counts
as a copy, and the share of held-out items that is subtracted, are those of `memorised`.
"""

import numpy as np

from components.core.metrics import Gate, Words
from components.core.records import EmbeddingCondition, Metric
from components.core.records.condition import items_asked
from components.evaluation.evaluated import Evaluated
from components.evaluation.metrics.memorised import copies
from components.evaluation.proportions import Count, excess
from components.evaluation.samples import asked_seeds

WORDS = (
    Words(
        "memorised_asked",
        "Memorised, by caption",
        "samples asked for by a training item's caption that copy a training item, less held-out ones that do",
        better="lower",
        share=True,
        order=62,
    ),
)
GATES = (
    Gate(
        "memorised_asked_max",
        "memorised_asked",
        "max",
        default=0.1,
        takes="share",
        repeats=True,
        optional=True,
        cause="memorised",
    ),
)
ASKED, OF = 256, 4  # samples, at most one to so many of the proof: a sampler may be slow


def compute(seen: Evaluated) -> dict[str, Metric]:
    """Of up to ASKED samples, on seeds of their own; nothing of a model that is asked by no text, or through another encoder than
    that whose embeddings the splits hold."""
    judge = seen.yardstick.judge
    if judge is None or not isinstance(seen.condition, EmbeddingCondition) or seen.sampler is None:
        return {}
    if judge.record.encoder != seen.condition.encoder:
        return {}
    yardstick, known = seen.yardstick, copies(seen.yardstick)
    seed, count = yardstick.protocol.seed, min(ASKED, yardstick.protocol.samples // OF)
    items = items_asked(yardstick.train, count, seed=seed)
    asked = seen.condition.of_items(yardstick.train, np.sort(items))
    drawn = seen.sampler(asked_seeds(seed, count), asked)
    ours = Count.where(known.closeness(known.neighbours(drawn)) <= known.bound)
    real = Count.where(known.held_out_closeness <= known.bound)
    return {"memorised_asked": excess(ours, real, level=seen.boot.level)}
