"""How many items a second come in full batches, as they were drawn for the other metrics."""

from components.core.metrics import Words
from components.core.records import Metric
from components.evaluation.evaluated import Evaluated

WORDS = (Words("throughput_per_s", "Throughput", "in full batches", unit="items/s", better="higher", order=810, timed=True),)


def compute(seen: Evaluated) -> dict[str, Metric]:
    """One figure a chunk of samples."""
    return {"throughput_per_s": seen.boot.mean(seen.drawn.items_per_s, stream="throughput")}
