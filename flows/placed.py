"""A stage carried out in another pool: a flow run of its brief's deployment stage/NAME, waited for by the flow that needs it.

What the stage made is found in the store; its end comes back as the state of its flow run. Whoever ends the waiting flow ends
that one too. A process that was lost is begun again, and goes on from its last save.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed, State

from components.core import store_keys
from components.core.errors import GenwrightError, InputError, RunError, StorageError
from components.core.record import Record
from components.pipeline import placement, production
from components.pipeline.backends import Backends
from components.pipeline.lease import current
from components.pipeline.order import Stage
from components.pipeline.run import Run
from components.pipeline.training import items_seen, saved_step
from components.runtime.progress import stage as shown_as
from components.runtime.screen import Stage as Shown
from flows import deployments

LOOK_S = 1.0  # between looks at its flow run
BEAT_LOOK_S = 15.0  # between looks at whether its process lives
UNHEARD_S = 600.0  # that the server may be away
UNSEEN_S = 180.0  # that a process may run before it gives a sign of life
SILENT_LOOKS = 2  # at which its process gives none, until it is taken for lost: at its end it gives none for a moment, too
AGAIN_S = 10.0  # until a lost one is begun again: a worker that is being stopped takes runs until it is gone
SAY_AGAIN_S = 300.0  # in the log, what it waits for


def carry_out(stage: Stage, records: Sequence[Any], backends: Backends) -> Record:
    """Have a stage carried out in the pool of the settings, and return its record. `records`: those that it takes.

    Raises what the stage raised there; Interrupted where a person cancelled it; RunError where its process was lost too often.
    """
    run: Run = records[0]
    lost = placement.Lost(partial(saved_step, run, backends))
    while True:
        child = _Child(stage, run, backends)
        state = child.wait()
        if state.is_completed():
            return production.recorded(stage, run, dict(zip(stage.takes, records, strict=True)), backends)
        if state.is_cancelled():
            raise placement.cancelled(stage, state.message)
        if not state.is_crashed():
            raise placement.error_of(state.name or "", state.message or f"{stage.name} ended as {state.name}")
        if not lost.once_more():
            raise placement.lost(stage, state.message or "")
        child.tell(f"was lost and is begun again: {state.message}")
        time.sleep(AGAIN_S)


class _Child:
    """The flow run of one stage in the pool."""

    def __init__(self, stage: Stage, run: Run, backends: Backends) -> None:
        self.stage, self.run, self.backends = stage, run, backends
        self.pool = backends.settings.placed_on or ""
        parameters = {"name": stage.name, "run": run.reference, "under": self._lease(), "run_by": backends.run_by}
        with deployments.server() as client:
            pool = deployments.pool_of(self.pool, client, where="GENWRIGHT_GPU_POOL")
            asked = run_deployment(
                UUID(self._deployment(client)["id"]),
                parameters=parameters,
                flow_run_name=f"{stage.name} {run.brief.name}",
                job_variables=placement.job_variables(stage, run, pool),
                timeout=0,
            )
        self.id: UUID = asked.id
        self.heard_s = self.began_s = time.monotonic()
        self.running_s: float | None = None  # since when
        self.looked_s = self.said_s = 0.0
        self.state = ""
        self.silent = 0  # looks at which its process was not heard of

    def wait(self) -> State[Any]:
        """Its last state. Where this is interrupted, or fails, it is cancelled."""
        title = f"{self.stage.name} in pool {self.pool}"
        try:
            with get_client(sync_client=True) as client, shown_as(title) as shown:
                while (found := self._read(client)) is None or not found.state.is_final():
                    if found is not None:
                        self._look(found, client, shown)
                    time.sleep(LOOK_S)
        except BaseException:
            self._cancel()
            raise
        finally:
            self._forget()
        self.tell(f"ended as {found.state.name}: {found.state.message}")
        return found.state

    def tell(self, line: str) -> None:
        """Into the log of the flow that waits."""
        get_run_logger().info("%s in pool %s %s", self.stage.name, self.pool, line)

    def _deployment(self, client: Any) -> dict[str, Any]:
        """That of the brief; one with the pool's own defaults where nobody scheduled it. Raises InputError for one elsewhere."""
        name = placement.deployment_of(self.run)
        found = deployments.stage_of(name, client) or deployments.put_stage(name, client, pool=self.pool)
        if found["work_pool_name"] != self.pool:
            what = f"GENWRIGHT_GPU_POOL {self.pool}: stage/{name} was scheduled for the pool {found['work_pool_name']}"
            raise InputError(what, do=f"name that one, or `genwright schedule BRIEF --gpu-pool {self.pool}`")
        return found

    def _lease(self) -> dict[str, Any]:
        """That of the production which waits, as JSON."""
        held = current(self.run.brief.name, self.backends.store)
        assert held is not None, "stages are carried out under a lease"
        return held.model_dump(mode="json")

    def _read(self, client: Any) -> Any:
        """The flow run; None while the server is away."""
        try:
            found = client.read_flow_run(self.id)
        except ObjectNotFound as error:
            raise RunError(f"{self.stage.name}: its flow run was deleted", do="run the same command again to go on") from error
        except httpx.HTTPError as error:
            if time.monotonic() - self.heard_s > UNHEARD_S:
                what = f"{self.stage.name}: the Prefect server was not heard of for {UNHEARD_S:.0f} s"
                raise RunError(what, do="run the same command again to go on") from error
            return None
        self.heard_s = time.monotonic()
        return found

    def _look(self, found: Any, client: Any, shown: Shown) -> None:
        """What it does now, or waits for."""
        now = time.monotonic()
        if found.state.name != self.state:
            self.state = found.state.name
            self.tell(f"is {self.state}: flow run {found.name}")
            self.running_s, self.looked_s = (now if found.state.is_running() else None), 0.0
            shown.update(note="")
        if now - self.looked_s < BEAT_LOOK_S:
            return
        self.looked_s = now
        if self.running_s is None:
            self._waits(found.state, client, shown)
            return
        if self.stage.device == "training" and (seen := items_seen(self.run, self.backends)) is not None:
            shown.update(done=seen, total=self._items(), note="items seen")
        self._listen(found, client)

    def _items(self) -> int | None:
        budget = self.run.decision.budget
        return budget.items_seen if budget else None

    def _waits(self, state: Any, client: Any, shown: Shown) -> None:
        waited_s = time.monotonic() - self.began_s
        if waited_s < placement.SAY_S:
            return
        try:
            pool = deployments.pool_of(self.pool, client, where="GENWRIGHT_GPU_POOL")
            workers = client.request("POST", "/work_pools/{name}/workers/filter", path_params={"name": self.pool}, json={}).json()
        except httpx.HTTPError:
            return
        line = placement.waits_for(state.type.value, waited_s, pool, workers, datetime.now(UTC))
        shown.update(note=line)
        if time.monotonic() - self.said_s > SAY_AGAIN_S:
            self.said_s = time.monotonic()
            self.tell(f"waits: {line}")

    def _listen(self, found: Any, client: Any) -> None:
        """Say that it crashed where its process was lost without a word: its worker's machine may be gone too."""
        with suppress(StorageError):
            beat = current(store_keys.beat(str(self.id), found.run_count), self.backends.store)
            early = beat is None and time.monotonic() - (self.running_s or 0.0) < UNSEEN_S
            self.silent = 0 if early or (beat is not None and beat.is_held) else self.silent + 1
        if self.silent >= SILENT_LOOKS:
            self.silent = 0  # the server may be away just now
            with suppress(httpx.HTTPError):
                client.set_flow_run_state(self.id, Crashed(message="its process was not heard of any more"), force=True)

    def _cancel(self) -> None:
        """Its worker ends its process; one that nobody has begun is not begun."""
        with suppress(Exception), get_client(sync_client=True) as client:
            client.set_flow_run_state(self.id, Cancelling(message="the flow that waited for it has ended"))

    def _forget(self) -> None:
        """Remove what its process left as a sign of life."""
        with suppress(GenwrightError):
            for key in self.backends.store.list(store_keys.beats(str(self.id))):
                self.backends.store.delete(key)
