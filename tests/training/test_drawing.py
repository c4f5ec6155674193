"""How many items are drawn at once: what a base draws before the first step, samples of readings, and losses beside them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from components.core.errors import TrainingFailed
from components.core.family import Batch, Family
from components.core.records import Reading
from components.families import cards
from components.training import drawing
from components.training.device import TrainingDevice
from components.training.drawing import FEW, MOST, NOISES, WALKING, AtOnce, Live, drawn_at_once, fitting, weighed
from components.training.folder import DRAWING
from components.training.start import build
from components.training.trainer import Trainer
from components.training.tuning import Tuning, drawn_by_base, losses_of

FAST = {"autoregressive/pixelcnn", "autoregressive/vq-transformer", "diffusion/edm", "flow/glow", "gan/sngan", "vae/gaussian"}
MEMBERS = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in sorted("/".join(key) for key in cards())
]
CPU = TrainingDevice(torch.device("cpu"))


@contextmanager
def asked_of(monkeypatch: pytest.MonkeyPatch, cls: type[Family]) -> Iterator[list[int]]:
    """How many items each call of a family's samplers makes."""
    seen: list[int] = []
    real = cls.sampler

    def sampler(self: Family, **named: Any) -> nn.Module:
        made = real(self, **named)
        made.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(cls, "sampler", sampler)
        yield seen


def limit_for(family: Family, items: int) -> float:
    """GB in which so many items are drawn, and not twice as many."""
    return 1.01 * weighed(family, CPU)(items) / 1e9


@pytest.mark.parametrize("family", MEMBERS)
def test_every_family_is_weighed_and_left_as_it_was(a_base: Any, tuned: Any, family: str) -> None:
    model = build(tuned(a_base(family)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator, needed = torch.get_rng_state(), weighed(model, CPU)
    assert 0 < needed(1) < needed(2 * MOST)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert fitting(model, CPU, limit_bytes=10**12) == (WALKING if model.card.discrete else MOST)


def test_what_a_base_draws_comes_in_parts_that_fit(a_base: Any, tuned: Any, digits: Any, monkeypatch: Any) -> None:
    """All at once would hold more than compute.memory_gb, by what is alive; in parts it holds less, and draws the same."""
    start = a_base("diffusion/edm")
    family = build(tuned(start))
    limit = limit_for(family, 4)
    monkeypatch.setattr(drawing, "OPERATIONS", 10**9)  # the test, too, looks at what is alive
    plan = tuned(start, memory_gb=limit, folder="tight")
    with asked_of(monkeypatch, type(family)) as at_once, Live() as whole:
        wanted = drawn_by_base(build(tuned(start, folder="roomy")), tuned(start, folder="roomy"), digits)
    assert max(at_once) == MOST
    with asked_of(monkeypatch, type(family)) as at_once:
        model = build(plan)
        with Live() as seen:
            drawn = drawn_by_base(model, plan, digits)
    assert max(at_once) == 4
    assert whole.most > 1e9 * limit > seen.most
    assert drawn is not None
    assert wanted is not None
    assert (drawn.at_once, len(drawn.items)) == (4, len(wanted.items))
    assert np.abs(drawn.items.astype(int) - wanted.items).max() <= 1
    assert AtOnce.read(Path(plan.folder) / DRAWING).items == 4


def test_readings_are_drawn_as_the_base_was(a_base: Any, tuned: Any, digits: Any, tracker: Any, monkeypatch: Any) -> None:
    start = a_base("vae/gaussian")
    plan = tuned(start, signal_images=16, steps=2)
    family = build(plan)
    (Path(plan.folder)).mkdir()
    AtOnce(items=2).write(Path(plan.folder) / DRAWING)  # as an earlier session settled it
    drawn = drawn_by_base(family, plan, digits)
    assert drawn is not None
    tuning = Tuning(drawn, digits, condition=None, distance=lambda images: float(images.mean()))
    with asked_of(monkeypatch, type(family)) as at_once:
        Trainer(family, plan, split=digits, quality=lambda _: Reading(distance=1.0), tracker=tracker, tuning=tuning).run()
    assert set(at_once) == {2}


def test_a_training_from_scratch_reads_in_parts_that_fit_and_goes_on_so(
    make_plan: Any, digits: Any, tracker: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where as few fit as a step has items: more memory changes nothing once it is settled."""
    plan = make_plan(signal_images=16, steps=1)
    monkeypatch.setattr(drawing, "free_on", lambda _: 1e9 * limit_for(build(plan), 4))
    assert drawn_at_once(build(plan), plan) == 4
    monkeypatch.undo()
    family = build(plan)
    with asked_of(monkeypatch, type(family)) as at_once:
        Trainer(family, plan, split=digits, quality=lambda _: Reading(distance=1.0), tracker=tracker).run()
    assert set(at_once) == {FEW, 4}, "those of the small trial, and what is read"
    assert "memory: samples are drawn 4 at a time, not 64" in capfd.readouterr().err


def test_not_even_one_item_is_refused_in_one_line(a_base: Any, tuned: Any, digits: Any) -> None:
    plan = tuned(a_base("vae/gaussian"), memory_gb=1e-6)
    with pytest.raises(TrainingFailed, match=r"^drawing one item takes 0.00\d+ GB of memory, and there are 1e-06 GB; free some"):
        drawn_by_base(build(plan), plan, digits)


def test_losses_are_taken_in_parts(make_plan: Any, digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    family = build(make_plan("vae/gaussian")).eval()
    items, seen, real = digits.take(np.array([0, 1])), list[int](), type(family).losses

    def losses(self: Family, batch: Batch, rng: torch.Generator) -> Any:
        seen.append(len(batch.x))
        return real(self, batch, rng)

    monkeypatch.setattr(type(family), "losses", losses)
    one, two = (losses_of(family, items, None, device=CPU.device, at_once=3) for _ in range(2))
    assert one == two
    assert seen[:3] == [3, 3, 2]
    assert one == pytest.approx(losses_of(family, items, None, device=CPU.device, at_once=NOISES), rel=0.2)  # of other noise


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a program is read where Linux tells it")
@pytest.mark.parametrize(
    ("family", "items"), [("vae/gaussian", 256), pytest.param("diffusion/edm", 128, marks=pytest.mark.nightly)]
)
def test_drawing_takes_no_more_memory_than_is_expected_and_not_much_less(family: str, items: int) -> None:
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("peak.py")), family, str(items), "draw"]
    told: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0.35 < told["grew"] / told["expected"] < 1
