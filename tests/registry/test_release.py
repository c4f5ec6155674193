"""Promotion, rollback and repair: the laws, and every step killed for real."""

from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import GateRefused, RegistryError, RunError, UnknownModel
from components.core.records import Channel, Release
from components.registry.release import promote, reconcile, rollback
from components.registry.steps import Registry
from components.registry.versions import Versions

STEPS = ("ledger", "previous", "champion", "candidate", "channel")
BY = {"who": "ada", "why": "better"}


def champion_of(registry: Registry) -> dict[str, int]:
    return {alias: release.version for release in registry.versions.releases("digits") for alias in release.aliases}


def assert_settled(registry: Registry, version: int) -> None:
    """Alias, channel and ledger agree on the version, and the ledger is a chain without gaps."""
    entries = registry.ledger.entries("digits")
    found = registry.channels.read("digits")
    assert found is not None
    assert champion_of(registry)["champion"] == version == found[0].version == entries[-1].to_version
    assert found[0].sequence == entries[-1].sequence == len(entries)
    assert found[0].bundle_sha256 == entries[-1].to_bundle == f"{version:064x}"
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    assert all(later.from_version == earlier.to_version for earlier, later in pairwise(entries))


def test_promote_sets_everything_once(registry: Registry, three: Versions) -> None:
    when = datetime(2026, 11, 21, 12, tzinfo=UTC)
    registry = Registry(versions=registry.versions, ledger=registry.ledger, channels=registry.channels, clock=lambda: when)
    three.set_alias("digits", "candidate", 1)
    outcome = promote(registry, "digits", 1, **BY, evidence={"distance_ratio": 0.9})
    assert outcome.changed
    assert outcome.entry is not None
    assert outcome.entry.model_dump(exclude={"to_bundle"}) == {
        "sequence": 1,
        "model": "digits",
        "action": "promote",
        "from_version": None,
        "from_bundle": None,
        "to_version": 1,
        "who": "ada",
        "when": "2026-11-21T12:00:00+00:00",
        "why": "better",
        "evidence": {"distance_ratio": 0.9},
    }
    assert champion_of(registry) == {"champion": 1}
    three.set_alias("digits", "candidate", 3)
    assert promote(registry, "digits", 2, **BY).changed
    assert champion_of(registry) == {"champion": 2, "previous": 1, "candidate": 3}  # another's candidacy stands
    again = promote(registry, "digits", 2, **BY)
    assert not again.changed
    assert again.release is not None
    assert again.release.version == 2
    assert_settled(registry, 2)
    assert len(registry.ledger.entries("digits")) == 2


def test_steps_come_in_the_promised_order(registry: Registry, three: Versions) -> None:
    done: list[str] = []
    registry = Registry(versions=three, ledger=registry.ledger, channels=registry.channels, after=done.append)
    promote(registry, "digits", 1, **BY)
    assert tuple(done) == STEPS


def test_rollbacks_walk_back_and_never_forward(registry: Registry, three: Versions) -> None:
    for version in (1, 2, 3):
        promote(registry, "digits", version, **BY)
    assert rollback(registry, "digits", **BY).release == three.get("digits", 2)
    assert_settled(registry, 2)
    assert champion_of(registry) == {"champion": 2, "previous": 1}
    rollback(registry, "digits", **BY)
    assert_settled(registry, 1)
    with pytest.raises(UnknownModel, match="digits has no previous version to roll back to; allowed: versions 1, 2, 3; name one"):
        rollback(registry, "digits", **BY)
    assert rollback(registry, "digits", **BY, to=3).changed
    assert not rollback(registry, "digits", **BY, to=3).changed
    assert_settled(registry, 3)
    assert champion_of(registry)["previous"] == 2
    assert [entry.action for entry in registry.ledger.entries("digits")] == ["promote"] * 3 + ["rollback"] * 3


def test_rollback_skips_a_previous_version_that_was_deleted(registry: Registry, three: Versions) -> None:
    for version in (1, 2, 3):
        promote(registry, "digits", version, **BY)
    three._client.delete_model_version("digits", "2")
    reconcile(registry, "digits", who="cron")
    assert rollback(registry, "digits", **BY).release == three.get("digits", 1)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("command", ["promote", "rollback"])
