"""What a stage of a run needs, as far as that is known before it runs: by what an engine may choose where it runs."""

from itertools import groupby

from components.core.record import Record
from components.pipeline.backends import Backends
from components.pipeline.durations import expected
from components.pipeline.order import STAGES, Stage
from components.pipeline.run import Run
from components.pipeline.train_plan import expected_s
from components.runtime.devices import Device
from components.runtime.screen import seconds


class Needs(Record):
    """Device, memory in GB (None: nobody knows) and seconds that it is expected to take (None: nobody knows)."""

    device: Device
    memory_gb: float | None
    seconds: float | None

    @property
    def text(self) -> str:
        """For people: 'cuda, 4 GB, about 12 min'."""
        memory = "" if self.memory_gb is None else f", {self.memory_gb:g} GB"
        return self.device + memory + ("" if self.seconds is None else f", about {seconds(self.seconds)}")


def device_of(stage: Stage, run: Run) -> Device:
    """Where it computes: what trains and what serves may be two devices, and what computes nothing runs on any machine."""
    if stage.device == "training" and run.student is not None:
        return run.student.device
    return "cpu" if stage.device is None else run.facts.device


def gpus_of(stage: Stage, device: str, workers: int) -> int:
    """How many GPUs it computes on: as many as `workers` for the training, which has a process on each; one for what serves."""
    if stage.device is None or device != "cuda":
        return 0
    return workers if stage.device == "training" else 1


def steps_of(device: str, workers: int) -> tuple[tuple[Stage, ...], ...]:
    """The stages in groups, each for one process or pod: the training alone, and of what follows those that need as many GPUs.

    Each stage leaves its record in the store, so a group that is begun again goes on at the stage that it was at. See
    docs/decisions/0035-light-processes.md.
    """
    found = groupby(STAGES, key=lambda stage: (stage.device == "training", gpus_of(stage, device, workers)))
    return tuple(tuple(stages) for _, stages in found)


def needs_of(stage: Stage, run: Run, backends: Backends) -> Needs:
    """The estimates of the decision for the training; for the others what they took in this home before."""
    trains = stage.device == "training"
    return Needs(
        device=device_of(stage, run),
        memory_gb=run.decision.estimate.memory_gb.value if trains else None,
        seconds=expected_s(run) if trains else expected(stage.title, backends, run)[0] if stage.title else None,
    )
