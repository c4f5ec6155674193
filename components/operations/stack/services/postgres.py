"""PostgreSQL, for MLflow and Prefect."""

import signal
from collections.abc import Sequence

from components.operations.stack import postgres
from components.operations.stack.service import Service
from components.operations.stack.stack import HOST, Stack


class PostgreSQL(Service):
    title = "PostgreSQL"
    port = ("postgres", 5433)  # 5432 is that of the system's own
    team = True
    stop = signal.SIGINT  # ends its sessions, and writes what it has

    def check(self, stack: Stack) -> None:
        postgres.check(stack)

    def prepare(self, stack: Stack) -> None:
        postgres.initialise(stack)

    def command(self, stack: Stack) -> Sequence[str]:
        folder = stack.data("postgres") / "data"
        own = ("-h", HOST, "-p", str(stack.port("postgres")), "-c", "unix_socket_directories=")
        return [postgres.program("postgres"), "-D", str(folder), *own]

    def user(self, stack: Stack) -> int | None:
        return postgres.owner()

    def answers(self, stack: Stack) -> bool:
        return postgres.answers(stack)

    def address(self, stack: Stack) -> str:
        return f"{HOST}:{stack.port('postgres')}"


service = PostgreSQL()
