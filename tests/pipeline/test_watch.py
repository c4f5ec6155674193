"""Versions that people approve in MLflow and aliases that they move there, as `genwright watch` and the commands see them."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.core.records import LedgerEntry, Release, StoredBundle
from components.pipeline import existing, release_commands, stages
from components.pipeline.backends import Backends
from components.pipeline.endings import judged
from components.pipeline.lease import lease
from components.pipeline.notices import FOLLOWED, PROMOTED, UNDONE
from components.pipeline.receiver import Hints
from components.pipeline.run import Produced, Proof, Run, Trained, record_key
from components.pipeline.watch import Watcher
from components.registry.mlflow_store import connect
from components.registry.release import promote
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command

APPROVED = {"GENWRIGHT_REQUIRED_TAG": "approved"}
HOW = "set the tag approved on version 2 of digits in MLflow: `genwright watch` promotes it then, or `genwright promote digits/2`"


def backends_of(home: Path, **settings: Any) -> Backends:
    return Backends(Settings(home=home, actor="watcher", **settings))


@pytest.fixture
def second(home: Path, registered_as: Callable[..., Release]) -> Callable[..., Release]:
    """Registers version 2 of digits, the candidate, whose gates say `verdict` beside version 1 (or `beside` another)."""

    def register(verdict: str = "pass", beside: str | None = None) -> Release:
        backends = backends_of(home)
        one = backends.versions.get("digits", 1)
        _, bundle = release_commands.bundle_of(one, backends)
        gates = bundle.gates.model_copy(update={"verdict": verdict, "champion": beside or one.bundle_sha256})
        release = registered_as("digits", gates=gates)
        backends.versions.set_alias("digits", "candidate", release.version)
        return release

    return register


def tag(home: Path, version: int = 2, value: str = "yes") -> None:
    """As a person does in MLflow's page."""
    connect(f"sqlite:///{home / 'mlflow.db'}").set_model_version_tag("digits", str(version), "approved", value)


def by_hand(home: Path, version: int) -> None:
    connect(f"sqlite:///{home / 'mlflow.db'}").set_registered_model_alias("digits", "champion", str(version))


def aliases(home: Path) -> dict[str, int]:
    return backends_of(home).versions.aliases("digits")


def watched(home: Path, **settings: Any) -> tuple[list[str], list[str]]:
    """The lines and the events of one look at all models."""
    lines: list[str] = []
    events: list[str] = []
    watcher = Watcher(
        backends_of(home, **settings), (), lines.append, lambda notices: events.extend(each.event for each in notices)
    )
    watcher.once()
    watcher.once()  # nothing is done or said twice
    return lines, events


def test_a_version_waits_for_its_tag_and_is_promoted_once_it_is_there(cli: "Command", home: Path, second: Any) -> None:
    second()
    cli("promote", "digits/2", **APPROVED).refused(3, "digits version 2 passed every gate and waits for the tag approved", HOW)
    assert watched(home, required_tag="approved") == ([], [])
    tag(home, value="no")
    assert watched(home, required_tag="approved") == ([], [])
    tag(home)
    assert watched(home, required_tag="approved") == (["digits version 2 has the tag approved and is champion now"], [PROMOTED])
    assert aliases(home) == {"champion": 2, "previous": 1}
    entry = LedgerEntry.model_validate(cli("history", "digits", "--json").json()[-1])
    assert (entry.action, entry.to_version, entry.who) == ("promote", 2, "watcher")
    assert entry.why == "every gate passed, and the tag approved was set in MLflow"
    assert entry.evidence["approved"] == {"approved": "yes"}
    assert entry.evidence["verdict"] == "pass"


@pytest.mark.slow
def test_a_person_may_promote_what_is_approved_and_force_what_is_not(cli: "Command", home: Path, second: Any) -> None:
    second()
    tag(home)
    assert cli("promote", "digits/2", **APPROVED).code == 0
    assert aliases(home)["champion"] == 2
    assert cli("rollback", "digits", **APPROVED).code == 0  # what was champion before needs no tag
    tag(home, value="false")
    assert cli("promote", "digits/2", **APPROVED).code == 0
    assert cli("promote", "digits/1", "--force", "--why", "fire", **APPROVED).code == 0


