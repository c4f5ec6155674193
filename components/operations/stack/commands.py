"""`up` starts what does not run yet, in order, and waits until it answers; `down` ends what `up` started, in the other order."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from filelock import FileLock, Timeout

from components.core.discovery import member, names
from components.core.errors import Conflict, InputError, RunError, StorageError
from components.core.home import Home
from components.core.record import Record
from components.operations.stack import ports, processes
from components.operations.stack.service import Service
from components.operations.stack.stack import Form, Stack, known_form, new_mark, write_form

SERVICES = "components.operations.stack.services"
LOOK_S = 0.2
Say = Callable[[str], None]


class Running(Record):
    """A service as it is now."""

    name: str
    title: str
    pid: int | None  # None: it does not run
    began: bool  # whether this `up` started it
    address: str
    log: str


@dataclass(frozen=True)
class Up:
    """What `up` left behind."""

    stack: Stack
    running: tuple[Running, ...]


def services(*, team: bool) -> dict[str, Service]:
    """Those of a stack, each after what it waits for."""
    found: dict[str, Service] = {name: member(SERVICES, name, "service") for name in names(SERVICES)}
    left = {name: each for name, each in found.items() if team or not each.team}
    ordered: dict[str, Service] = {}
    while left:
        free = [name for name, each in left.items() if not set(each.after) & set(left)]
        assert free, f"services wait for each other: {sorted(left)}"
        ordered |= {name: left.pop(name) for name in free}
    return ordered


def default_ports() -> dict[str, int]:
    """Those of every service, by their names."""
    return dict(each.port for each in services(team=True).values() if each.port is not None)


def up(home: Home, *, team: bool, asked_ports: Mapping[str, int], say: Say) -> Up:
    """Start what does not run. Raises InputError for another form or port than what runs, SettingsError where something is not
    installed, and RunError where a service ends or does not answer: what runs then stays, and `up` again goes on."""
    with _locked(home):
        stack = _stack_of(home, team=team, asked=asked_ports)
        every = services(team=team)
        found = {name: processes.running(name, stack) for name in every}
        missing = {name: each for name, each in every.items() if found[name] is None}
        for each in missing.values():
            each.check(stack)
        processes_left = [name for name in missing if processes.marked(stack, name)]
        processes.end(processes_left, every, stack)
        _check_ports(missing, stack)
        write_form(home, stack.form)
        stack.write_exports()
        for name, service in every.items():
            if name not in missing and not service.answers(stack):
                say(f"{service.title} runs and does not answer yet")
        _start(missing, every, stack, say)
        return Up(stack, tuple(_line(name, each, stack, began=name in missing) for name, each in every.items()))


def down(home: Home, *, say: Say) -> int:
    """End what `up` started, in the other order; returns how many processes ended."""
    with _locked(home):
        form = known_form(home)
        if form is None:
            return 0
        stack, every = Stack(home, form), services(team=True)
        ended = 0
        while every:
            last = [name for name in every if not any(name in other.after for other in every.values())]
            live = [name for name in last if processes.running(name, stack) or processes.marked(stack, name)]
            ended += processes.end(live, every, stack)
            for name in live:
                say(f"{every[name].title} has ended")
            every = {name: each for name, each in every.items() if name not in last}
        return ended


def status(home: Home) -> Up | None:
    """What of the stack runs now; None where it was never started."""
    form = known_form(home)
    if form is None:
        return None
    stack = Stack(home, form)
    return Up(stack, tuple(_line(name, each, stack, began=False) for name, each in services(team=form.team).items()))


def _line(name: str, service: Service, stack: Stack, *, began: bool) -> Running:
    process = processes.running(name, stack)
    pid = process.pid if process else None
    return Running(name=name, title=service.title, pid=pid, began=began, address=service.address(stack), log=str(stack.log(name)))


def _stack_of(home: Home, *, team: bool, asked: Mapping[str, int]) -> Stack:
    """The stack as it runs; else as it is asked for, with the ports of before. Raises InputError where the two differ."""
    known = known_form(home)
    wanted = default_ports() | (known.ports if known else {}) | dict(asked)
    if known is None:
        return Stack(home, Form(team=team, ports=wanted, mark=new_mark()))
    stack = Stack(home, known)
    runs = [name for name in services(team=True) if processes.running(name, stack)]
    if not runs:
        return Stack(home, Form(team=team, ports=wanted, mark=known.mark))
    if known.team != team:
        what = "up --team: a stack without it runs here" if team else "up: a stack of --team runs here"
        raise InputError(what, do="genwright down, or give the same option")
    for name, port in asked.items():
        if port != known.ports[name]:
            raise InputError(f"--port-{name} {port}: it runs on {known.ports[name]}", do="genwright down, then up again")
    return Stack(home, known.model_copy(update={"ports": wanted}))


def _check_ports(missing: Mapping[str, Service], stack: Stack) -> None:
    for each in missing.values():
        if each.port is not None and ports.is_taken(port := stack.port(each.port[0])):
            what = f"port {port} for {each.title} is taken{ports.taken_by(port)}"
            raise InputError(what, do=f"end that, or choose another: --port-{each.port[0]} PORT")


def _start(missing: Mapping[str, Service], every: Mapping[str, Service], stack: Stack, say: Say) -> None:
    """Each as soon as what it waits for answers."""
    left, starting = dict(missing), dict[str, float]()
    while left or starting:
        for name in [name for name in left if not set(left[name].after) & (set(left) | set(starting))]:
            service = left.pop(name)
            service.prepare(stack)
            processes.start(name, service, stack)
            starting[name] = time.monotonic()
        for name in list(starting):
            if processes.running(name, stack) is None:
                raise RunError(f"{every[name].title} ended while it started: {_last_line(name, stack)}", do=_see(name, stack))
            answers, since_s = every[name].answers(stack), time.monotonic() - starting[name]
            if answers:
                say(f"{every[name].title} answers after {since_s:.0f} s")
                del starting[name]
            elif since_s > every[name].start_s:
                raise RunError(f"{every[name].title} does not answer after {since_s:.0f} s", do=_see(name, stack))
        time.sleep(LOOK_S)


def _see(name: str, stack: Stack) -> str:
    return f"see {stack.log(name)}; `genwright up` again goes on"


def _last_line(name: str, stack: Stack) -> str:
    lines = stack.log(name).read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    """One `up` or `down` of a home at a time. Raises Conflict."""
    try:
        home.stack.mkdir(parents=True, exist_ok=True)
        with FileLock(home.stack / ".lock", timeout=0):
            yield
    except Timeout:
        raise Conflict(f"{home.stack}: another `genwright up` or `down` is at it", do="wait for it") from None
    except OSError as error:
        raise StorageError(f"{home.stack}: {error.strerror or error}") from error
