"""The 95th percentile of the milliseconds that one item alone takes, over 20 to 100 single calls after two that warm up."""

import time

import numpy as np

from components.core.arrays import Asked
from components.core.metrics import Gate, Words
from components.core.protocols import ItemSampler
from components.core.records import Metric
from components.evaluation.bootstrap import quantile_metric
from components.evaluation.evaluated import Evaluated
from components.evaluation.samples import SEEDS_FROM

WORDS = (Words("latency_p95_ms", "Latency p95", "one item alone", unit="ms", better="lower", order=800, timed=True),)
GATES = (Gate("latency_p95_ms_max", "latency_p95_ms", "max", default="serving", takes="positive", cause="latency"),)
CALLS = (20, 100)  # single items timed: at least and at most
TIMED_S = 10.0  # seconds after which the least is enough


def compute(seen: Evaluated) -> dict[str, Metric]:
    """Of the sampler that runs batches of one, where it is given: a padded batch would be timed whole."""
    if seen.timed is None:
        return {}
    asked = None if seen.drawn.asked_N is None else seen.drawn.asked_N[:1]
    spent = timed_ms(seen.timed, asked)
    return {"latency_p95_ms": quantile_metric(np.array(spent), 0.95, seen.boot, stream="latency")}


def timed_ms(sampler: ItemSampler, asked: Asked | None) -> list[float]:
    """Milliseconds of single items, one after another."""
    spent: list[float] = []
    for call in range(2 + CALLS[1]):
        if len(spent) >= CALLS[0] and sum(spent) > TIMED_S * 1000:
            break
        started = time.perf_counter()
        sampler([SEEDS_FROM + call], asked)
        if call >= 2:
            spent.append((time.perf_counter() - started) * 1000)
    return spent