@pytest.mark.parametrize("then", ["the same", pytest.param("reconcile", marks=pytest.mark.slow)])
def test_killed_after_a_step(
    command: str, then: str, step: str, registry: Registry, three: Versions, forks: Any, tracking_uri: str, tmp_path: Path
) -> None:
    for version in (1, 2):
        promote(registry, "digits", version, **BY)
    three.set_alias("digits", "candidate", 3)
    before, after = (2, 3) if command == "promote" else (2, 1)
    job = {"tracking_uri": tracking_uri, "store": str(tmp_path / "store"), "version": 3 if command == "promote" else None}
    assert forks.run(command, **job, kill_after=step) == -9
    served = registry.channels.read("digits")
    assert served is not None
    assert served[0].version == (after if step == "channel" else before)
    if step == "channel" and command == "rollback":
        then = "reconcile"  # it was done: the same command again is a second rollback
    assert forks.run(command if then == "the same" else "reconcile", **job) == 0
    assert_settled(registry, after)
    assert len(registry.ledger.entries("digits")) == 3
    assert len(three.releases("digits")) == 3
    expected = {"champion": 3, "previous": 2} if command == "promote" else {"champion": 1, "candidate": 3}
    assert champion_of(registry) == expected


def test_a_promotion_killed_half_way_can_be_overtaken_or_undone(registry: Registry, three: Versions) -> None:
    class Killed(BaseException):
        pass

    def dies(step: str) -> None:
        if step == "ledger":
            raise Killed

    dying = Registry(versions=three, ledger=registry.ledger, channels=registry.channels, after=dies)
    promote(registry, "digits", 1, **BY)
    with pytest.raises(Killed):
        promote(dying, "digits", 2, **BY)
    outcome = rollback(registry, "digits", **BY)
    assert outcome.entry is not None
    assert (outcome.entry.from_version, outcome.entry.to_version) == (2, 1)
    assert_settled(registry, 1)
    with pytest.raises(Killed):
        promote(dying, "digits", 2, **BY)
    promote(registry, "digits", 3, **BY)
    assert champion_of(registry) == {"champion": 3, "previous": 1}
    assert registry.ledger.entries("digits")[-1].from_version == 1  # 2 never reigned


def test_a_hand_in_mlflow_is_noted_and_followed(registry: Registry, three: Versions) -> None:
    promote(registry, "digits", 1, **BY)
    three.set_alias("digits", "champion", 3)
    outcome = reconcile(registry, "digits", who="cron")
    assert outcome.changed
    assert outcome.notes == ("digits: champion was moved by hand in MLflow from 1 to 3; the ledger and channel follow",)
    assert outcome.entry is not None
    assert outcome.entry.who == "unknown, noted by cron"
    assert outcome.entry.evidence == {"by_hand": True}
    assert_settled(registry, 3)
    assert champion_of(registry)["previous"] == 1
    again = reconcile(registry, "digits", who="cron")
    assert (again.changed, again.notes) == (False, ())
    three.set_alias("digits", "champion", 2)
    outcome = promote(registry, "digits", 1, **BY)  # a promotion notes it too, so the chain has no gap
    assert len(outcome.notes) == 1
    assert_settled(registry, 1)


def test_a_hand_may_be_first(registry: Registry, three: Versions) -> None:
    assert reconcile(registry, "digits", who="cron").notes == ("digits: no version was promoted yet",)
    three.set_alias("digits", "champion", 2)
    reconcile(registry, "digits", who="cron")
    assert_settled(registry, 2)


def test_a_channel_edited_by_hand_is_put_right(registry: Registry, three: Versions) -> None:
    promote(registry, "digits", 1, **BY)
    found = registry.channels.read("digits")
    assert found is not None
    registry.channels.swap(Channel(model="digits", version=9, bundle_sha256="9" * 64, sequence=1), expected=found[1])
    assert reconcile(registry, "digits", who="cron").changed
    assert_settled(registry, 1)


