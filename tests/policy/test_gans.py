"""Which GAN is offered where, after what was measured."""

from collections.abc import Callable
from typing import Any

import pytest

from components.core.brief import OverrideBrief
from components.core.records import Decision

CPU_MINUTES = {"device": "cpu", "tier": "tiny"}
GAN = OverrideBrief(family="gan")


@pytest.mark.parametrize(
    ("side", "given", "variant"),
    [(28, CPU_MINUTES, "dcgan"), (64, CPU_MINUTES, "sngan"), (128, CPU_MINUTES, "sngan"), (128, {"device": "cuda"}, "style")],
)
def test_a_style_based_gan_is_not_for_minutes_of_a_cpu(
    plan: Callable[..., Decision], side: int, given: dict[str, Any], variant: str
) -> None:
    assert plan(override=GAN, side=side, **given).variant == variant


@pytest.mark.parametrize("variant", ["style", "r3gan"])
def test_who_asks_for_one_there_is_told(plan: Callable[..., Decision], variant: str) -> None:
    forced = OverrideBrief(family="gan", variant=variant)
    told = {where: {warning.code for warning in plan(override=forced, **given).warnings} for where, given in
            {"minutes": CPU_MINUTES, "gpu": {"device": "cuda"}}.items()}  # fmt: skip
    assert "slow-to-learn" in told["minutes"]
    assert "slow-to-learn" not in told["gpu"]
