"""The watcher of MLflow's aliases: what hands move there is followed or undone, what people approve is promoted."""

import sys
from collections.abc import Mapping, Sequence

from components.operations.stack.service import Service
from components.operations.stack.stack import Stack

EVERY_S = 10


class Watcher(Service):
    title = "watcher of aliases"
    after = ("mlflow", "seaweedfs", "prefect")

    def command(self, stack: Stack) -> Sequence[str]:
        return [sys.executable, "-m", "flows", "watch", "--every", str(EVERY_S)]

    def environment(self, stack: Stack) -> Mapping[str, str]:
        return stack.exports

    def answers(self, stack: Stack) -> bool:
        """It listens on nothing: it looks, and says what it did."""
        return True


service = Watcher()
