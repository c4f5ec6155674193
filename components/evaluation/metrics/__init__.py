"""Metrics, a file each, or a file for several that are computed together. A file dropped in here is measured, shown and gated.

WORDS = (Words(...),)                              what people read of each (core/metrics.py)
GATES = (Gate(...),)                               its gates, where it has any
def compute(seen: Evaluated) -> dict[str, Metric]  the values by id; without an id where the metric does not apply
"""
