"""What hands do to the alias champion in MLflow: each state has a name, a line that says what to do, and a way out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import BundleError, UnknownModel
from components.core.records import Channel, Release
from components.registry.release import promote, reconcile, rollback
from components.registry.state import champion_of, differences, look
from components.registry.steps import Registry
from components.registry.versions import Versions

BY = {"who": "ada", "why": "better"}
FOREIGN = 4
STEPS = ("ledger", "previous", "champion", "candidate", "channel")


@pytest.fixture
def lost() -> set[str]:
    """Digests whose bundles the store has lost."""
    return set()


@pytest.fixture
def two(registry: Registry, lost: set[str]) -> Registry:
    """Versions 1 and 2 were promoted, 2 is champion; `lost` bundles are missing."""
    registry = replace(registry, has_bundle=lambda sha256: sha256 not in lost)
    promote(registry, "digits", 1, **BY)
    promote(registry, "digits", 2, **BY)
    return registry


def by_hand(three: Versions, alias: str = "champion") -> None:
    """What a person does in MLflow's page: a version of their own, and an alias on it."""
    three._client.create_model_version("digits", "s3://elsewhere")
    three.set_alias("digits", alias, FOREIGN)


def name(registry: Registry) -> str:
    return look(registry, "digits").name


def assert_champion(registry: Registry, version: int) -> None:
    state = look(registry, "digits")
    assert (state.name, state.alias) == ("settled", version)
    assert state.channel is not None
    assert state.channel.version == version
    assert differences(registry, state) == ()


def test_a_foreign_champion_is_seen(two: Registry, three: Versions) -> None:
    by_hand(three)
    state = look(two, "digits")
    assert (state.name, state.alias, state.champion) == ("foreign", FOREIGN, None)
    assert differences(two, state) == (
        "digits: the alias champion is on version 4, which genwright did not make; the ledger's champion is version 2; "
        "`genwright reconcile digits` puts it back",
    )
    beside = champion_of(two, state)
    assert beside is not None
    assert (beside.version, beside.bundle_sha256) == (2, f"{2:064x}")


@pytest.mark.parametrize("do", ["reconcile", "rollback"])
def test_the_ledgers_champion_is_put_back_with_an_entry(two: Registry, three: Versions, do: str) -> None:
    by_hand(three)
    outcome = reconcile(two, "digits", who="ada") if do == "reconcile" else rollback(two, "digits", **BY)
    assert outcome.changed
    assert outcome.notes == (
        "digits: the alias champion was on version 4, which genwright did not make; "
        "version 2, the ledger's champion, has it back",
    )
    assert_champion(two, 2)
    entry = two.ledger.entries("digits")[-1]
    assert (entry.action, entry.from_version, entry.to_version, entry.who) == ("restore", 2, 2, "ada")
    assert entry.evidence == {"foreign": FOREIGN}
    assert three.aliases("digits")["previous"] == 1
    assert rollback(two, "digits", **BY).notes == ()  # and now a step back
    assert_champion(two, 1)


