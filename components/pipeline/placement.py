"""Which stages an engine has carried out elsewhere, on a pool of machines with GPUs: what that pool is asked for, what is said
while a stage waits there, and how its end comes back. Plain JSON as a Prefect server has it, no Prefect.

What trains is placed there whatever its device is, as it takes the longest; a proof and a release only where they need a GPU.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from components.core import errors
from components.core.errors import GenwrightError, InputError, Interrupted, RunError
from components.pipeline.needs import device_of, gpus_of
from components.pipeline.order import Stage
from components.pipeline.run import Run
from components.runtime.interruption import AGAIN
from components.runtime.screen import seconds

LOST_MAX = 3  # processes of a stage that are lost, one after another, without a step saved in between
SAY_S = 60.0  # that a stage waits before it is said for what
TEMPLATE = "infra/prefect/kubernetes-gpu.json"
INTERRUPTED = "Interrupted"  # the name of the state of a stage that a signal ended, and nobody cancelled: it goes on elsewhere

Document = dict[str, Any]


def is_placed(stage: Stage, run: Run) -> bool:
    """Whether a pool with GPUs carries it out, where there is one."""
    return stage.device == "training" or device_of(stage, run) == "cuda"


def deployment_of(run: Run) -> str:
    """The deployment by which its stages are placed: that of its brief; of a student that of its teacher's."""
    return run.student.teacher.model if run.student is not None else run.brief.name


def job_variables(stage: Stage, run: Run, pool: Mapping[str, Any]) -> Document:
    """What one stage asks of the pool: GPUs, where it is a pool that counts them. A process has those that its worker sees."""
    asked = {"gpus": gpus_of(stage, device_of(stage, run), run.brief.compute.workers)}
    return {name: value for name, value in asked.items() if name in known_by(pool)}


def known_by(pool: Mapping[str, Any]) -> Collection[str]:
    """The job variables of a work pool."""
    known: Collection[str] = pool["base_job_template"].get("variables", {}).get("properties", {})
    return known


@dataclass(frozen=True)
class Pods:
    """What `genwright schedule` is told of the pods of a cluster. A brief is portable, so none of it stands there."""

    image: str | None = None
    memory: str | None = None
    shared_memory: str | None = None
    node_selector: tuple[str, ...] = ()  # LABEL=VALUE
    toleration: tuple[str, ...] = ()  # keys

    def variables(self, pool: Mapping[str, Any]) -> Document:
        """As job variables of a pool. Raises InputError for what its kind does not have, and for a label without a value."""
        if wrong := next((each for each in self.node_selector if "=" not in each), None):
            raise InputError(f"--node-selector {wrong}", allowed="LABEL=VALUE")
        asked = {
            "image": self.image,
            "memory": self.memory,
            "shared_memory": self.shared_memory,
            "node_selector": dict(each.split("=", 1) for each in self.node_selector),
            "tolerations": [{"key": key, "operator": "Exists"} for key in self.toleration],
        }
        given = {name: value for name, value in asked.items() if value}
        if unknown := sorted(given.keys() - set(known_by(pool))):
            what = f"{unknown[0]}: the work pool {pool['name']}, of type {pool['type']}, has no such job variable"
            raise InputError(what, do=f"leave its option out, or make the pool of {TEMPLATE}")
        return given

    def of_flow(self, pool: Mapping[str, Any], *, placed: bool) -> Document:
        """Those of the pool of the flow itself: its image, where it has images, and no GPU where another pool has those.

        Raises InputError for what is of GPU pods alone, where nothing is `placed` in such.
        """
        own = Pods(image=self.image)
        if not placed:
            if self != own:
                raise InputError("options of GPU pods are given and no --gpu-pool", do="name the work pool that has them")
            return own.variables(pool)
        known = known_by(pool)
        return {**(own.variables(pool) if "image" in known else {}), **({"gpus": 0} if "gpus" in known else {})}


def waits_for(state: str, waited_s: float, pool: Mapping[str, Any], workers: Sequence[Mapping[str, Any]], now: datetime) -> str:
    """What a stage waits for that has not begun, by the type of its state. It is no failure, however long it lasts."""
    name = pool["name"]
    if state == "PENDING":
        return f"a worker of pool {name} took it {seconds(waited_s)} ago and has not begun it: it may wait for a node"
    if pool["is_paused"]:
        return f"pool {name} is paused; prefect work-pool resume {name}"
    heard = [datetime.fromisoformat(each["last_heartbeat_time"]) for each in workers if each["last_heartbeat_time"]]
    if not any(each["status"] == "ONLINE" for each in workers):
        since = f"for {seconds((now - max(heard)).total_seconds())}" if heard else "yet"
        return f"no worker of pool {name} has polled {since}; prefect worker start --pool {name}"
    return f"it waits for its turn in pool {name}, {seconds(waited_s)} so far"


def error_of(name: str, said: str) -> GenwrightError:
    """The error of a stage that ended elsewhere: its state has the name of the error's kind, and its sentence."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, GenwrightError):
        return kind(said)
    return RunError(said)


def lost(stage: Stage, said: str) -> RunError:
    """Of a stage whose process was lost as often as that is borne."""
    what = f"{stage.name}: its process was lost {LOST_MAX} times and nothing was saved in between: {said}"
    return RunError(what, do="look at the log of its worker or pod; the same command again goes on from the last save")


def cancelled(stage: Stage, said: str | None) -> Interrupted:
    """Of one that a person ended on Prefect's page."""
    return Interrupted(f"{stage.name} was cancelled: {said or 'on the Prefect server'}", do=AGAIN)


class Lost:
    """Counts losses, from the last one on before which a step was saved. `step`: of the save that stands now."""

    def __init__(self, step: Callable[[], int]) -> None:
        self.step, self.times, self.reached = step, 0, step()

    def once_more(self) -> bool:
        """Whether it is begun again after this loss."""
        step = self.step()
        self.times = 1 if step > self.reached else self.times + 1
        self.reached = step
        return self.times < LOST_MAX
