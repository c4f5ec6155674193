"""Precision less recall: the lower the better balanced."""

from components.core.metrics import Gate, Words

WORDS = (Words("surplus", "Precision less recall", "the lower the better balanced", better="lower"),)
GATES = (Gate("surplus_max", "surplus", "max", default=1.0),)


def value(candidate, champion):
    one, other = candidate.metrics["precision"], candidate.metrics["recall"]
    return one.model_copy(update={"value": one.value - other.value, "low": one.low - other.high, "high": one.high - other.low})