def test_what_was_rolled_back_is_not_promoted_again(cli: "Command", home: Path, second: Any) -> None:
    second()
    tag(home)
    watched(home, required_tag="approved")
    assert cli("rollback", "digits").code == 0
    assert watched(home, required_tag="approved") == ([], [])
    assert aliases(home)["champion"] == 1


@pytest.mark.parametrize(
    ("verdict", "beside", "lack"),
    [("fail", None, "whose gates say fail"), ("pass", "0" * 64, "which was proved beside another champion than the one that is")],
)
def test_a_tag_alone_promotes_nothing(verdict: str, beside: str | None, lack: str, home: Path, second: Any) -> None:
    second(verdict, beside)
    tag(home)
    lines, events = watched(home, required_tag="approved")
    assert events == []
    (line,) = lines
    assert line.startswith(f"digits version 2 has the tag approved and stays a candidate: it is one {lack}")
    assert aliases(home)["champion"] == 1


@pytest.mark.parametrize(
    ("moves", "verdict", "champion", "event"),
    [
        ("proved", "fail", 1, UNDONE),
        pytest.param("follow", "fail", 2, FOLLOWED, marks=pytest.mark.slow),
        pytest.param("proved", "pass", 2, FOLLOWED, marks=pytest.mark.slow),
        pytest.param("undo", "pass", 1, UNDONE, marks=pytest.mark.slow),
    ],
)
def test_a_hand_is_followed_or_undone(
    moves: str, verdict: str, champion: int, event: str, home: Path, second: Any, cli: "Command"
) -> None:
    second(verdict)
    by_hand(home, 2)
    lines, events = watched(home, hand_moves=moves)
    assert (len(lines), events) == (1, [event])
    assert aliases(home)["champion"] == champion
    backends = backends_of(home)
    found = backends.channels.read("digits")
    assert found is not None
    assert found[0].version == champion
    assert cli("history", "digits").err == ""
    assert existing.disagreements("digits", backends) == ()


def test_commands_judge_hands_as_the_watcher_does(cli: "Command", home: Path, second: Any) -> None:
    second("fail")
    by_hand(home, 2)
    proved = {"GENWRIGHT_HAND_MOVES": "proved"}
    said = " ".join(cli("history", "digits", **proved).out.split())
    assert "the alias champion is on version 2, whose gates say fail; the ledger's champion is version 1" in said
    done = cli("reconcile", "digits", **proved)
    assert "version 1, the ledger's champion, has it back" in done.out
    assert aliases(home)["champion"] == 1
    cli("history", "digits", GENWRIGHT_HAND_MOVES="sometimes").refused(2, "GENWRIGHT_HAND_MOVES", "'follow', 'proved' or 'undo'")
    cli("history", "digits", GENWRIGHT_REQUIRED_TAG="verdict").refused(2, "GENWRIGHT_REQUIRED_TAG: 'verdict'", "NAME=VALUE")


@pytest.mark.parametrize(("ago", "champion"), [(timedelta(0), 1), (timedelta(hours=1), 2)])
def test_a_promotion_that_was_killed_is_finished_and_one_under_way_let_alone(
    ago: timedelta, champion: int, home: Path, second: Any
) -> None:
    release, backends = second(), backends_of(home)

    def dies(step: str) -> None:
        raise KeyboardInterrupt

    killed = replace(backends.registry, after=dies, clock=lambda: datetime.now(UTC) - ago)
    with pytest.raises(KeyboardInterrupt):
        promote(killed, "digits", release.version, who="ada", why="better")
    watched(home)
    assert aliases(home)["champion"] == champion


