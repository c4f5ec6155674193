"""What a service of the stack is: a program, what it waits for, and how one sees that it answers."""

import signal
from collections.abc import Mapping, Sequence
from typing import ClassVar

from components.operations.stack.stack import Stack


class Service:
    """One process of the stack. A file in components/operations/stack/services defines one under the name `service`.

    `after` names those that must answer first, where they are of the stack; `port` is the name and the default of the one that it
    listens on.
    """

    title: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()
    port: ClassVar[tuple[str, int] | None] = None
    team: ClassVar[bool] = False  # whether it is of `up --team` alone
    start_s: ClassVar[float] = 180.0  # from its start until it answers, on a busy machine
    stop: ClassVar[signal.Signals] = signal.SIGTERM
    stop_s: ClassVar[float] = 10.0  # from being told to end until it is killed
    tells_children: ClassVar[bool] = False  # whether what it started is told to end, too

    def check(self, stack: Stack) -> None:
        """Raises SettingsError where it cannot be started here: what it needs is not installed, say."""

    def prepare(self, stack: Stack) -> None:
        """Make what it needs, such as its folder, before it is started."""

    def command(self, stack: Stack) -> Sequence[str]:
        """The program and its arguments. No secret stands in it: everybody on the machine may read it."""
        raise NotImplementedError

    def environment(self, stack: Stack) -> Mapping[str, str]:
        """Beside what `up` was started with."""
        return {}

    def user(self, stack: Stack) -> int | None:
        """Whose it is; None: of whoever starts it."""
        return None

    def answers(self, stack: Stack) -> bool:
        """Whether it does its work now. Raises nothing."""
        raise NotImplementedError

    def address(self, stack: Stack) -> str:
        """Where it is, for people; empty where it listens on nothing."""
        return ""
