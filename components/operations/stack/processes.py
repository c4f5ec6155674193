"""The processes of a stack: which ones there are, how one is started, and how its whole tree is ended.

A process is known by its note, its id with the time of its start, so another one that got the id later is never taken for it.
What has no note, of an `up` that was killed between two steps, or what a process that is gone left behind, is known by its
environment: the mark of the stack, which nothing else carries.
"""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from components.core.errors import RunError, disk_error
from components.operations.stack.service import Service
from components.operations.stack.stack import MARK, SERVICE, Stack, Started
from components.runtime.identity import Identity

LOOK_S = 0.05
ORPHANS_S = 2.0  # from the end of a service to that of what it has not ended itself
KILLED_S = 5.0  # for the system to end what was killed


def start(name: str, service: Service, stack: Stack) -> int:
    """Start a service in a session of its own, and note which process it is. Raises RunError, StorageError."""
    command = tuple(service.command(stack))
    own = {name: value for name, value in os.environ.items() if name not in stack.hides}
    environment = {**own, "PYTHONUNBUFFERED": "1", **service.environment(stack), MARK: stack.form.mark, SERVICE: name}
    log = stack.log(name)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=stack.data("postgres") if service.user(stack) is not None else stack.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **_rights(service.user(stack)),
            )
    except FileNotFoundError as error:
        raise RunError(f"{service.title}: {command[0]} is not installed") from error
    except OSError as error:
        raise disk_error(error, log) from error
    began = psutil.Process(process.pid)
    identity = Identity.own().model_copy(update={"pid": began.pid, "started_s": round(began.create_time(), 2)})
    Started(identity=identity, command=command).write(stack.note(name))
    return began.pid


def _rights(user: int | None) -> dict[str, Any]:
    return {} if user is None else {"user": user, "group": pwd.getpwuid(user).pw_gid, "extra_groups": []}


def running(name: str, stack: Stack) -> psutil.Process | None:
    """The process of a service, where it runs."""
    try:
        identity = Started.read(stack.note(name)).identity
    except RunError:  # none was noted, or half of one
        return None
    if not identity.is_visible or not identity.lives:
        return None
    with suppress(psutil.Error):
        return psutil.Process(identity.pid)
    return None


def marked(stack: Stack, name: str | None = None) -> list[psutil.Process]:
    """All processes that carry the mark of the stack, those of one service or all: whatever it started, and what that started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environment = process.environ()
            if environment.get(MARK) == stack.form.mark and name in (None, environment.get(SERVICE)):
                found.append(process)
    return [each for each in found if each.pid != os.getpid()]


@dataclass
class _Tree:
    """A service that is being ended."""

    service: Service
    leader: psutil.Process | None
    every: list[psutil.Process]
    until: float  # then it is killed
    told: bool  # whether all of it was told to end

    def advance(self) -> bool:
        """Whether any of it lives still. What its first process left behind is told to end, too, and has ORPHANS_S for it."""
        living = [each for each in self.every if _lives(each)]
        if living and not self.told and (self.leader is None or not _lives(self.leader)):
            self.told, self.until = True, min(self.until, time.monotonic() + ORPHANS_S)
            _send(living, signal.SIGTERM)
        if time.monotonic() > self.until:
            _send(living, signal.SIGKILL)
        return bool(living)


def end(names: Sequence[str], services: Mapping[str, Service], stack: Stack) -> int:
    """End these services together, each with all that it started; returns how many processes ended."""
    trees = [_told(services[name], running(name, stack), marked(stack, name)) for name in names]
    given_up = time.monotonic() + max((tree.service.stop_s for tree in trees), default=0.0) + KILLED_S
    while sum(tree.advance() for tree in trees) and time.monotonic() < given_up:
        time.sleep(LOOK_S)
    for name in names:
        stack.note(name).unlink(missing_ok=True)
    return sum(len(tree.every) for tree in trees)


def _told(service: Service, leader: psutil.Process | None, others: list[psutil.Process]) -> _Tree:
    every = _with_children([*([leader] if leader else []), *others])
    told = service.tells_children or leader is None
    _send(every if told else [leader] if leader else [], service.stop)
    return _Tree(service, leader, every, until=time.monotonic() + service.stop_s, told=told)


def _with_children(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    every: dict[int, psutil.Process] = {}
    for process in processes:
        every[process.pid] = process
        with suppress(psutil.Error):
            every |= {child.pid: child for child in process.children(recursive=True)}
    return list(every.values())


def _send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """psutil compares the time of its start, so no other process that got an id meanwhile is sent anything."""
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
