"""What is asked for in words: which variant a base is taken for, what few steps cost it, and the plan that docs/text.md shows."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from components.core.brief import parse_brief
from components.core.card import Card
from components.core.records import Decision, Pretrained
from components.policy.decide import decide
from components.policy.facts import facts
from components.policy.view import view

Plan = Callable[..., Decision]
PAGE = Path(__file__).parents[2] / "docs" / "text.md"
STABLE = Pretrained(model="hf:org/base", family="diffusion", variant="ldm", in_domain=False)


@pytest.mark.parametrize("hurry", [{"latency_ms": 100.0}, {"goal": "speed"}])
@pytest.mark.parametrize("base", [None, STABLE], ids=["scratch", "a base"])
def test_few_steps_by_text_are_warned_of_where_they_are_not_distilled(plan: Plan, hurry: dict[str, Any], base: Any) -> None:
    """The whole sampler has the guidance, and few steps without it follow the text less."""
    decision = plan(conditioning="text", pretrained=base, **hurry)
    (warning,) = [each for each in decision.warnings if each.code == "few-steps-unguided"]
    assert decision.delivery == "few_step"
    assert "`genwright distil` the release" in warning.fix
    assert "0047-what-words-reach.md" in warning.source
    unhurried = plan(conditioning="text", pretrained=base)
    assert unhurried.delivery == "many_step"
    slow = {each.code: each for each in unhurried.warnings}
    assert "few-steps-unguided" not in slow
    assert "serving.latency_ms" not in slow["slow-sampling"].fix, "which leads to few steps without guidance"
    assert "few-steps-unguided" not in {each.code for each in plan(**hurry).warnings}, "nothing asked in words is lost"


def test_a_base_by_text_that_is_not_here_is_taken_for_a_stable_diffusion(plan: Plan) -> None:
    decision = plan(conditioning="text", pretrained=Pretrained(model="hf:org/base", family="diffusion", in_domain=False))
    assert (decision.variant, decision.mode) == ("ldm", "lora")
    (because,) = [reason.text for reason in decision.reasons if reason.rule == "variant.diffusion-text-base"]
    assert because.endswith("what the base really is, is known once it is here")


@pytest.mark.parametrize("tier", ["tiny", "medium"])
def test_augmentation_is_not_advised_where_there_is_none(plan: Plan, tier: str) -> None:
    decision = plan(conditioning="text", tier=tier, items=300, goal="quality")
    assert decision.variant == "latent"
    said = " ".join(reason.text for reason in decision.reasons)
    assert "300 items are few for diffusion: the memorisation gate decides" in said
    assert "override.config.augment" not in said
    assert "override.config.augment" in " ".join(each.text for each in plan(items=300, goal="quality").reasons)


def test_the_plan_in_the_docs_is_what_plan_says(cards: dict[tuple[str, str], Card]) -> None:
    """Its headline, and each line below it, of the brief that the page shows."""
    page = PAGE.read_text()
    brief = parse_brief(re.search(r"```yaml\n(name: photos\n.*?)```", page, re.DOTALL)[1])  # type: ignore[index]
    shown = re.search(r"genwright plan brief.yaml.*?```\n\n```\n(.*?)```", page, re.DOTALL)[1]  # type: ignore[index]
    declared = brief.model_copy(update={"data": brief.data.model_copy(update={"items": 300, "side": 32})})
    known, out = facts(declared, dataset=None, device="cpu"), io.StringIO()
    Console(file=out, width=1000, color_system=None).print(view(known, decide(known, cards=cards)))
    said = re.sub(r" +", " ", out.getvalue())
    lines = [re.sub(r" +", " ", line.strip("│ ")).rstrip(".").strip() for line in shown.splitlines()]
    assert len(lines) > 3
    assert [line for line in lines if line not in said] == []
