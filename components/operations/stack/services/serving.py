"""The server of releases: every model that has a champion, and every champion after it."""

import sys
from collections.abc import Mapping, Sequence

from components.operations.stack.http import succeeds
from components.operations.stack.service import Service
from components.operations.stack.stack import HOST, Stack


class Serving(Service):
    title = "server of champions"
    after = ("mlflow", "seaweedfs")
    port = ("serve", 8000)

    def command(self, stack: Stack) -> Sequence[str]:
        return [sys.executable, "-m", "flows", "serve", "--all", "--host", HOST, "--port", str(stack.port("serve"))]

    def environment(self, stack: Stack) -> Mapping[str, str]:
        return stack.exports

    def answers(self, stack: Stack) -> bool:
        return succeeds(f"{stack.url('serve')}/v2/health/live")

    def address(self, stack: Stack) -> str:
        return stack.url("serve")


service = Serving()
