"""What becomes of an alias that a hand moved: followed, followed where its proof holds, or undone; and the tag of people."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from components.core.errors import SettingsError
from components.registry.aliases import Judge, Moves
from components.registry.approval import OURS, RequiredTag
from components.registry.release import promote, reconcile
from components.registry.state import champion_of, differences, look
from components.registry.steps import Registry
from components.registry.versions import Versions

BY = {"who": "ada", "why": "better"}
TAG = RequiredTag("approved")


def bundle(verdict: str, beside: int | None, teacher: int | None = None) -> Any:
    """As much of a bundle's record as a judge reads."""
    gates = SimpleNamespace(verdict=verdict, champion=beside and f"{beside:064x}")
    return SimpleNamespace(gates=gates, lineage=SimpleNamespace(teacher=teacher and f"{teacher:064x}"))


PROOFS = {2: bundle("pass", 1), 3: bundle("pass", 2)}


@pytest.fixture
def judged(registry: Registry, three: Versions) -> Any:
    """A registry whose team has settled `moves`; versions 1 and 2 were promoted. `proofs`: what the bundles say."""

    def make(
        moves: Moves, *, tag: RequiredTag | None = None, proofs: dict[int, Any] | None = None, promoted: int = 2
    ) -> Registry:
        earlier = replace(registry, clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))  # else a hand may be a late promotion's word
        for version in range(1, promoted + 1):
            promote(earlier, "digits", version, **BY)
        known = PROOFS | (proofs or {})
        judge = Judge(moves=moves, tag=tag, bundle_of=lambda sha256: known.get(int(sha256, 16)), tags_of=three.tags)
        return replace(registry, judge=judge)

    return make


def assert_champion(registry: Registry, version: int) -> None:
    state = look(registry, "digits")
    assert (state.name, state.alias) == ("settled", version)
    assert state.channel is not None
    assert state.channel.version == version
    assert differences(registry, state) == ()


@pytest.mark.parametrize(
    ("moves", "proof", "tag", "undone"),
    [
        ("follow", bundle("fail", 2), None, ""),
        ("follow", bundle("fail", 2), TAG, ""),
        ("proved", bundle("pass", 2), None, ""),
        ("proved", bundle("pass", 2), TAG, "which lacks the tag approved"),
        ("proved", bundle("fail", 2), None, "whose gates say fail"),
        ("proved", bundle("undecided", 2), None, "whose gates say undecided"),
        ("proved", bundle("pass", 1), None, "which was proved beside another champion than the one that is champion now"),
        ("proved", bundle("pass", None), None, "which was proved beside another champion than the one that is champion now"),
        ("proved", bundle("pass", 9, teacher=9), None, ""),
        ("proved", None, None, "whose proof cannot be read"),
        ("undo", bundle("pass", 2), None, "which no promotion made champion"),
    ],
)
def test_a_moved_alias_is_followed_or_undone(
    moves: Moves, proof: Any, tag: RequiredTag | None, undone: str, judged: Any, three: Versions
) -> None:
    registry = judged(moves, tag=tag, proofs={3: proof})
    three.set_alias("digits", "champion", 3)
    state = look(registry, "digits")
    beside = champion_of(registry, state)
    assert beside is not None
    assert beside.version == (2 if undone else 3)  # a proof is made beside what will be champion
    (line,) = differences(registry, state)
    outcome = reconcile(registry, "digits", who="ada")
    assert outcome.changed
    assert_champion(registry, 2 if undone else 3)
    entry = registry.ledger.entries("digits")[-1]
    if undone:
        assert state.name == "refused"
        assert f"version 3, {undone}" in line
        assert (entry.action, entry.to_version, entry.evidence) == ("restore", 2, {"undone": 3})
        assert undone in entry.why
        assert outcome.notes == (
            f"digits: the alias champion was on version 3, {undone}; version 2, the ledger's champion, has it back",
        )
    else:
        assert state.name == "moved"
        assert (entry.action, entry.to_version, entry.evidence["by_hand"]) == ("promote", 3, True)
        assert entry.evidence["verdict"] == proof.gates.verdict  # the ledger keeps what the gates said, whoever is followed


