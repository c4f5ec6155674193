"""The decision as people see it, in a terminal of 100 columns."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from components.core.brief import OverrideBrief
from components.core.card import Card
from components.core.records import Facts, Figure
from components.policy.decide import decide
from components.policy.view import amount, short, view

Shown = Callable[..., str]


@pytest.fixture
def shown(facts_of: Callable[..., Facts], cards: dict[tuple[str, str], Card]) -> Shown:
    def render(*, override: OverrideBrief | None = None, **changes: Any) -> str:
        facts, out = facts_of(**changes), io.StringIO()
        Console(file=out, width=100, color_system=None).print(view(facts, decide(facts, cards=cards, override=override)))
        return out.getvalue()

    return render


def test_it_holds_every_part_within_the_width(shown: Shown) -> None:
    text = shown(goal="quality", latency_ms=2_000, items=1_797, side=8)
    for part in (
        "diffusion/edm",
        "from scratch",
        "Why",
        "Look out",
        "slow-sampling",
        "Fix: ",
        "Not chosen",
        "Estimate",
        "latency p95",
    ):
        assert part in text
    for family in ("autoencoder", "vae", "gan", "flow", "autoregressive"):
        assert f"  {family} " in text
    assert "1,797 image items of 8 px" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_sources_stay_named(shown: Shown) -> None:
    text = shown(items=2_000)
    assert "003 Part" in text
    assert "000 §3.B" in text
    assert "003_83e4aeccad7942ac.txt" in text


def test_a_forced_choice_is_said_on_top(shown: Shown) -> None:
    top = shown(override=OverrideBrief(family="gan")).split("Why")[0]
    assert "the policy would choose diffusion/edm, scratch, many_step" in " ".join(top.replace("│", " ").split())


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(90, "s", "90 s"), (300, "s", "5 min"), (7_200, "s", "2 h"), (864_000, "s", "10 days"), (21.9, "ms", "21.9 ms"),
     (2_500, "ms", "2.5 s"), (0.0025, "USD", "0.003 USD"), (1_234_567, "USD", "1,234,567 USD"), (0.9, "GB", "0.9 GB")],
)  # fmt: skip
def test_amounts_read_well(value: float, unit: str, text: str) -> None:
    assert amount(Figure(value=value, unit=unit, basis="a test")) == text


def test_sources_are_short_and_named_once() -> None:
    source = (
        "003_83e4aeccad7942ac.txt, Part 4: When to use Diffusion; 003_83e4aeccad7942ac.txt, Part 4: Why Diffusion is Excellent;"
        " DESIGN, The decision policy: Chart; Karras et al. 2022, arXiv:2206.00364"
    )
    assert short(source) == "003 Part 4; DESIGN Chart; Karras et al. 2022"