def test_other_commands_put_it_back_first(two: Registry, three: Versions) -> None:
    by_hand(three)
    outcome = promote(two, "digits", 3, **BY)
    assert len(outcome.notes) == 1
    assert_champion(two, 3)
    three.set_alias("digits", "champion", FOREIGN)
    assert rollback(two, "digits", **BY, to=1).changed
    assert_champion(two, 1)
    three.set_alias("digits", "champion", FOREIGN)
    again = promote(two, "digits", 1, **BY)  # the ledger's own champion
    assert (again.changed, len(again.notes)) == (True, 1)
    assert_champion(two, 1)
    told = [(entry.action, entry.to_version) for entry in two.ledger.entries("digits")[2:]]
    assert told == [("restore", 2), ("promote", 3), ("restore", 3), ("rollback", 1), ("restore", 1)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("do", ["reconcile", pytest.param("rollback", marks=pytest.mark.slow)])
def test_putting_back_may_be_killed_after_any_step(
    do: str, step: str, two: Registry, three: Versions, forks: Any, tracking_uri: str, tmp_path: Path
) -> None:
    by_hand(three)
    job = {"tracking_uri": tracking_uri, "store": str(tmp_path / "store")}
    assert forks.run(do, **job, kill_after=step) == -9
    assert forks.run("reconcile" if step == "channel" else do, **job) == 0
    assert_champion(two, 2)
    assert [entry.action for entry in two.ledger.entries("digits")] == ["promote", "promote", "restore"]


def test_a_version_whose_bundle_is_lost_is_foreign_too(two: Registry, three: Versions, lost: set[str]) -> None:
    lost.add(f"{3:064x}")
    three.set_alias("digits", "champion", 3)
    (line,) = differences(two, look(two, "digits"))
    assert "version 3, whose bundle 000000000000 is not in the store; the ledger's champion is version 2" in line
    assert reconcile(two, "digits", who="ada").changed
    assert_champion(two, 2)


def test_what_has_no_bundle_cannot_be_promoted_or_gone_back_to(two: Registry, lost: set[str]) -> None:
    lost |= {f"{1:064x}", f"{3:064x}"}
    for refused in (lambda: promote(two, "digits", 3, **BY), lambda: rollback(two, "digits", **BY)):
        with pytest.raises(BundleError, match=r"digits version \d: its bundle 000000000000 is not in the store; put it back"):
            refused()
    assert len(two.ledger.entries("digits")) == 2
    assert_champion(two, 2)


def test_a_champion_whose_bundle_is_lost_is_told(two: Registry, three: Versions, lost: set[str]) -> None:
    lost.add(f"{2:064x}")
    assert name(two) == "settled"
    (line,) = reconcile(two, "digits", who="ada").notes
    assert "bundle 000000000000 of version 2 is not in the store" in line
    by_hand(three)  # and now it cannot be put back
    outcome = reconcile(two, "digits", who="ada")
    assert (outcome.release, outcome.changed) == (None, False)
    assert promote(two, "digits", 1, **BY).changed
    assert_champion(two, 1)


def test_a_foreign_champion_may_be_first(registry: Registry, three: Versions) -> None:
    by_hand(three)
    (line,) = reconcile(registry, "digits", who="ada").notes
    assert line.endswith("nothing was promoted yet; what is promoted next takes the alias")
    assert champion_of(registry, look(registry, "digits")) is None
    with pytest.raises(UnknownModel, match="no previous version"):
        rollback(registry, "digits", **BY)
    assert promote(registry, "digits", 1, **BY).notes == (line,)
    assert_champion(registry, 1)
    assert [entry.from_version for entry in registry.ledger.entries("digits")] == [None]


def test_a_foreign_previous_is_passed_over(two: Registry, three: Versions) -> None:
    by_hand(three, "previous")
    assert rollback(two, "digits", **BY).release == three.get("digits", 1)
    assert_champion(two, 1)


def test_a_hand_that_goes_back_at_once_is_a_hand(two: Registry, three: Versions) -> None:
    """And not for ever the late word of a writer that was overtaken."""
    three.set_alias("digits", "champion", 1)
    assert name(two) == "moved"
    assert reconcile(two, "digits", who="ada").changed
    assert_champion(two, 1)
    assert two.ledger.entries("digits")[-1].evidence == {"by_hand": True}


def moved(registry: Registry, three: Versions) -> None:
    three.set_alias("digits", "champion", 3)


def removed(registry: Registry, three: Versions) -> None:
    three.drop_alias("digits", "champion")


def deleted(registry: Registry, three: Versions) -> None:
    three._client.delete_model_version("digits", "2")


def rebuilt(registry: Registry, three: Versions) -> None:
    three._client.delete_registered_model("digits")


def edited(registry: Registry, three: Versions) -> None:
    found = registry.channels.read("digits")
    assert found is not None
    registry.channels.swap(Channel(model="digits", version=9, bundle_sha256="9" * 64, sequence=2), expected=found[1])


def unfinished(registry: Registry, three: Versions) -> None:
    def dies(step: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(replace(registry, after=dies), "digits", 3, **BY)


@pytest.mark.parametrize(
    ("hand", "named", "beside", "told"),
    [
        (moved, "moved", 3, "a hand in MLflow set the alias champion on version 3; the ledger's champion is version 2"),
        (removed, "removed", 2, "the alias champion was removed; the channel still serves bundle"),
        (deleted, "deleted", 2, "version 2 was deleted in MLflow and its alias champion with it; the channel still serves"),
        (rebuilt, "deleted", 2, "version 2 was deleted in MLflow"),
        (edited, "settled", 2, "the channel names version 9; the ledger's champion is version 2; `genwright reconcile digits`"),
        (unfinished, "unfinished", 3, r"ledger entry 3 (promote, version 3) is not in effect yet; `genwright reconcile digits`"),
    ],
)
def test_every_difference_is_named(
    hand: Callable[[Registry, Versions], None], named: str, beside: int, told: str, two: Registry, three: Versions
) -> None:
    assert differences(two, look(two, "digits")) == ()
    hand(two, three)
    state = look(two, "digits")
    assert state.name == named
    (line,) = differences(two, state)
    assert line.startswith("digits: ")
    assert told in line
    champion: Release | None = champion_of(two, state)
    assert champion is not None
    assert (champion.version, champion.bundle_sha256) == (beside, f"{beside:064x}")


def test_there_is_no_champion_where_nothing_was_promoted(registry: Registry, three: Versions) -> None:
    state = look(registry, "digits")
    assert (state.name, champion_of(registry, state), differences(registry, state)) == ("none", None, ())


def test_a_champion_taken_away_whose_bundle_is_lost_holds_up_nothing(two: Registry, three: Versions, lost: set[str]) -> None:
    removed(two, three)
    lost.add(f"{2:064x}")
    assert champion_of(two, look(two, "digits")) is None
