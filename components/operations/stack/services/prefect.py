"""Prefect's server and its page."""

import sys
from collections.abc import Mapping, Sequence

from components.operations.stack import postgres
from components.operations.stack.http import succeeds
from components.operations.stack.service import Service
from components.operations.stack.stack import HOST, Stack


class Prefect(Service):
    title = "Prefect"
    after = ("postgres",)
    port = ("prefect", 4200)

    def prepare(self, stack: Stack) -> None:
        if stack.form.team:
            postgres.make_database(stack, "prefect")

    def command(self, stack: Stack) -> Sequence[str]:
        return [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(stack.port("prefect"))]

    def environment(self, stack: Stack) -> Mapping[str, str]:
        own = {
            "PREFECT_HOME": str(stack.data("prefect")),
            "PREFECT_UI_API_URL": f"{stack.url('prefect')}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        database = {"PREFECT_API_DATABASE_CONNECTION_URL": stack.database("prefect", scheme="postgresql+asyncpg")}
        return own | (database if stack.form.team else {})

    def answers(self, stack: Stack) -> bool:
        return succeeds(f"{stack.url('prefect')}/api/health")

    def address(self, stack: Stack) -> str:
        return stack.url("prefect")


service = Prefect()
