"""Metrics prove themselves: each moves with the fault that it is there for, in order, the larger the fault the further.

Of handwritten digits here, 230 samples against 230 held-out ones; of MNIST, with a table and a picture: docs/metrics.md.
"""

from typing import Any

import pytest

from benchmarks.planted import FAULTS, Clean, Fault, in_order
from components.evaluation.score import score


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_planted_fault_moves_its_metrics_in_order(fault: Fault, digits: Any, extractor: Any, make_shelf: Any) -> None:
    clean = Clean(digits.test.images, digits.test.labels, digits.train.images, samples=230)
    given = {"dataset": digits.dataset, "train": digits.train, "reference": digits.validation, "extractor": extractor}
    measured = []
    for level in fault.levels:
        images = fault.plant(clean, level)
        measured.append(score(make_shelf(f"planted:{fault.name} {level}", images), samples=len(images), **given).metrics)
    for name, way in fault.moves.items():
        values = [each[name].value for each in measured]
        assert in_order(values, way), f"{name} does not go {way}: {values} at {fault.levels} {fault.unit}"
        none, most = measured[0][name], measured[-1][name]
        assert none.high < most.low if way == "up" else most.high < none.low, f"{name}: its intervals do not tell none from most"
