"""How far a training is, for another process: a few bytes now and then, which fail nothing."""

import time
from pathlib import Path
from typing import Any

import pytest

from components.training import how_far as module
from components.training.folder import PROGRESS
from components.training.how_far import LEAVE_S, Left, how_far


def test_it_is_left_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    left, began = Left(tmp_path), time.time()
    assert how_far(tmp_path, since_s=0) is None
    for at in range(50):
        left.leave(at / 100, f"step {at}")
    found = how_far(tmp_path, since_s=began)
    assert found is not None
    assert (found.done, found.note) == (0.0, "step 0")
    now += LEAVE_S
    left.leave(0.5, "step 50")
    found = how_far(tmp_path, since_s=began)
    assert found is not None
    assert (found.done, found.note) == (0.5, "step 50")
    assert how_far(tmp_path, since_s=time.time() + 1) is None  # of a training before
    assert [each.name for each in tmp_path.iterdir()] == [PROGRESS]


def test_a_folder_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    Left(tmp_path / "gone").leave(0.5, "step 1")
    assert how_far(tmp_path / "gone", since_s=0) is None


@pytest.mark.parametrize("bytes_", [b"", b"{", b'{"done": "x"}', b"\xff"])
def test_what_is_half_written_is_nothing(bytes_: bytes, tmp_path: Path) -> None:
    (tmp_path / PROGRESS).write_bytes(bytes_)
    assert how_far(tmp_path, since_s=0) is None


def test_leaving_it_takes_no_time(tmp_path: Path) -> None:
    """Ten thousand calls, of which a few write: less than 50 microseconds each, beside steps of milliseconds."""
    left = Left(tmp_path)
    began = time.process_time()
    for at in range(10_000):
        left.leave(at / 10_000, "step 1  loss 0.1")
    assert time.process_time() - began < 0.5


def test_a_training_leaves_it(tmp_path: Path) -> None:
    from components.training.plan import TrainPlan
    from components.training.progress import Progress

    plan: Any = TrainPlan.model_construct(family="vae", variant="gaussian", folder=str(tmp_path))
    with Progress(plan) as progress:
        progress.show(0.25, step=12, losses={"loss": 0.5})
        found = how_far(tmp_path, since_s=0)
        assert found is not None
        assert (found.done, found.note) == (0.25, "step 12  loss 0.5")
        with Progress(plan, quiet=True) as follower:  # of a process that follows
            follower.show(0.5, step=20, losses={})
        assert how_far(tmp_path, since_s=0) == found
    assert how_far(tmp_path, since_s=0) is None, "it has ended"