def test_a_deleted_champion_is_told_in_one_line(registry: Registry, three: Versions, bundle_of: Any) -> None:
    for version in (1, 3):
        promote(registry, "digits", version, **BY)
    three._client.delete_model_version("digits", "3")
    outcome = reconcile(registry, "digits", who="cron")
    assert outcome.release is None
    assert outcome.notes == (
        "digits: version 3 was deleted in MLflow and its alias champion with it; the channel still serves bundle 000000000000; "
        "promote or roll back to choose one",
    )
    assert three.register("digits", **bundle_of(4), run_id="").version == 4
    assert promote(registry, "digits", 4, **BY).changed
    assert_settled(registry, 4)
    assert champion_of(registry)["previous"] == 1  # the deleted one cannot be gone back to


def test_the_same_number_in_a_rebuilt_registry_is_another_version(registry: Registry, three: Versions, bundle_of: Any) -> None:
    promote(registry, "digits", 1, **BY)
    three._client.delete_registered_model("digits")
    assert three.register("digits", **bundle_of(4), run_id="").version == 1
    assert promote(registry, "digits", 1, **BY).changed
    found = registry.channels.read("digits")
    assert found is not None
    assert (found[0].sequence, found[0].bundle_sha256) == (2, f"{4:064x}")


def test_a_removed_alias_comes_back_by_promoting_again(registry: Registry, three: Versions) -> None:
    promote(registry, "digits", 1, **BY)
    three.drop_alias("digits", "champion")
    assert "the alias champion was removed" in reconcile(registry, "digits", who="cron").notes[0]
    assert promote(registry, "digits", 1, **BY).changed
    assert_settled(registry, 1)
    assert len(registry.ledger.entries("digits")) == 1


def test_a_ledger_that_lost_entries_is_refused(registry: Registry, three: Versions) -> None:
    registry.channels.swap(Channel(model="digits", version=1, bundle_sha256=f"{1:064x}", sequence=7), expected=None)
    with pytest.raises(RegistryError, match="the channel names ledger entry 7, the ledger ends at 0; restore"):
        promote(registry, "digits", 1, **BY)


def test_an_overtaken_writer_yields_to_the_newer_entry(registry: Registry, three: Versions) -> None:
    """Its entry stands, so it is told so, and not that it was refused: run again it would take the newer champion's place."""

    def overtakes(step: str) -> None:
        if step == "ledger":
            promote(registry, "digits", 2, who="bob", why="faster")

    slow = Registry(versions=three, ledger=registry.ledger, channels=registry.channels, after=overtakes)
    outcome = promote(slow, "digits", 1, **BY)
    assert (outcome.changed, outcome.release and outcome.release.version) == (True, 2)
    assert outcome.notes == (
        "digits: ledger entry 1 (promote, version 1) stands; entry 2 (promote, version 2, by bob) followed at once",
    )
    assert champion_of(registry)["champion"] == 2
    found = registry.channels.read("digits")
    assert found is not None
    assert (found[0].version, found[0].sequence) == (2, 2)


def test_whatever_stops_an_entry_from_taking_effect_says_that_it_stands(registry: Registry, three: Versions) -> None:
    def fails(step: str) -> None:
        if step == "champion":
            raise RegistryError("the server is away")

    failing = Registry(versions=three, ledger=registry.ledger, channels=registry.channels, after=fails)
    line = r"digits: ledger entry 1 \(promote, version 1\) stands, but is not in effect yet: the server is away; run `genw"
    with pytest.raises(RegistryError, match=line):
        promote(failing, "digits", 1, **BY)
    assert reconcile(registry, "digits", who="ada").changed
    assert_settled(registry, 1)


def test_a_proof_counts_beside_the_champion_at_the_moment_of_writing(registry: Registry, three: Versions) -> None:
    beside_one = partial(proved_beside, 1)
    promote(registry, "digits", 1, **BY, check=partial(proved_beside, None))
    promote(registry, "digits", 2, **BY, check=beside_one)
    with pytest.raises(GateRefused):
        promote(registry, "digits", 3, **BY, check=beside_one)
    assert_settled(registry, 2)
    assert not promote(registry, "digits", 2, **BY, check=beside_one).changed  # it is champion already

    def overtakes(step: str) -> None:
        raise AssertionError(step)

    def is_first(champion: Release | None) -> None:
        proved_beside(2, champion)
        if champion is not None and len(registry.ledger.entries("digits")) == 2:
            promote(registry, "digits", 1, who="bob", why="first")

    slow = Registry(versions=three, ledger=registry.ledger, channels=registry.channels, after=overtakes)
    with pytest.raises(GateRefused):
        promote(slow, "digits", 3, **BY, check=is_first)
    assert_settled(registry, 1)