def test_a_way_back_to_a_former_champion_needs_no_new_proof(judged: Any, three: Versions) -> None:
    registry = judged("proved", tag=TAG)
    three.set_alias("digits", "champion", 1)
    assert reconcile(registry, "digits", who="ada").changed
    assert_champion(registry, 1)
    assert registry.ledger.entries("digits")[-1].evidence == {"by_hand": True, "approved": {"approved": None}}


def test_undo_undoes_that_too(judged: Any, three: Versions) -> None:
    registry = judged("undo")
    three.set_alias("digits", "champion", 1)
    assert reconcile(registry, "digits", who="ada").changed
    assert_champion(registry, 2)


@pytest.mark.parametrize("value", ["", "yes", "by ada"])
def test_an_approved_version_is_followed(value: str, judged: Any, three: Versions) -> None:
    registry = judged("proved", tag=TAG)
    three._client.set_model_version_tag("digits", "3", "approved", value)
    three.set_alias("digits", "champion", 3)
    assert reconcile(registry, "digits", who="ada").changed
    assert_champion(registry, 3)
    assert registry.ledger.entries("digits")[-1].evidence["approved"] == {"approved": value}


@pytest.mark.parametrize(("moves", "after"), [("follow", "removed"), ("proved", "settled"), ("undo", "settled")])
def test_a_removed_alias_is_put_back_where_hands_are_judged(moves: Moves, after: str, judged: Any, three: Versions) -> None:
    registry = judged(moves)
    three.drop_alias("digits", "champion")
    outcome = reconcile(registry, "digits", who="ada")
    assert look(registry, "digits").name == after
    if after == "settled":
        assert outcome.notes == ("digits: the alias champion was removed; version 2, the ledger's champion, has it back",)
        assert registry.ledger.entries("digits")[-1].why == "the alias champion was removed by hand in MLflow"


def test_where_nothing_was_promoted_nobody_has_the_alias(judged: Any, three: Versions) -> None:
    registry = judged("proved", proofs={3: bundle("fail", None)}, promoted=0)
    three.set_alias("digits", "champion", 3)
    (line,) = differences(registry, look(registry, "digits"))
    assert line.endswith("nothing was promoted yet; `genwright reconcile digits` removes it")
    outcome = reconcile(registry, "digits", who="ada")
    assert outcome.notes == ("digits: the alias champion was taken from version 3, whose gates say fail",)
    assert "champion" not in three.aliases("digits")
    assert registry.ledger.entries("digits") == []


def test_a_first_champion_by_hand_is_followed_where_its_proof_holds(judged: Any, three: Versions) -> None:
    registry = judged("proved", proofs={3: bundle("pass", None)}, promoted=0)
    three.set_alias("digits", "champion", 3)
    assert reconcile(registry, "digits", who="ada").changed
    assert_champion(registry, 3)


def test_a_promotion_puts_back_what_is_undone_first(judged: Any, three: Versions) -> None:
    registry = judged("undo")
    three.set_alias("digits", "champion", 1)
    assert promote(registry, "digits", 3, **BY).changed
    assert_champion(registry, 3)
    told = [(entry.action, entry.from_version, entry.to_version) for entry in registry.ledger.entries("digits")[2:]]
    assert told == [("restore", 2, 2), ("promote", 2, 3)]


@pytest.mark.parametrize(
    ("text", "on", "off"),
    [
        (
            "approved",
            [{"approved": ""}, {"approved": "yes"}, {"approved": "true"}],
            [{}, {"approved": "No"}, {"approved": "false"}],
        ),
        ("qa = signed", [{"qa": "signed"}], [{}, {"qa": ""}, {"qa": "Signed"}, {"other": "signed"}]),
    ],
)
def test_a_tag_is_on_or_not(text: str, on: list[dict[str, str]], off: list[dict[str, str]]) -> None:
    tag = RequiredTag.parse(text)
    assert all(tag.is_on(each) for each in on)
    assert not any(tag.is_on(each) for each in off)


@pytest.mark.parametrize("text", ["", "=yes", "a\nb", "a'b", "x" * 251, "mlflow.note", "prefect.flow_run_id", *OURS])
def test_a_tag_that_people_cannot_set_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="GENWRIGHT_REQUIRED_TAG"):
        RequiredTag.parse(text)
