"""What `genwright schedule` asks for: of a brief that any worker can clone, and nothing of the folder it was scheduled from."""

import shlex
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.core.brief import DataBrief
from components.core.errors import GenwrightError
from components.data.versions import recorded_md5
from components.pipeline.automations import event_document
from components.pipeline.backends import Backends
from components.pipeline.deployments import document, lines
from components.pipeline.schedules import Schedule, Timing, schedule_of
from flows.settings import Settings

MD5, NEWER = f"{'a' * 32}.dir", f"{'b' * 32}.dir"
POINTER = f"outs:\n- md5: {MD5}\n  size: 1\n  nfiles: 1\n  hash: md5\n  path: digits\n"
BRIEF = "name: digits\nmodality: image\ndata: {path: data/digits}\n"
SCHEDULE = 'schedule: {cron: "0 3 * * 1", timezone: Europe/Berlin, on_new_data: true, poll_minutes: 5}\n'


def git(where: Path, *arguments: str) -> str:
    own = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *own, *arguments], cwd=where, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a brief, data that DVC tracks, and a remote that has them."""
    here = tmp_path / "clone"
    for name, text in {".dvc/config": "", "data/digits.dvc": POINTER, "briefs/digits.yaml": BRIEF + SCHEDULE}.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text)
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
    git(here, "init", "-q", "-b", "main")
    git(here, "remote", "add", "origin", str(tmp_path / "origin.git"))
    pushed(here)
    return here


def pushed(here: Path) -> None:
    git(here, "add", "-A")
    git(here, "commit", "-qm", "a change")
    git(here, "push", "-q", "--set-upstream", "origin", "HEAD")


def of(folder: Path, **options: Any) -> Schedule:
    return schedule_of(folder / "briefs" / "digits.yaml", Backends(Settings(home=folder.parent / "home")), **options)


def test_a_worker_clones_the_branch_that_was_pushed(clone: Path, tmp_path: Path) -> None:
    asked = of(clone)
    assert (asked.name, asked.brief, asked.rev, asked.deep) == ("digits", "briefs/digits.yaml", "main", False)
    assert asked.repository == str(tmp_path / "origin.git")
    assert [(each.kind, each.text) for each in asked.timings] == [
        ("cron", "0 3 * * 1 Europe/Berlin"),
        ("new-data", "every 5 min"),
    ]
    written = document(asked, entrypoint="flows.produce.retrain", pool="team")
    assert str(clone) not in str(written)
    (step,) = written["pull_steps"]
    assert step == {
        "prefect.deployments.steps.git_clone": {"id": "clone", "repository": asked.repository, "branch": "main"},
    }
    assert written["parameters"] == {"brief": "briefs/digits.yaml"}
    assert [each["parameters"] for each in written["schedules"]] == [{"trigger": "cron"}, {"trigger": "new-data"}]


def test_a_new_base_is_looked_for_and_an_event_waited_for(clone: Path) -> None:
    (clone / "briefs" / "digits.yaml").write_text(
        BRIEF
        + "pretrained: {model: models:/letters@champion}\nschedule: {on_new_base: true, on_event: data.ready, poll_minutes: 5}\n"
    )
    pushed(clone)
    for asked in (of(clone), of(clone, here=True)):
        assert [(each.kind, each.text) for each in asked.timings] == [("new-base", "every 5 min")]
        assert asked.event == "data.ready"
    written = document(of(clone), entrypoint="x", pool="team")
    (poll,) = written["schedules"]
    assert (poll["slug"], poll["schedule"]["interval"], poll["parameters"]) == ("new-base", 300, {"trigger": "new-base"})
    automation = event_document("digits", "data.ready", deployment="4d4b7c29-6a0b-4a3c-9a5e-6a1c3f1a2b3c") | {"enabled": True}
    look, event = lines(written | {"paused": False}, None, automation)
    assert (look.trigger, look.when, look.paused) == ("new-base", "every 5 min", False)
    assert (event.trigger, event.when, event.next, event.paused) == ("event", "data.ready", None, False)
    (event,) = lines(written | {"paused": False, "schedules": []}, None, automation | {"enabled": False})
    assert (event.trigger, event.paused) == ("event", True)


def test_a_commit_that_is_checked_out_is_what_is_cloned(clone: Path) -> None:
    git(clone, "checkout", "-q", "--detach")
    asked = of(clone)
    assert asked.rev == git(clone, "rev-parse", "HEAD")
    (step,) = document(asked, entrypoint="x", pool="team")["pull_steps"]
    assert next(iter(step.values()))["commit_sha"] == asked.rev


def test_data_of_another_revision_needs_the_history(clone: Path) -> None:
    git(clone, "tag", "v1")
    (clone / "briefs" / "digits.yaml").write_text(BRIEF.replace("data/digits", "data/digits, rev: v1"))
    pushed(clone)
    asked = of(clone)
    assert (asked.deep, asked.timings) == (True, ())
    first, second = document(asked, entrypoint="x", pool="team")["pull_steps"]
    assert "prefect.deployments.steps.git_clone" in first
    script = second["prefect.deployments.steps.run_shell_script"]["script"]
    git(clone, "push", "-q", "--tags")
    for address in (
        asked.repository,
        f"file://{asked.repository}",
    ):  # git makes a whole clone of a path, and a shallow one of a URL
        copy = clone.parent / f"copy-{len(address)}"
        git(clone.parent, "clone", "-q", "--depth", "1", "--branch", "main", address, str(copy))
        subprocess.run(shlex.split(script), cwd=copy, check=True)
        assert git(copy, "rev-parse", "v1") == git(clone, "rev-parse", "v1")


def test_here_is_this_folder(clone: Path) -> None:
    asked = of(clone, here=True)
    assert (asked.repository, asked.rev, asked.brief) == (str(clone), None, str(clone / "briefs" / "digits.yaml"))
    (step,) = document(asked, entrypoint="x", pool="team")["pull_steps"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": str(clone)}}


def without_git(clone: Path) -> None:
    (clone / ".git").rename(clone / "no-git")


def rewritten(text: str, *, push: bool = True) -> Callable[[Path], None]:
    def change(clone: Path) -> None:
        (clone / "briefs" / "digits.yaml").write_text(text)
        if push:
            pushed(clone)

    return change


def untracked(clone: Path) -> None:
    git(clone, "rm", "-q", "data/digits.dvc")
    pushed(clone)


REFUSED: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no git": (without_git, ("in no git repository", "--here")),
    "no remote": (lambda clone: git(clone, "remote", "remove", "origin"), ("has no git remote", "git remote add origin")),
    "a password": (
        lambda clone: git(clone, "remote", "set-url", "origin", "https://me:secret@example.org/x.git"),
        ("has a password in it", "credential helper"),
    ),
    "a branch of one's own": (lambda clone: git(clone, "checkout", "-qb", "mine"), ("has no mine", "git push --set-upstream")),
    "not pushed": (rewritten(BRIEF, push=False), ("is not at", "main as it is here", "commit and push it")),
    "a folder as it lies": (rewritten(BRIEF.replace("digits}", "digits, rev: workspace}")), ("data.rev: workspace",)),
    "a folder beside it": (rewritten(BRIEF.replace("digits}", "digits, repo: ../data}")), ("is outside of", "data.repo")),
    "data elsewhere": (rewritten(BRIEF.replace("data/digits", "/srv/digits")), ("/srv/digits is outside of",)),
    "data that is not pushed": (untracked, ("DVC tracks no data/digits in what was pushed",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_worker_could_clone_is_refused_in_one_line(case: str, clone: Path) -> None:
    change, said = REFUSED[case]
    change(clone)
    with pytest.raises(GenwrightError) as refused:
        of(clone)
    line = str(refused.value)
    assert [part for part in said if part not in line] == [], line
    assert "\n" not in line
    assert "secret" not in line
    assert refused.value.exit_code == 2


def test_what_is_recorded_of_the_data_is_asked_without_fetching_it(clone: Path, tmp_path: Path) -> None:
    data = DataBrief(path="data/digits")
    assert recorded_md5(data, base=clone) == MD5
    elsewhere = DataBrief(path="data/digits", repo=(tmp_path / "origin.git").as_uri())
    assert recorded_md5(elsewhere) == MD5
    assert recorded_md5(elsewhere.model_copy(update={"path": "data/digits/part"})) == f"{MD5}/part"
    (clone / "data" / "digits.dvc").write_text(POINTER.replace(MD5, NEWER))
    pushed(clone)
    assert recorded_md5(elsewhere) == NEWER
    with pytest.raises(GenwrightError, match=r"DVC tracks no data/letters at HEAD; check data\.repo"):
        recorded_md5(elsewhere.model_copy(update={"path": "data/letters"}))


def test_minutes_are_counted_from_the_moment_of_scheduling() -> None:
    every, anchor = Timing(kind="new-data", minutes=10), datetime(2026, 11, 30, 3, 4, tzinfo=UTC)
    coming = [every.next(anchor + timedelta(minutes=later), anchor=anchor) for later in (-3, 0, 9.5, 10, 25)]
    assert [each and (each - anchor) / timedelta(minutes=1) for each in coming] == [10, 10, 10, 20, 30]


def test_what_a_server_tells_is_a_line_a_schedule(clone: Path) -> None:
    told = document(of(clone), entrypoint="x", pool="team") | {"paused": False}
    last = {"state_name": "Refused", "state": {"message": "distance_ratio_max fail"}, "end_time": "2026-11-30T03:05:00Z"}
    cron, poll = lines(told, last)
    assert (cron.when, cron.trigger, cron.pool, cron.last) == ("0 3 * * 1 Europe/Berlin", "cron", "team", "Refused")
    assert cron.next is not None
    assert (cron.next.weekday(), cron.next.hour) == (0, 3)
    assert poll.next is not None
    assert poll.next - datetime.now(UTC) <= timedelta(minutes=5)
    assert [(each.next, each.paused) for each in lines(told | {"paused": True}, None)] == [(None, True), (None, True)]
    (by_hand,) = lines(told | {"schedules": []}, None)
    assert (by_hand.trigger, by_hand.next, by_hand.paused) == ("hand", None, False)
