"""Run by conftest.Forks: imports MLflow once, then does each command of standard input in a fork, which may be killed.

The argument is the URI of a store that no command uses: opening it here warms what every fork would otherwise load again.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from components.core.errors import GateRefused, GenwrightError
from components.core.records import Release
from components.delivery.channel import ChannelStore
from components.delivery.store import open_store
from components.registry.ledger import Ledger
from components.registry.mlflow_store import connect
from components.registry.release import promote, reconcile, rollback
from components.registry.steps import Registry
from components.registry.tracking import MlflowTracker, start_run
from components.registry.versions import Versions


def registry_of(job: dict[str, Any]) -> Registry:
    store = open_store(job["store"])

    def after(step: str) -> None:
        if step == job.get("kill_after"):
            os.kill(os.getpid(), signal.SIGKILL)

    return Registry(versions=Versions(job["tracking_uri"]), ledger=Ledger(store), channels=ChannelStore(store), after=after)


def do_promote(job: dict[str, Any]) -> None:
    def proved(champion: Release | None) -> None:
        if champion is None or champion.version != job["beside"]:
            raise GateRefused("proved beside another")

    check = proved if job.get("beside") else None
    promote(registry_of(job), "digits", job["version"], who="fork", why="test", check=check)


def do_rollback(job: dict[str, Any]) -> None:
    rollback(registry_of(job), "digits", who="fork", why="test", to=job.get("version"))


def do_reconcile(job: dict[str, Any]) -> None:
    reconcile(registry_of(job), "digits", who="fork")


def do_connect(job: dict[str, Any]) -> None:
    connect(job["tracking_uri"])


def do_register(job: dict[str, Any]) -> None:
    bundle = {"sha256": job["sha256"], "uri": f"s3://bundles/{job['sha256']}"}
    Versions(job["tracking_uri"]).register("digits", **bundle, run_id=job["run_id"])


def do_start_run(job: dict[str, Any]) -> None:
    """Start a run, write its id, and work on it until killed."""
    run_id = start_run(job["tracking_uri"], experiment="fork", name="run", tags={}, artifact_root=Path(job["artifacts"]))
    with MlflowTracker(job["tracking_uri"], run_id, flush_s=0.05) as tracker:
        for step in range(10):
            tracker.metrics({"loss": float(step)}, step=step)
        tracker.flush()
        Path(job["tell"]).write_text(run_id)
        os.kill(os.getpid(), job["signal"])
        time.sleep(60)


def main() -> None:
    Versions(sys.argv[1]).resolve("digits/1")
    waiting = []
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
            try:
                globals()[f"do_{job['do']}"](job)
            except SystemExit as end:
                os._exit(int(end.code or 0))
            except GenwrightError as error:
                print(error, file=sys.stderr, flush=True)
                os._exit(error.exit_code)
            except BaseException as error:  # noqa: BLE001
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        waiting.append(pid)
        if not job.get("together"):
            for one in waiting:
                print(os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]), flush=True)
            waiting.clear()


if __name__ == "__main__":
    main()