def test_who_may_not_write_any_more_finishes_nothing_either(registry: Registry, three: Versions) -> None:
    """What another left undone is written by a repetition, too."""

    def dies(step: str) -> None:
        raise KeyboardInterrupt

    def stale() -> None:
        raise RunError("another production took over")

    with pytest.raises(KeyboardInterrupt):
        promote(Registry(versions=three, ledger=registry.ledger, channels=registry.channels, after=dies), "digits", 1, **BY)
    for version in (1, 2):
        with pytest.raises(RunError, match="took over"):
            promote(registry, "digits", version, **BY, fence=stale)
    assert (champion_of(registry), registry.channels.read("digits")) == ({}, None)
    assert promote(registry, "digits", 1, **BY, fence=lambda: None).changed
    assert_settled(registry, 1)


def test_an_unfinished_promotion_is_the_champion_that_a_proof_counts_beside(registry: Registry, three: Versions) -> None:
    def dies(step: str) -> None:
        raise KeyboardInterrupt

    promote(registry, "digits", 1, **BY)
    with pytest.raises(KeyboardInterrupt):
        promote(Registry(versions=three, ledger=registry.ledger, channels=registry.channels, after=dies), "digits", 2, **BY)
    with pytest.raises(GateRefused):
        promote(registry, "digits", 3, **BY, check=partial(proved_beside, 1))
    assert promote(registry, "digits", 3, **BY, check=partial(proved_beside, 2)).changed
    assert_settled_at(registry, 3)


def proved_beside(version: int | None, champion: Release | None) -> None:
    if (champion and champion.version) != version:
        raise GateRefused("proved beside another")


TWENTY = 20


@pytest.fixture
def twenty(registry: Registry, three: Versions, bundle_of: Any) -> Registry:
    for number in range(4, TWENTY + 2):
        three.register("digits", **bundle_of(number), run_id="")
    return registry


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param(None, id="forced", marks=pytest.mark.nightly),
        pytest.param(1, id="proved beside one champion", marks=pytest.mark.slow),
    ],
)
def test_twenty_processes_promote_at_once(
    beside: int | None, twenty: Registry, forks: Any, tracking_uri: str, tmp_path: Path
) -> None:
    """Whoever was told that it is done stands in the ledger, once; whoever was refused does not; and all settles on the last."""
    promote(twenty, "digits", 1, **BY)
    job = {"tracking_uri": tracking_uri, "store": str(tmp_path / "store"), "beside": beside}
    versions = range(2, TWENTY + 2)
    for version in versions:
        forks.start("promote", **job, version=version, together=version != versions[-1])
    ends = dict(zip(versions, (forks.result() for _ in versions), strict=True))
    entries = twenty.ledger.entries("digits")
    stands = [entry.to_version for entry in entries[1:]]
    assert sorted(stands) == [version for version, code in ends.items() if code == 0]
    assert set(ends.values()) <= {0, 3}
    assert len(stands) == (TWENTY if beside is None else 1)
    assert {entry.who for entry in entries[1:]} == {"fork"}  # a writer that comes late is not taken for a hand
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    assert_settled_at(twenty, entries[-1].to_version)


def assert_settled_at(registry: Registry, version: int) -> None:
    """Alias, channel and the newest entry agree. What an entry came from need not be what the one before led to: that one may not
    have been in effect yet."""
    found, last = registry.channels.read("digits"), registry.ledger.last("digits")
    assert found is not None
    assert last is not None
    assert (champion_of(registry)["champion"], found[0].version, last.to_version) == (version, version, version)
    assert found[0].sequence == last.sequence


@pytest.mark.parametrize("do", ["promote", "rollback", "reconcile"])
def test_an_unknown_model_is_named(registry: Registry, do: str) -> None:
    commands = {
        "promote": lambda: promote(registry, "nobody", 1, **BY),
        "rollback": lambda: rollback(registry, "nobody", **BY),
        "reconcile": lambda: reconcile(registry, "nobody", who="cron"),
    }
    with pytest.raises(UnknownModel, match="no model named 'nobody'; allowed: digits"):
        commands[do]()
