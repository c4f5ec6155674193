"""A worker of Prefect, which runs what is scheduled in a work pool of its own; the pool is made where there is none."""

import sys
from collections.abc import Mapping, Sequence

import httpx

from components.operations.stack.service import Service
from components.operations.stack.stack import Stack


class Worker(Service):
    after = ("prefect", "mlflow", "seaweedfs")
    stop_s = 12.0  # a training saves its state within seven seconds
    tells_children = True
    pool: str
    limit: int | None = None  # of runs at once

    def command(self, stack: Stack) -> Sequence[str]:
        own = ["--pool", self.pool, "--type", "process", "--name", self.name(stack)]
        own += [] if self.limit is None else ["--limit", str(self.limit)]
        return [sys.executable, "-m", "prefect", "worker", "start", *own]

    def name(self, stack: Stack) -> str:
        """Each time another one: the server says of one that ended for a while that it is there."""
        return f"{self.pool}-{stack.form.mark[:8]}"

    def environment(self, stack: Stack) -> Mapping[str, str]:
        own = {"PREFECT_HOME": str(stack.data("workers")), "PREFECT_WORKER_QUERY_SECONDS": "2", "DO_NOT_TRACK": "1"}
        return {**stack.exports, **own}

    def answers(self, stack: Stack) -> bool:
        asked = f"{stack.url('prefect')}/api/work_pools/{self.pool}/workers/filter"
        try:
            reply = httpx.post(asked, json={}, timeout=5, trust_env=False)
            return reply.is_success and any(each["name"] == self.name(stack) for each in reply.json())
        except (httpx.HTTPError, ValueError):
            return False

    def address(self, stack: Stack) -> str:
        return f"work pool {self.pool}"
