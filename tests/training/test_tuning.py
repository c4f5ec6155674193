"""What a training with a base is watched by, and what it is said to have learnt and forgotten."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from components.core.arrays import Stored
from components.core.records import Reading, TuningPoint
from components.evaluation.tuning import charts, sentences
from components.families import cards
from components.training.learner import Learner
from components.training.schedule import FEW_READINGS
from components.training.start import build
from components.training.trainer import Trainer
from components.training.tuning import DRAWN, ITEMS, Drawn, Tuning, WithPrior, drawn_by_base, losses_of, with_prior

MEMBERS = sorted("/".join(key) for key in cards())


def mean_distance(images: Stored) -> float:
    return float(images.mean())


@pytest.mark.parametrize("family", MEMBERS)
def test_a_loss_at_fixed_noise_is_the_same_again_and_leaves_nothing_behind(
    a_base: Any,
    tuned: Any,
    digits: Any,
    family: str,
) -> None:
    plan = tuned(a_base(family))
    model = build(plan).eval()
    if len(model.turns()) > 1:
        return  # its players have no loss that could be compared
    before, generator = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    items, device = digits.take(np.array([0, 1, 0])), torch.device("cpu")
    one, two = (losses_of(model, items, None, device=device) for _ in range(2))
    assert one == two
    assert one[0] == one[2] != one[1], "each item meets the same noise"
    assert np.isfinite(one).all()
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_without_a_base_nothing_is_drawn(make_plan: Any, digits: Any) -> None:
    plan = make_plan()
    assert drawn_by_base(build(plan), plan, digits) is None
    assert with_prior(digits, None, plan) is digits


@pytest.mark.parametrize("conditional", [False, True])
def test_what_the_base_drew_has_its_share_of_what_is_learnt_from(
    a_base: Any,
    tuned: Any,
    digits: Any,
    conditional: bool,
) -> None:
    start = a_base("vae/gaussian", conditional=conditional).model_copy(update={"prior_preservation": 0.25})
    plan = tuned(start)
    family = build(plan)
    drawn = drawn_by_base(family, plan, digits)
    assert drawn is not None
    learnt = with_prior(digits, drawn, plan)
    assert len(learnt) == 128  # a quarter of them is the base's
    mixed = learnt.take(np.array([127, 3, 96]))
    assert np.array_equal(mixed, np.stack([drawn.items[31], digits.images[3], drawn.items[0]]))
    assert learnt.labels is not None
    if conditional:
        assert drawn.asked_N is not None
        assert np.array_equal(learnt.labels[96:], drawn.asked_N[:32])
    again = drawn_by_base(build(plan), plan, digits)
    assert again is not None
    assert np.array_equal(again.items, drawn.items), "a run that goes on has the same ones"


def test_more_of_the_base_than_it_drew_is_drawn_again(digits: Any) -> None:
    few = Drawn(digits.images[:5], None)
    learnt = WithPrior(digits, few, share=0.5)
    assert len(learnt) == 192
    assert np.array_equal(learnt.take(np.array([96 + 5])), few.items[:1])


@pytest.fixture
def trained(a_base: Any, tuned: Any, digits: Any, tracker: Any) -> Callable[..., Any]:
    """A trainer of a fine-tuning of ten steps that is watched."""

    def make(name: str = "vae/gaussian", **more: Any) -> Trainer:
        plan = tuned(a_base(name), steps=10, **more)
        family = build(plan)
        drawn = drawn_by_base(family, plan, digits)
        assert drawn is not None
        tuning = Tuning(drawn, digits, condition=None, distance=mean_distance)
        quality = lambda images: Reading(distance=mean_distance(images), influence=(0.0, 1.0))  # noqa: E731
        return Trainer(family, plan, split=digits, quality=quality, tracker=tracker, tuning=tuning)

    return make


def test_each_reading_is_told_of_both_and_kept_for_the_card(trained: Any, tracker: Any) -> None:
    points = trained().run().tuning
    assert points[0].step == 0
    assert len(points) == 1 + len(FEW_READINGS)
    assert all(len(point.held_out) == len(point.of_base) == ITEMS for point in points)
    assert points[-1].held_out != points[0].held_out
    for name in ("held_out_loss", "base_loss", "base_fd"):
        series = tracker.series(f"train/{name}")
        assert list(series.values()) == [point.beside[name] for point in points[1:]]


def test_a_gan_is_told_of_by_its_samples_alone(trained: Any) -> None:
    points = trained("gan/sngan").run().tuning
    assert all(not point.held_out and point.base_distance is not None for point in points)
    assert sentences(points, kept=points[-1].step)
    assert len(charts(points, kept=points[-1].step)) == 1


def test_a_run_that_goes_on_has_the_same_points(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(folder="whole").run()
    stopped = trained(folder="stopped")
    step, done = Learner.step, []

    def until(self: Learner, *arguments: Any, **more: Any) -> Any:
        done.append(0)
        if len(done) == 5:
            stopped.stop("by the test")
        return step(self, *arguments, **more)

    monkeypatch.setattr(Learner, "step", until)
    with pytest.raises(Exception, match="by the test"):
        stopped.run()
    resumed = trained(folder="stopped").run()
    assert resumed.tuning == whole.tuning
    assert resumed.weights.sha256 == whole.weights.sha256


def points(held: list[float], of_base: list[float]) -> list[TuningPoint]:
    """Readings of these mean losses, of items that differ by chance."""
    chance = np.random.default_rng(0)
    return [
        TuningPoint(
            step=100 * at,
            distance=10 - at,
            held_out=tuple(loss + 0.01 * chance.standard_normal(ITEMS)),
            of_base=tuple(base + 0.01 * chance.standard_normal(ITEMS)),
            base_distance=1 + at,
        )
        for at, (loss, base) in enumerate(zip(held, of_base, strict=True))
    ]


def test_learning_by_heart_and_forgetting_are_said_with_their_numbers() -> None:
    told = sentences(points([1.0, 0.5, 0.8], [0.4, 0.5, 0.6]), kept=100)
    assert told[0] == "distance to the new data 10 as it began, 9 as kept, at step 100"
    assert re.match(
        r"it learnt by heart after step 100: the held-out loss rose from 0\.50\d to 0\.79\d \(± 0\.00\d+\); step 100 is kept$",
        told[1],
    )
    assert told[2].startswith("of the base: the samples lie 2 from what the base drew, its own 1; the loss on that rose by 2")
    later = sentences(points([1.0, 0.5, 0.8], [0.4, 0.4, 0.4]), kept=200)
    assert later[1].endswith("; step 200 is kept")
    assert later[2].endswith("the loss on that is as it was")


def test_what_is_within_chance_is_not_said() -> None:
    told = sentences(points([1.0, 0.5, 0.502], [0.4, 0.4, 0.3]), kept=200)
    assert told[1].startswith("no sign of learning by heart: the held-out loss ended at 0.5")
    assert "the loss on that fell by 2" in told[2]


def test_a_training_without_a_base_says_and_draws_nothing() -> None:
    assert sentences((), kept=3) == charts((), kept=3) == ()


def test_a_chart_has_its_lines_within_it() -> None:
    distances, losses = charts(points([-1.0, 0.5, -0.8], [0.4, 0.4, 0.4]), kept=100)
    assert distances.kept_x == 50
    assert [line.name for line in losses.lines] == ["on held-out new data", "on what the base drew"]
    for line in (*distances.lines, *losses.lines):
        spots = [tuple(float(each) for each in spot.split(",")) for spot in line.points.split()]
        assert [x for x, _ in spots] == [0, 50, 100]
        assert all(-0.01 <= y <= 40.01 for _, y in spots)
    assert (distances.lines[0].first, distances.lines[0].kept) == (10, 9)


def test_the_base_draws_enough_to_tell_a_distance(a_base: Any, tuned: Any, digits: Any) -> None:
    plan = tuned(a_base("vae/gaussian"))
    drawn = drawn_by_base(build(plan), plan, digits)
    assert drawn is not None
    assert len(drawn.items) == DRAWN
