"""Estimates say what they are made of, meet the numbers they are made from, and move the right way."""

from collections.abc import Callable
from typing import Any

import pytest

from components.core.brief import OverrideBrief
from components.core.records import Decision

Plan = Callable[..., Decision]


def test_a_ceiling_ends_the_training(plan: Plan) -> None:
    figure = plan(minutes=1.5).estimate.training_s
    assert (figure.value, figure.unit, figure.basis) == (90, "s", "brief: compute.minutes ends it")
    assert plan(gpu_hours=1.0).estimate.training_s.value == 3600
    assert plan(usd=0.1).estimate.cost_usd.value == pytest.approx(0.1)
    assert plan(usd=0.1, minutes=1.5, gpu_hours=1.0).estimate.training_s.value == 90, "the lowest of them"


def test_units(plan: Plan) -> None:
    estimate = plan().estimate
    units = (estimate.training_s.unit, estimate.memory_gb.unit, estimate.cost_usd.unit, estimate.latency_ms.unit)
    assert units == ("s", "GB", "USD", "ms")


def test_the_measured_step_and_pass_are_met(plan: Plan) -> None:
    """FACTS: 0.8 s a step of 64 at 32x32 (1.6 s of 128), and at most 20 ms for four passes, on two CPU cores."""
    estimate = plan(tier="tiny", override=OverrideBrief(family="diffusion", delivery="few_step")).estimate
    assert estimate.training_s.value == pytest.approx(1500 * 1.6)
    assert estimate.latency_ms.value == pytest.approx(20)
    assert "measured" in estimate.training_s.basis
    assert "measured" in estimate.latency_ms.basis


def test_the_texts_numbers_are_met(plan: Plan) -> None:
    """003: 50 ms a GAN pass at 1024x1024; 2.5 s for 50 steps; 5 s for PixelCNN at 32x32; 150,000 A100 hours."""
    gpu = {"device": "cuda"}
    fast = plan(goal="speed", side=1024, pretrained="gan, in domain", **gpu)
    assert fast.estimate.latency_ms.value == pytest.approx(50, rel=0.05)
    stable = plan(goal="quality", side=512, conditioning="text", pretrained="diffusion, general", **gpu)
    assert stable.estimate.latency_ms.value == pytest.approx(2_500, rel=0.05)
    assert plan(goal="likelihood", override=OverrideBrief(variant="pixelcnn")).estimate.latency_ms.value == pytest.approx(5_120)
    scratch = plan(goal="quality", side=512, conditioning="text", tier="large", **gpu)
    assert scratch.estimate.training_s.value / 3600 == pytest.approx(150_000, rel=0.05)


@pytest.mark.parametrize(("items", "hours"), [(500, 10), (3_000, 30), (10_000, 100), (10**6, 100)])
def test_lora_hours_of_the_text(plan: Plan, items: int, hours: float) -> None:
    decision = plan(items=items, side=512, device="cuda", pretrained="diffusion, in domain")
    assert decision.mode == "lora"
    assert decision.estimate.training_s.value == pytest.approx(hours * 3600)


@pytest.mark.parametrize(("items", "hours"), [(5_000, 100), (50_000, 500), (10**6, 1_000)])
def test_finetuning_hours_of_the_text(plan: Plan, items: int, hours: float) -> None:
    decision = plan(items=items, side=512, device="cuda", tier="medium", pretrained="diffusion, in domain")
    assert decision.mode == "finetune"
    assert decision.estimate.training_s.value == pytest.approx(hours * 3600)


@pytest.mark.parametrize("family", ["autoencoder", "vae", "gan", "flow", "diffusion"])
def test_larger_items_cost_more(plan: Plan, family: Any) -> None:
    estimates = [plan(side=side, override=OverrideBrief(family=family)).estimate for side in (8, 11, 12, 16, 24, 32, 48, 64)]
    for name in ("training_s", "memory_gb", "cost_usd", "latency_ms"):
        values = [getattr(estimate, name).value for estimate in estimates]
        assert values == sorted(values), name
        assert values[-1] > values[0], name


def test_more_budget_trains_longer_and_more_steps_serve_slower(plan: Plan) -> None:
    force = OverrideBrief(family="diffusion")
    tiers = [plan(tier=tier, override=force).estimate.training_s.value for tier in ("tiny", "small", "medium", "large")]
    assert tiers == sorted(set(tiers))
    few, many = (plan(override=OverrideBrief(delivery=how)).estimate.latency_ms.value for how in ("few_step", "many_step"))
    assert few < many


def test_a_gpu_is_faster_and_its_hour_has_a_price(plan: Plan) -> None:
    cpu, gpu = plan(device="cpu").estimate, plan(device="cuda").estimate
    assert gpu.training_s.value < cpu.training_s.value
    assert gpu.latency_ms.value < cpu.latency_ms.value
    assert "2 USD" in gpu.cost_usd.basis


def test_lora_needs_less_memory_than_finetuning(plan: Plan) -> None:
    given = {"side": 512, "pretrained": "diffusion, in domain"}
    lora, finetune = (plan(override=OverrideBrief(mode=mode), **given).estimate for mode in ("lora", "finetune"))  # type: ignore[arg-type]
    assert lora.memory_gb.value < finetune.memory_gb.value
    assert lora.training_s.value < finetune.training_s.value


@pytest.mark.parametrize(("latency_ms", "passes"), [(11.0, 1), (25.0, 2), (900.0, 4)])
def test_as_many_distilled_steps_as_the_limit_holds(plan: Plan, latency_ms: float, passes: int) -> None:
    decision = plan(goal="speed", latency_ms=latency_ms)
    assert decision.delivery == "few_step"
    assert decision.estimate.latency_ms.value <= latency_ms
    assert decision.estimate.latency_ms.basis.startswith(f"{passes} pass")
