"""Every row of every table of the two texts, and what the policy does with it.

The rows stand in `texts/000.yaml` and `texts/003.yaml`, by section. `given` are the changes to plain facts (20,000 images of 32
pixels, a small budget, balanced goal, nothing pretrained); the other keys must follow, and `cites` must be named as a source.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.brief import OverrideBrief
from components.core.errors import BriefError
from components.core.records import Decision
from components.policy.tables import load_tables

FILES = {"000": "Which Generative Model Should We Use?", "003": "Generative model families: a guide"}  # as footnotes say it
CHOICE = ("family", "variant", "mode", "delivery")
KEYS = {"row", "given", *CHOICE, "rejects", "warns", "silent", "says", "cites"}


def rows_of(text: str) -> list[Any]:
    document = yaml.safe_load((Path(__file__).parent / "texts" / f"{text}.yaml").read_text())
    return [
        pytest.param(FILES[text], row, id=f"{text} {section}: {row['row']}") for section, rows in document.items() for row in rows
    ]


@pytest.mark.parametrize(("file", "row"), [*rows_of("000"), *rows_of("003")])
def test_a_row_of_a_text(file: str, row: dict[str, Any], plan: Callable[..., Decision]) -> None:
    assert row.keys() <= KEYS
    given = dict(row["given"])
    override = OverrideBrief(**given.pop("override")) if "override" in given else None
    decision = plan(override=override, **given)

    wanted = {name: row[name] for name in CHOICE if name in row}
    assert {name: getattr(decision, name) for name in wanted} == wanted
    assert set(row.get("rejects", ())) <= {rejected.family for rejected in decision.rejected}
    codes = {warning.code for warning in decision.warnings}
    assert set(row.get("warns", ())) <= codes
    assert not set(row.get("silent", ())) & codes
    voices = [*decision.reasons, *decision.rejected, *decision.warnings]
    words = " ".join([voice.text for voice in voices] + [warning.fix for warning in decision.warnings])
    assert [phrase for phrase in row.get("says", ()) if phrase not in words] == []
    cited = row.get("cites", "")
    cited = cited if "et al." in cited else f"{file}, {cited}" if cited else ""
    assert any(cited in voice.source for voice in voices), f"no rule cites {cited}"
    assert row.keys() - {"row", "given", "cites"}, "a row must assert something"


# Part 1, Quick Comparison: model, quality, stability, speed, mode collapse, likelihood
COMPARISON = [
    ("vae", (6, 6), 10, "fast", False, "bound"),
    ("gan", (9, 9), 3, "fast", True, "none"),
    ("diffusion", (9.5, 9.5), 9, "slow", False, "bound"),
    ("autoregressive", (7, 8), 9, "very_slow", False, "exact"),
    ("flow", (7, 8), 8, "fast", False, "exact"),
]


@pytest.mark.parametrize("row", COMPARISON, ids=lambda row: f"003 Part 1 Quick Comparison: {row[0]}")
def test_the_comparison_table_of_003_is_the_prior(row: tuple[Any, ...]) -> None:
    prior = load_tables().families[row[0]]
    assert (prior.quality, prior.stability, prior.speed, prior.mode_collapse, prior.likelihood) == row[1:]
    assert f"{FILES['003']}, Part 1: Quick Comparison" in load_tables().cite(prior.source)


def test_the_quality_ranking_of_003() -> None:
    families = load_tables().families
    ranked = sorted((name for name in families if families[name].quality), key=lambda name: -sum(families[name].quality or (0,)))
    assert ranked == ["diffusion", "gan", "autoregressive", "flow", "vae"]


def test_the_stability_ranking_of_003() -> None:
    families = load_tables().families
    ranked = sorted((name for name in families if families[name].stability), key=lambda name: -(families[name].stability or 0))
    assert ranked == ["vae", "diffusion", "autoregressive", "flow", "gan"]


@pytest.mark.parametrize(("mode", "hours"), [("lora", (10, 100)), ("finetune", (100, 1000))])
def test_the_tuning_hours_of_003_part_8(mode: str, hours: tuple[int, int]) -> None:
    assert load_tables().estimate.tuning[mode].hours == hours  # type: ignore[index]


@pytest.mark.parametrize("family", ["vae", "gan", "diffusion"])
def test_003_by_data_type_text_refuses_what_is_not_discrete(family: str, plan: Callable[..., Decision]) -> None:
    with pytest.raises(BriefError, match="discrete tokens"):
        plan(modality="text", side=None, override=OverrideBrief(family=family))  # type: ignore[arg-type]