def test_other_tools_models_are_let_alone(home: Path) -> None:
    client = connect(f"sqlite:///{home / 'mlflow.db'}")
    client.create_registered_model("theirs")
    client.create_model_version("theirs", "s3://elsewhere")
    client.set_registered_model_alias("theirs", "champion", "1")
    assert watched(home, hand_moves="undo") == ([], [])
    assert client.get_registered_model("theirs").aliases == {"champion": 1}


def test_a_hint_has_its_model_looked_at_and_the_clock_all(home: Path, second: Any) -> None:
    second("fail")
    by_hand(home, 2)
    lines: list[str] = []
    hints = Hints()
    watcher = Watcher(backends_of(home, hand_moves="proved"), (), lines.append)
    assert watcher.once({"faces"}) == []
    assert aliases(home)["champion"] == 2
    (found,) = watcher.once({"digits", "faces"})
    assert found.model == "digits"
    assert aliases(home)["champion"] == 1
    by_hand(home, 2)

    class Enough(Exception):
        pass

    def say(line: str) -> None:
        raise Enough

    watcher.say = say
    with contextlib.suppress(Enough):
        watcher.said.clear()
        watcher.run(hints, every_s=3600)
    assert aliases(home)["champion"] == 1


def test_what_fails_is_said_once_and_tried_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    lines: list[str] = []
    watcher = Watcher(backends_of(home, tracking_uri="http://127.0.0.1:9"), (), lines.append)
    assert [watcher.once(), watcher.once()] == [[], []]
    (line,) = lines
    assert "nothing answers there" in line


def _stage(home: Path, backends: Backends, release: Release) -> Produced:
    """The stage `promote` for the first production's record, as if it had made this release."""
    workspace = backends.workspace
    (key,) = [key for key in backends.store.list("runs/digits/") if key.endswith("/run.json")]
    run = workspace.read(key, Run)
    assert run is not None
    trained, proof = (workspace.read(record_key(run, name), kind) for name, kind in (("train", Trained), ("prove", Proof)))
    assert isinstance(trained, Trained)
    assert isinstance(proof, Proof)
    _, bundle = release_commands.bundle_of(release, backends)
    proof = proof.model_copy(update={"gates": bundle.gates})
    with lease("digits", backends) as held:
        stored = StoredBundle(sha256=release.bundle_sha256, bundle=bundle)
        return stages.promote(run, held, trained, stored, release, proof, backends)


def test_the_end_of_a_run_without_its_tag_is_a_state_of_its_own(home: Path, second: Any) -> None:
    release, backends = second(), backends_of(home, required_tag="approved")
    produced = _stage(home, backends, release)
    assert (produced.promoted, produced.awaits) == (False, "approved")
    assert aliases(home) == {"candidate": 2, "champion": 1}
    ending = judged(None, produced)
    assert (ending.name, ending.error) == ("Proposed", None)
    assert ending.sentence == f"digits version 2 passed every gate and stays a candidate: {HOW}"
    (key,) = [key for key in backends.store.list("runs/digits/") if key.endswith("/run.json")]
    run = backends.workspace.read(key, Run)
    assert run is not None
    known = existing.find_existing_result(run, backends)
    assert known is not None
    assert existing.nothing_to_do(run, known, backends).endswith("digits version 2, which waits for the tag approved")
    tag(home)
    assert existing.find_existing_result(run, backends) is None  # its promotion is to be done: the same command does it
    assert _stage(home, backends, release).promoted
    assert aliases(home)["champion"] == 2


@pytest.mark.slow
def test_a_run_that_was_approved_and_rolled_back_stays_so(home: Path, second: Any, cli: "Command") -> None:
    release, backends = second(), backends_of(home, required_tag="approved")
    _stage(home, backends, release)
    tag(home)
    watched(home, required_tag="approved")
    (key,) = [key for key in backends.store.list("runs/digits/") if key.endswith("/run.json")]
    run = backends.workspace.read(key, Run)
    assert run is not None
    assert cli("rollback", "digits").code == 0
    known = existing.find_existing_result(run, backends)
    assert known is not None
    assert existing.nothing_to_do(run, known, backends).endswith("which is not the champion")
