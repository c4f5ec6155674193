"""What seconds of a training, and a graph of untrained weights, said of what is to come."""

from typing import Literal

from components.core.record import Record
from components.core.records.evidence import Machine


class DryTraining(Record):
    """What was measured of a training that was not begun."""

    items_seen: int
    steps: int
    step_s: float
    readings: int
    reading_s: float
    fit_s: float  # before the first step
    encoding_s: float = 0.0  # of all items, where their codes would be kept
    peak_gb: float

    @property
    def seconds(self) -> float:
        """Of the whole training."""
        return self.fit_s + self.steps * self.step_s + self.readings * self.reading_s + self.encoding_s

    @property
    def text(self) -> str:
        """A sum for a person: '938 steps x 0.12 s + 6 readings x 0.9 s + 1.2 s'."""
        rest = self.fit_s + self.encoding_s
        return f"{self.steps:,} steps x {self.step_s:.3g} s + {self.readings} readings x {self.reading_s:.2g} s + {rest:.2g} s"


class DryRun(Record):
    """A dry run on one device. `latency_ms`: of one item of the exported graph, p95; None where it cannot be exported."""

    device: Literal["cpu", "cuda"]
    training: DryTraining
    latency_ms: float | None
    refused: str = ""  # why it cannot be exported
    took_s: float
    machine: Machine = Machine()
