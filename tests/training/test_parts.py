"""The order of the data, the learning rate, the budget, and the state's way to disk and back."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from specs import image_item

from components.core.errors import StorageError
from components.core.family import FamilyConfig, to_data_units
from components.core.records import ClassCondition
from components.training import stream
from components.training.average import Average
from components.training.sampling import TorchSampler
from components.training.schedule import Budget, learning_rate
from components.training.start import build
from components.training.state import load_state, restore_rng, rng_state, save_state
from components.training.stream import BatchStream

NUMBERED = ClassCondition(classes=tuple(map(str, range(25))))


def numbered(make_split: Any, n: int) -> Any:
    """Image k is k all over, and of class k."""
    images = np.arange(n, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2)
    return make_split(images, np.arange(n))


def test_an_epoch_shows_every_item_once(make_split: Any) -> None:
    stream = BatchStream(numbered(make_split, 24), batch_size=6, seed=0, condition=NUMBERED)
    for epoch in range(3):
        shown = torch.cat([stream(epoch * 4 + place)[1] for place in range(4)])
        assert sorted(shown.tolist()) == list(range(24))


def test_epochs_and_seeds_differ(make_split: Any) -> None:
    split = numbered(make_split, 24)
    orders = []
    for seed, start in ((0, 0), (0, 4), (1, 0)):
        stream = BatchStream(split, batch_size=6, seed=seed, condition=NUMBERED)
        orders.append([stream(start + k)[1].tolist() for k in range(4)])
    assert len({str(order) for order in orders}) == 3


def test_a_batch_depends_on_its_step_alone(make_split: Any) -> None:
    split = numbered(make_split, 25)
    walked = BatchStream(split, batch_size=4, seed=3, condition=NUMBERED)
    forward = [walked(step)[1].tolist() for step in range(20)]
    assert [BatchStream(split, batch_size=4, seed=3, condition=NUMBERED)(step)[1].tolist() for step in range(20)] == forward
    assert [walked(step)[1].tolist() for step in reversed(range(20))] == forward[::-1]


def test_the_last_partial_batch_is_dropped_but_no_item_for_ever(make_split: Any) -> None:
    stream = BatchStream(numbered(make_split, 10), batch_size=4, seed=0, condition=NUMBERED)
    seen = {label for step in range(12) for label in stream(step)[1].tolist()}
    assert seen == set(range(10))
    assert all(len(stream(step)[1]) == 4 for step in range(12))


def test_a_batch_larger_than_the_split_is_the_split(make_split: Any) -> None:
    stream = BatchStream(numbered(make_split, 5), batch_size=128, seed=0, condition=NUMBERED)
    assert stream.batch_size == 5
    assert sorted(stream(7)[1].tolist()) == [0, 1, 2, 3, 4]


def test_images_and_labels_belong_together(make_split: Any) -> None:
    images_BCHW, labels_B = BatchStream(numbered(make_split, 24), batch_size=6, seed=0, condition=NUMBERED)(9)
    assert torch.equal(((images_BCHW[:, 0, 0, 0] + 1) * 127.5).round().long(), labels_B)
    assert BatchStream(numbered(make_split, 24), batch_size=6, seed=0)(0)[1] is None


def test_a_split_held_on_the_device_gives_the_same_batches(make_split: Any) -> None:
    split = numbered(make_split, 24)
    chosen = np.array([3, 7, 20])
    held, read = (source(split, NUMBERED, torch.device("cpu")).take(chosen, 0) for source in (stream._OnDevice, stream._OnDisk))
    assert all(torch.equal(one, other) for one, other in zip(held, read, strict=True))
    assert held[0].dtype == torch.uint8


def test_data_units() -> None:
    images = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)
    x_NCHW = to_data_units(images, image_item(1, 1, 3))
    assert x_NCHW.shape == (1, 3, 1, 1)
    assert x_NCHW.dtype == torch.float32
    assert torch.allclose(x_NCHW.flatten(), torch.tensor([-1.0, -0.6, 1.0]))


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    config = FamilyConfig(lr_peak=2.0, warmup_steps=10, decay_from=0.6)
    at = lambda step, progress: learning_rate(config, step=step, progress=progress)  # noqa: E731
    assert [at(step, 0.0) for step in (0, 4, 9, 50)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert [at(50, progress) for progress in (0.59, 0.6, 0.8, 0.9)] == pytest.approx([2.0, 2.0, 1.0, 0.5])
    assert 0 < at(50, 1.0) < 0.01
    steady = FamilyConfig(lr_peak=2.0, warmup_steps=0, decay_from=1.0)
    assert {learning_rate(steady, step=step, progress=step / 10) for step in range(11)} == {2.0}


def test_progress_is_the_work_behind_whatever_the_clock_says() -> None:
    now = [100.0]
    budget = Budget(ceiling_s=20.0, spent_s=4.0, steps=10, clock=lambda: now[0])
    assert [budget.progress(step) for step in (0, 1, 5, 10, 11)] == [0.0, 0.1, 0.5, 1.0, 1.0]
    now[0] += 14.0
    assert (budget.spent_s, budget.progress(5)) == (18.0, 0.5)
    assert not budget.is_over()
    assert budget.is_over(reserve_s=2.0)
    now[0] += 2.0
    assert budget.is_over()
    assert not Budget(ceiling_s=None, spent_s=1e9, steps=4).is_over()


def test_a_plan_refuses_what_cannot_be(make_plan: Any) -> None:
    for wrong in (
        {"steps": 0},
        {"steps": None},
        {"ceiling": {"name": "x", "seconds": -1.0}},
        {"threads": -1},
        {"signal_images": 1},
    ):
        with pytest.raises(ValidationError):
            make_plan(**wrong)
    plan = make_plan("diffusion/edm")
    assert type(plan).model_validate_json(plan.model_dump_json()) == plan


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(1)
    adam = {0: {"step": torch.tensor(3.0)}, 11: {"step": torch.tensor(4)}}
    tree = {
        "optimizers": {"g": {"state": adam, "param_groups": [{"lr": 0.1}]}},
        "rng": rng_state(rng),
        "run": {"step": 7, "none": None, "tiny": 1e-45, "third": 1 / 3},
        "half": torch.arange(3, dtype=torch.bfloat16),
    }
    save_state(tmp_path / "state", tree)
    back = load_state(tmp_path / "state")
    assert back is not None
    assert back["run"] == tree["run"]
    assert back["optimizers"]["g"]["param_groups"] == [{"lr": 0.1}]
    assert set(back["optimizers"]["g"]["state"]) == {0, 11}
    assert back["half"].dtype == torch.bfloat16
    drawn = torch.randn(3, generator=rng), torch.randn(3)
    restore_rng(rng, back["rng"])
    assert all(torch.equal(a, b) for a, b in zip(drawn, (torch.randn(3, generator=rng), torch.randn(3)), strict=True))
    assert load_state(tmp_path / "none") is None


def test_a_full_disk_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    save_state(path, {"run": {"step": 1}})

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        save_state(path, {"run": {"step": 2}})
    assert load_state(path) == {"run": {"step": 1}}
    assert list(tmp_path.iterdir()) == [path]


def test_the_average_is_the_recursion_of_its_decay(make_plan: Any) -> None:
    family = build(make_plan())
    average = Average(family, decay=0.5)
    name = "log_scale_C"
    expected = family.log_scale_C.item()
    for step in range(12):
        with torch.no_grad():
            family.log_scale_C.fill_(float(step))
        average.update(family, step=step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert float(average.family.get_parameter(name)) == pytest.approx(expected, rel=1e-5)
    assert not any(parameter.requires_grad for parameter in average.family.parameters())


@pytest.mark.parametrize("conditional", [False, True])
def test_a_torch_sampler_draws_an_image_by_its_seed(make_plan: Any, conditional: bool) -> None:
    family = build(make_plan(conditional=conditional)).eval()
    sampler = TorchSampler(family, subject="torch:x", batch=3)
    labels = [k % 10 for k in range(7)]
    images = sampler(range(7), labels)
    assert images.shape == (7, 8, 8, 1)
    assert images.dtype == np.uint8
    alone = np.concatenate([sampler([seed], [label]) for seed, label in zip(range(7), labels, strict=True)])
    assert np.abs(images.astype(int) - alone).max() <= 1
    assert len({image.tobytes() for image in images}) == 7
