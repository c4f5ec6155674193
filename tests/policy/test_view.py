"""The decision as people see it, in terminals of 80, 100 and 120 columns."""

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from components.core.brief import OverrideBrief
from components.core.card import Card
from components.core.records import Facts, Figure
from components.policy.decide import decide
from components.policy.view import Footnotes, amount, sentence, view

Shown = Callable[..., str]


@pytest.fixture
def shown(facts_of: Callable[..., Facts], cards: dict[tuple[str, str], Card]) -> Shown:
    def render(*, override: OverrideBrief | None = None, width: int = 100, refusals: tuple[str, ...] = (), **changes: Any) -> str:
        facts, out = facts_of(**changes), io.StringIO()
        decision = decide(facts, cards=cards, override=override).model_copy(update={"refusals": refusals})
        Console(file=out, width=width, color_system=None).print(view(facts, decision))
        return out.getvalue()

    return render


@pytest.mark.parametrize("width", [80, 100, 120])
def test_it_holds_every_part_within_the_width(shown: Shown, width: int) -> None:
    text = shown(goal="quality", latency_ms=2_000, items=1_797, side=8, width=width)
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
        "Sources",
    ):
        assert part in text
    for family in ("autoencoder", "vae", "gan", "flow", "autoregressive"):
        assert f"  {family} " in text
    assert "1,797 image items of 8 px" in text
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_sources_are_footnotes_that_name_their_text(shown: Shown) -> None:
    body, _, sources = shown(items=2_000, width=400).partition("Sources")
    listed = dict(re.findall(r"\[(\d+)\]  (\S.*\S)", sources))
    cited = {number for found in re.findall(r"\[([\d,]+)\]", body) for number in found.split(",")}
    assert cited == set(listed)
    assert len(set(listed.values())) == len(listed)
    assert "Generative model families: a guide, Part 9" in listed.values()
    assert "Which Generative Model Should We Use?, 3.B If No Pre-Trained Models Exist" in listed.values()
    assert "Kingma & Welling 2013, arXiv:1312.6114" in listed.values()
    assert not re.search(r"(?<![\d,])00[03]\b|DESIGN", body + sources)


def test_every_line_of_why_is_a_sentence(shown: Shown) -> None:
    lines = [line for line in shown(items=2_000, width=400).split("Why\n")[1].split("\n\n")[0].splitlines() if line.strip()]
    assert len(lines) > 5
    assert [line for line in lines if not re.search(r"[.!?] \[[\d,]+\]\s*$", line)] == []


def test_a_forced_choice_is_said_on_top(shown: Shown) -> None:
    top = shown(override=OverrideBrief(family="gan")).split("Why")[0]
    assert "the policy would choose diffusion/edm, scratch, many_step" in " ".join(top.replace("│", " ").split())


def test_what_produce_will_refuse_is_the_headline(shown: Shown) -> None:
    refusals = ("LoRA of gpt is not built yet; allowed: scratch (exit 2)", "no data (exit 2)")
    text = shown(refusals=refusals)
    top = " ".join(text.split("Why")[0].replace("│", " ").split())
    assert "produce will refuse (exit 2): LoRA of gpt is not built yet, and 1 more below" in top
    assert "allowed: scratch (exit 2)." in text
    assert "refuse" not in shown()


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(90, "s", "90 s"), (300, "s", "5 min"), (7_200, "s", "2 h"), (864_000, "s", "10 days"), (21.9, "ms", "21.9 ms"),
     (2_500, "ms", "2.5 s"), (0.0025, "USD", "0.003 USD"), (1_234_567, "USD", "1,234,567 USD"), (0.9, "GB", "0.9 GB")],
)  # fmt: skip
def test_amounts_read_well(value: float, unit: str, text: str) -> None:
    assert amount(Figure(value=value, unit=unit, basis="a test")) == text


@pytest.mark.parametrize(
    ("low", "high", "unit", "text"),
    [(0.5, 2, "GB", "0.5 to 2 GB"), (800, 4_000, "ms", "0.8 to 4 s"), (3, None, "GB", "at least 3 GB"),
     (None, 5, "ms", "at most 5 ms"),
     (0.301, 0.302, "ms", "0.301 to 0.302 ms"), (5, 5, "ms", "5 ms")],
)  # fmt: skip
def test_intervals_read_well(low: float | None, high: float | None, unit: str, text: str) -> None:
    assert amount(Figure(value=1, unit=unit, basis="a test", low=low, high=high)) == text


def test_sources_are_numbered_once_a_part() -> None:
    notes = Footnotes()
    guide = "Generative model families: a guide, Part 4"
    assert (
        notes.cite(f"{guide}: When to use Diffusion; {guide}: Why Diffusion is Excellent; Karras et al. 2022, arXiv:1") == "[1,2]"
    )
    assert notes.cite("Karras et al. 2022, arXiv:1") == "[2]"
    assert [source for source, _ in notes] == [guide, "Karras et al. 2022, arXiv:1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("one pass draws it", "One pass draws it."), ("GANs: fast", "GANs: fast."), ("64 px are small.", "64 px are small."),
     ("diffusion: slow", "Diffusion: slow."), ("gan/sngan is not built", "gan/sngan is not built.")],
)  # fmt: skip
def test_sentences(text: str, said: str) -> None:
    assert sentence(text) == said
