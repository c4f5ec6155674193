"""A team lays its own file over the tables; what is wrong in it is said in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import SettingsError
from components.core.records import Facts
from components.families import cards
from components.policy.decide import decide
from components.policy.rows import Rule
from components.policy.tables import RULE_TABLES, Tables, load_tables

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "policy.yaml"
        path.write_text(text)
        return path

    return written


def test_every_source_is_used_and_every_rule_cites(facts_of: Callable[..., Facts]) -> None:
    tables = load_tables()
    rules: list[Rule] = [rule for name in RULE_TABLES for rule in getattr(tables, name).values()]
    rules += [rule for rows in tables.rejections.values() for rule in rows.values()]
    others = [*tables.families.values(), *tables.variants.values(), tables.tiers]
    used = {key for row in [*rules, *others] for key in row.source}  # type: ignore[attr-defined]
    ours = {"design-brief", "design-evidence", "card"}  # named by code: what overrides, and what was measured
    assert used | ours == set(tables.sources)


def test_the_same_tables_are_read_once() -> None:
    assert load_tables() is load_tables()


def test_an_empty_file_changes_nothing(write: Write) -> None:
    assert load_tables(write("{}")) == load_tables()


def test_a_bound_is_merged(write: Write, facts_of: Callable[..., Facts]) -> None:
    tables = load_tables(write("tiers: {items_big: 1000}"))
    assert tables.tiers.bounds == load_tables().tiers.bounds
    made = facts_of(items=2_000)
    assert decide(made, cards={}).family == "vae"
    assert decide(made, cards={}, tables=tables).family == "diffusion"


def test_a_new_row_is_asked_first(write: Write, facts_of: Callable[..., Facts]) -> None:
    text = """
sources: {house: "Our house rules, 2"}
choices:
  house.flow: {when: {goal: stability, tier: small}, choose: flow, text: "we know flows, {side} px or not", source: house}
"""
    decision = decide(facts_of(goal="stability"), cards={}, tables=load_tables(write(text)))
    assert decision.family == "flow"
    reason = next(reason for reason in decision.reasons if reason.rule == "house.flow")
    assert (reason.text, reason.source) == ("we know flows, 32 px or not", "Our house rules, 2")


def test_null_removes_a_row(write: Write, facts_of: Callable[..., Facts]) -> None:
    tables = load_tables(write("hard: {side-over-64: null}"))
    assert "side-over-64" not in tables.hard
    assert [name for name in load_tables().hard if name != "side-over-64"] == list(tables.hard)


def test_a_condition_is_replaced_whole(write: Write) -> None:
    tables = load_tables(write("choices: {goal.latent: {when: {goal: latent, tier: tiny}}}"))
    assert tables.choices["goal.latent"].when == {"goal": "latent", "tier": "tiny"}
    assert tables.choices["goal.latent"].choose == "vae"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonesuch: {}", "no table 'nonesuch'; allowed: sources"),
        ("- a list", "a mapping of tables is needed"),
        ("choices: [", "not YAML"),
        ("tiers: {items_big: many}", "tiers.items_big"),
        ("choices: {x: {choose: vae, text: t}}", "choices.x.source"),
        ("choices: {x: {choose: vae, text: t, source: nowhere}}", "'nowhere'"),
        ("choices: {x: {choose: poetry, text: t, source: card}}", "choices.x.choose"),
        ("choices: {x: {when: {colour: red}, choose: vae, text: t, source: card}}", "'colour' is no attribute"),
        ("choices: {x: {when: {goal: fame}, choose: vae, text: t, source: card}}", "goal cannot be 'fame'"),
        ("choices: {x: {when: {side: big}, choose: vae, text: t, source: card}}", "side takes a range"),
        ("choices: {x: {when: {likelihood: maybe}, choose: vae, text: t, source: card}}", "likelihood takes true or false"),
        ("choices: {x: {when: {side: {}}, choose: vae, text: t, source: card}}", "side"),
        ("choices: {x: {choose: vae, text: 'on {moon}', source: card}}", "no attribute 'moon'"),
        ("hard: {x: {keep: {colour: red}, text: t, source: card}}", "'colour' is no attribute"),
        ("rejections: {vae: {otherwise: null}}", "rejections.vae"),
        ("deliveries: {delivery.many-step: null}", "deliveries"),
        ("variant_rules: {x: {family: vae, variant: nonesuch, text: t, source: card}}", "no variant vae/nonesuch"),
        (
            "variants: {loose: {modalities: [image], conditioning: [none], likelihood: none, steps: 1, source: card}}",
            "FAMILY/VARIANT",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write: Write, text: str, words: str) -> None:
    path = write(text)
    with pytest.raises(SettingsError) as caught:
        load_tables(path)
    line = str(caught.value)
    assert words in line
    assert str(path) in line
    assert "\n" not in line


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_tables(tmp_path / "none.yaml")


def test_tables_are_plain_data() -> None:
    assert Tables.model_validate_json(load_tables().model_dump_json()) == load_tables()


STRENGTH = ("none", "bound", "exact")


def test_likelihoods_of_the_tables_are_those_of_the_cards() -> None:
    """What a family is said to have, one of its variants has; and the row of a built variant says what its card says."""
    known, tables = {key: card for key, (card, _, _) in cards().items()}, load_tables()
    said = {name: tables.variants[name].likelihood for name in map("/".join, known) if name in tables.variants}
    assert said == {
        name: card.likelihood for name, card in zip(map("/".join, known), known.values(), strict=True) if name in said
    }
    assert len(said) > 20
    for family in {family for family, _ in known}:
        best = max((card.likelihood for (name, _), card in known.items() if name == family), key=STRENGTH.index)
        assert tables.families[family].likelihood == best, family
