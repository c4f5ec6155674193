"""What a training will take, measured by seconds of it."""

from pathlib import Path
from typing import Any

import pytest

from components.core.records import Ceiling, Reading
from components.training.dry_run import measure
from components.training.schedule import READINGS
from components.training.start import build

SHORT = Ceiling(name="a test", seconds=1.0)


@pytest.mark.parametrize("family", ["vae/gaussian", "autoregressive/vq-pixelcnn"])
def test_work_time_and_memory_of_a_plan_are_measured(make_plan: Any, digits: Any, family: str) -> None:
    drawn: list[int] = []

    def quality(images: Any) -> Reading:
        drawn.append(len(images))
        return Reading(distance=1.0)

    plan = make_plan(family)
    Path(plan.folder).mkdir()
    found = measure(build(plan), plan, digits, quality, probed=SHORT)
    assert (found.items_seen, found.steps, found.readings) == (96, 6, len(READINGS))
    assert min(found.step_s, found.reading_s, found.fit_s, found.peak_gb) > 0
    assert set(drawn) == {plan.signal_images}, "as many as the training would draw"
    assert found.seconds > found.steps * found.step_s


def test_a_ceiling_becomes_as_many_items_as_a_training_would_see(make_plan: Any, digits: Any) -> None:
    plan = make_plan(steps=None, ceiling=Ceiling(name="compute.minutes", seconds=60.0))
    Path(plan.folder).mkdir()
    found = measure(build(plan), plan, digits, lambda _: Reading(distance=1.0), probed=SHORT)
    assert found.items_seen % 16 == 0
    assert 30 < found.seconds <= 60
