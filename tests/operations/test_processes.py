"""What `up` starts and `down` ends: real processes, their trees, and none of anybody else's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from components.core.home import Home
from components.operations.stack import commands, processes
from components.operations.stack.service import Service
from components.operations.stack.stack import Form, Stack, Started, new_mark
from components.runtime.identity import Identity

SLEEP = "import time; time.sleep(600)"
# A process with a child in a session of its own, as a worker's flow runs are; it says the child's id and sleeps.
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


class Sleeper(Service):
    title = "sleeper"
    stop_s = 1.0

    def __init__(self, code: str = SLEEP) -> None:
        self.code = code

    def command(self, stack: Stack) -> Sequence[str]:
        return [sys.executable, "-c", self.code]

    def answers(self, stack: Stack) -> bool:
        return True


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(Home(tmp_path), Form(team=False, ports=commands.default_ports(), mark=new_mark()))
    made.folder.mkdir()
    yield made
    for process in processes.marked(made):
        process.kill()


def said(stack: Stack, name: str) -> str:
    for _ in range(200):
        if text := stack.log(name).read_text():
            return text
        time.sleep(0.05)
    raise AssertionError("it said nothing")


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_service_is_ended_with_all_that_it_started(stack: Stack) -> None:
    parent = Sleeper(PARENT)
    pid = processes.start("one", parent, stack)
    child = int(said(stack, "one"))
    running = processes.running("one", stack)
    assert running is not None
    assert running.pid == pid
    assert lives(child)
    assert processes.end(["one"], {"one": parent}, stack) == 2
    assert not lives(pid)
    assert not lives(child)
    assert processes.running("one", stack) is None


def test_what_a_service_that_died_left_behind_is_ended_too(stack: Stack) -> None:
    parent = Sleeper(PARENT)
    pid = processes.start("one", parent, stack)
    child = int(said(stack, "one"))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert processes.running("one", stack) is None
    assert [each.pid for each in processes.marked(stack, "one")] == [child]
    processes.end(["one"], {"one": parent}, stack)
    assert not lives(child)


def test_one_that_does_not_listen_is_killed(stack: Stack) -> None:
    deaf = Sleeper(DEAF)
    pid = processes.start("one", deaf, stack)
    said(stack, "one")
    began = time.monotonic()
    processes.end(["one"], {"one": deaf}, stack)
    assert not lives(pid)
    assert 1.0 <= time.monotonic() - began < 5.0


def test_a_process_without_a_note_is_found_by_its_mark(stack: Stack) -> None:
    """As after an `up` that was killed between starting it and noting it."""
    pid = processes.start("one", Sleeper(), stack)
    stack.note("one").unlink()
    assert processes.running("one", stack) is None
    assert [each.pid for each in processes.marked(stack, "one")] == [pid]
    processes.end(["one"], {"one": Sleeper()}, stack)
    assert not lives(pid)


def test_a_foreign_process_that_got_the_id_is_left_alone(stack: Stack) -> None:
    foreign = subprocess.Popen([sys.executable, "-c", SLEEP])
    try:
        identity = Identity.own().model_copy(update={"pid": foreign.pid, "started_s": time.time() - 3600})
        Started(identity=identity, command=("one",)).write(stack.note("one"))
        assert processes.running("one", stack) is None
        assert processes.end(["one"], {"one": Sleeper()}, stack) == 0
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_another_home_is_left_alone(stack: Stack, tmp_path: Path) -> None:
    other = Stack(Home(tmp_path / "other"), Form(team=False, ports={}, mark=new_mark()))
    other.folder.mkdir(parents=True)
    pid = processes.start("one", Sleeper(), other)
    assert processes.end(["one"], {"one": Sleeper()}, stack) == 0
    assert lives(pid)
    processes.end(["one"], {"one": Sleeper()}, other)
    assert not lives(pid)
