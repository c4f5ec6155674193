"""Estimates say what they are made of, meet the numbers they are made from, and move the right way."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.core.brief import OverrideBrief
from components.core.records import Decision, Pretrained
from components.policy.estimate import tuned
from components.policy.sizes import TABLE

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


def test_the_measured_step_is_met(plan: Plan) -> None:
    """FACTS: 0.8 s a step of 64 at 32x32 (1.6 s of 128) on two CPU cores."""
    estimate = plan(tier="tiny", override=OverrideBrief(family="diffusion", delivery="few_step")).estimate
    assert estimate.training_s.value == pytest.approx(1500 * 1.6)
    assert "measured" in estimate.training_s.basis


def test_a_network_by_text_costs_what_it_has_more(plan: Plan) -> None:
    """Decision 43: at side 16 a step by text took 1.58 times as long (1.67 s to 1.06 s)."""
    edm = OverrideBrief.model_validate({"family": "diffusion", "variant": "edm"})
    plain, asked = (plan(side=16, tier="tiny", override=edm, conditioning=each).estimate for each in ("none", "text"))
    assert asked.training_s.value / plain.training_s.value == pytest.approx(1.58, rel=0.05)
    assert "by text" in asked.training_s.basis
    assert plain.parameters_m is not None
    assert asked.parameters_m is not None
    assert asked.parameters_m.value > 1.5 * plain.parameters_m.value
    assert asked.latency_ms.value > 1.5 * plain.latency_ms.value, "guidance asks the network twice"


MEASURED = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "exporting.json").read_text())


@pytest.mark.parametrize("name", MEASURED)
def test_measured_latencies_lie_in_their_interval(plan: Plan, name: str) -> None:
    """The graphs of benchmarks/exporting.py: default networks for 28x28 grey images, one item at a time on two CPU cores."""
    family, variant = name.split("/")
    forced = OverrideBrief.model_validate({"family": family, "variant": variant})
    figure = plan(side=28, device="cpu", tier="tiny", override=forced).estimate.latency_ms
    evaluations = int(figure.basis.split(" ")[0])
    drawn = 2 if variant == "ect" else 1  # evaluations of the measured graph
    ms = MEASURED[name]["graphs"]["fp32"]["batch 1"]["ms"] / drawn * evaluations
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low <= ms <= figure.high, figure
    assert "measured" in figure.basis


def test_a_gpu_pass_is_as_long_as_its_work(plan: Plan) -> None:
    """It was once always 2 ms."""
    found = [
        plan(side=side, device="cuda", override=OverrideBrief(variant="edm", delivery="many_step")).estimate.latency_ms
        for side in (8, 32, 64, 128)
    ]
    assert len({figure.value for figure in found}) == 4
    assert [figure.value for figure in found] == sorted(figure.value for figure in found)
    assert all(figure.low < figure.high for figure in found)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("model", "millions"),
    [("hf:stabilityai/stable-diffusion-xl-base-1.0", 2567), ("hf:stable-diffusion-v1-5/stable-diffusion-v1-5", 860)],
)
def test_a_pretrained_network_is_as_large_as_published(plan: Plan, model: str, millions: float) -> None:
    given = Pretrained(model=model, family="diffusion", in_domain=True)
    estimate = plan(side=512, conditioning="text", pretrained=given, device="cuda").estimate
    assert estimate.parameters_m is not None
    assert estimate.parameters_m.value == millions
    assert "text" in estimate.parameters_m.basis


def test_an_unknown_network_is_not_given_a_size(plan: Plan) -> None:
    estimate = plan(side=512, conditioning="text", pretrained="diffusion, in domain", device="cuda").estimate
    assert estimate.parameters_m is None
    assert (estimate.memory_gb.low, estimate.memory_gb.high) == (pytest.approx(estimate.memory_gb.value, rel=0.05), None)
    assert "unknown" in estimate.memory_gb.basis


def test_a_network_made_elsewhere_is_not_taken_for_the_default_one(plan: Plan) -> None:
    """Also where its variant is known, as of a folder that is here."""
    pick, known = SimpleNamespace(mode="finetune"), SimpleNamespace(variant="ddpm", foreign=object())
    assert tuned(SimpleNamespace(pretrained=known), pick)  # type: ignore[arg-type]
    ours = SimpleNamespace(variant="ddpm", foreign=None)
    assert not tuned(SimpleNamespace(pretrained=ours), pick)  # type: ignore[arg-type]


def test_parameters_are_those_of_the_default_network(plan: Plan) -> None:
    """Faces at 256 px were once given 5 M parameters."""
    figure = plan(side=256, device="cuda", goal="quality").estimate.parameters_m
    row = next(row for row in json.loads(TABLE.read_text())["diffusion/latent"] if row[:2] == [256, False])
    assert figure is not None
    assert figure.value == pytest.approx(row[2], rel=0.01)


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
    """With each pixel where time is scaled by pixels; from end to end where the default networks are counted, as one for 24
    pixels is no smaller than one for 32, and on a CPU the larger ones take squares of pixels as one."""
    estimates = [plan(side=side, override=OverrideBrief(family=family)).estimate for side in (8, 11, 12, 16, 24, 32, 48, 64)]
    for name in ("training_s", "cost_usd"):
        values = [getattr(estimate, name).value for estimate in estimates]
        assert values == sorted(values), name
    for name in ("training_s", "memory_gb", "cost_usd", "latency_ms"):
        values = [getattr(estimate, name).value for estimate in estimates]
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
    model = "hf:stable-diffusion-v1-5/stable-diffusion-v1-5"  # of a network whose size is known
    given = {"side": 512, "pretrained": Pretrained(model=model, family="diffusion", in_domain=True)}
    lora, finetune = (plan(override=OverrideBrief(mode=mode), **given).estimate for mode in ("lora", "finetune"))  # type: ignore[arg-type]
    assert lora.memory_gb.value < finetune.memory_gb.value
    assert lora.training_s.value < finetune.training_s.value


@pytest.mark.parametrize(("latency_ms", "passes"), [(11.0, 1), (13.0, 2), (900.0, 4)])
def test_as_many_distilled_steps_as_the_limit_holds(plan: Plan, latency_ms: float, passes: int) -> None:
    decision = plan(goal="speed", latency_ms=latency_ms)
    assert decision.delivery == "few_step"
    assert decision.estimate.latency_ms.value <= latency_ms
    assert decision.estimate.latency_ms.basis.startswith(f"{passes} pass")
