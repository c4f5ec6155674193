"""What a brief grants is what training may use; where less is enough, the headline says so and why."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from components.core.records import Decision, Facts, TrainingBudget
from components.policy.view import view

Plan = Callable[..., Decision]
DIFFUSION = {"goal": "quality"}


def budget_of(decision: Decision) -> TrainingBudget:
    assert decision.budget is not None
    return decision.budget


def test_items_seen_are_the_work_whatever_they_take(plan: Plan) -> None:
    budget = budget_of(plan(items_seen=90_000))
    assert (budget.items_seen, budget.items_enough, budget.ceilings) == (90_000, None, ())
    assert budget.text == "90,000 items seen (compute.items_seen)"
    both = plan(items_seen=90_000, minutes=0.5)
    assert budget_of(both).items_seen == 90_000
    assert both.estimate.training_s.value == 30
    assert "at most 30 s that compute.minutes grants" in budget_of(both).text


def test_twice_the_items_take_twice_as_long(plan: Plan) -> None:
    once, twice = (plan(items_seen=items).estimate.training_s.value for items in (10**6, 2 * 10**6))
    assert twice == pytest.approx(2 * once, rel=0.01)


@pytest.mark.parametrize(
    ("ceiling", "seconds"), [({"minutes": 2.0}, 120), ({"usd": 0.05}, 1800), ({"gpu_hours": 0.02}, 72), ({"minutes": 0.5}, 30)]
)
def test_a_ceiling_is_turned_into_items_by_a_probe(plan: Plan, ceiling: dict[str, float], seconds: float) -> None:
    budget = budget_of(plan(**ceiling))
    assert budget.items_seen is None
    (only,) = budget.ceilings
    assert only.seconds == pytest.approx(seconds)
    assert only.name == f"compute.{next(iter(ceiling))}"
    assert budget.text.startswith("all of the")
    assert "a probe on the device turns it into items seen" in budget.text


def test_gpus_share_hours_and_dollars_but_not_minutes(plan: Plan) -> None:
    decision = plan(device="cuda", workers=4, gpu_hours=8.0, minutes=600.0, usd=100.0)
    budget = budget_of(decision)
    lowest = budget.lowest(devices=4)
    assert lowest is not None
    assert (lowest.name, lowest.seconds) == ("compute.gpu_hours", 7200)
    assert decision.estimate.cost_usd.value <= 16.0
    alone = budget.lowest()
    assert alone is not None
    assert (alone.name, alone.seconds) == ("compute.gpu_hours", 8 * 3600)


def test_where_less_is_enough_the_headline_says_how_much_and_why(plan: Plan, facts_of: Callable[..., Facts]) -> None:
    """FACTS: 24 GPU hours were granted and 38 s trained, without a word."""
    given: dict[str, Any] = {"device": "cuda", "gpu_hours": 2000.0, "items": 12_000, "side": 32, **DIFFUSION}
    decision = plan(**given)
    budget = budget_of(decision)
    assert budget.items_enough == 4_000 * 12_000
    assert decision.estimate.training_s.value < 2000 * 3600
    shown = StringIO()
    Console(file=shown, width=400).print(view(facts_of(**given), decision))
    for words in ("48,000,000 items seen", "of the 2,000 h", "each item 4,000 times", "compute.spend: all asks for the whole"):
        assert words in shown.getvalue()
    whole = plan(**given, spend="all")
    assert budget_of(whole).items_enough is None
    assert whole.estimate.training_s.value == 2000 * 3600


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_day_of_gpus_is_not_seconds_of_training(plan: Plan, device: str) -> None:
    decision = plan(goal="diversity", conditioning="class", classes=10, items=12_000, side=64, gpu_hours=24.0, device=device)
    assert decision.estimate.training_s.value > 0.5 * 24 * 3600


def test_no_grant_is_the_tiers_own_work(plan: Plan) -> None:
    decision = plan(tier="tiny")
    assert budget_of(decision).items_seen == 1500 * 128
    assert "no budget is granted" in budget_of(decision).text


def test_what_an_older_version_decided_is_still_read(plan: Plan) -> None:
    old = plan().model_dump(mode="json", exclude={"budget"})
    assert Decision.model_validate(old).budget is None


@pytest.mark.parametrize(
    "given",
    [
        {
            "goal": "diversity",
            "conditioning": "class",
            "classes": 10,
            "items": 12_000,
            "side": 64,
            "gpu_hours": 24.0,
            "device": "cuda",
        },
        {"goal": "quality", "items": 100_000, "side": 256, "gpu_hours": 400.0, "device": "cuda"},
        {"goal": "speed", "items": 5_000, "side": 128, "usd": 800.0, "device": "cuda", "workers": 4, "accept": ("instability",)},
        {"goal": "latent", "items": 30_000, "side": 64, "minutes": 600.0, "device": "cuda"},
        {"items": 200, "side": 32, "usd": 50.0},
        {"items": 200, "side": 32, "usd": 5.0},
        {"items": 1_797, "side": 8, "minutes": 600.0},
        {"items": 60_000, "side": 28, "gpu_hours": 10.0, "goal": "likelihood"},
    ],
)
def test_a_grant_is_spent_or_the_headline_says_why_not(plan: Plan, given: dict[str, Any]) -> None:
    decision = plan(**given)
    budget = budget_of(decision)
    devices = given.get("workers", 1) if given.get("device") == "cuda" else 1
    granted = budget.lowest(devices=devices)
    assert granted is not None
    if decision.estimate.training_s.value >= 0.99 * granted.seconds:
        assert budget.text.startswith("all of the")
    else:
        assert "they are enough (" in budget.text
        assert budget.text.endswith("compute.spend: all asks for the whole")
    assert granted.name in budget.text
    whole = plan(**given, spend="all")
    assert whole.estimate.training_s.value == pytest.approx(granted.seconds)
    assert budget_of(whole).items_enough is None
