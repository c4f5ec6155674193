"""What was measured of a model, as evidence for later choices: the case that it was made for, what it took, how good it is.

A row is known by its origin: which training, and which measurement of it. Of two of one origin the one that was measured last
stays, in the table, in MLflow and where tables of several teams merge; so merging in any order, and twice, gives the same.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from components.core.brief import Conditioning, Delivery, FamilyName, Modality
from components.core.record import Record
from components.core.records.decision import Tier
from components.core.records.scorecard import Metric, ScoringProtocol, Verdict


class Case(Record):
    """What the policy looks at of a brief and its data. Of a budget one of the two is known before a training, both after it."""

    modality: Modality
    conditioning: Conditioning
    side: int | None  # pixels of the longer edge
    items: int | None
    tier: Tier
    items_seen: int | None = None
    seconds: float | None = None
    latency_ms: float | None = None  # the limit of serving
    device: Literal["cpu", "cuda"]

    @property
    def text(self) -> str:
        """For a person: 'image, 1,797 of 8 px, by class, cpu'."""
        count = "?" if self.items is None else f"{self.items:,}"
        asked = "" if self.conditioning == "none" else f", by {self.conditioning}"
        return f"{self.modality}, {count}{f' of {self.side} px' if self.side else ''}{asked}, {self.device}"


class Machine(Record):
    """What the figures of a clock depend on: the hardware and the threads of its CPU, in words. Empty: not known."""

    training: str = ""
    drawing: str = ""  # of the exported graph


class EvidenceRow(Record):
    """One scorecard of one training, and what that took. `share`: of its budget, where a bake-off stopped it earlier."""

    family: FamilyName
    variant: str
    mode: str
    delivery: Delivery
    case: Case
    protocol: ScoringProtocol
    metrics: dict[str, Metric]
    verdict: Verdict | None = None  # of the gates; None: none were asked
    share: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0
    train_s: float
    items_seen: int
    parameters_m: float | None = None
    memory_gb: float | None = None  # the most that the training held at once
    expected: dict[str, float] = Field(default_factory=dict)  # what was estimated before, by the names of `Estimate`
    dry: dict[str, float] = Field(default_factory=dict)  # the same by a dry run
    stopped_by: str = "items_seen"
    collapse: str = ""
    genwright: str
    model: str
    who: str
    run_id: str  # of MLflow
    kind: str  # proof, or bakeoff-25 for a share of 25 %
    record: str = ""  # where the store has what a proof was measured for: its key says the gates and the champion beside it
    measured_at: str = ""  # in UTC, as ISO 8601 writes it
    machine: Machine = Machine()

    @property
    def name(self) -> str:
        return f"{self.family}/{self.variant}"

    @property
    def measurement(self) -> str:
        """Which measurement of its training it is: the kind, the number of samples, and what a proof was measured for."""
        record = f"-{hashlib.sha256(self.record.encode()).hexdigest()[:12]}" if self.record else ""
        return f"{self.kind}-{self.protocol.samples}{record}"

    @property
    def origin(self) -> str:
        """Where it was measured: there is one row of it."""
        return f"{self.run_id}/{self.measurement}"

    @property
    def age(self) -> tuple[str, str]:
        """Of two rows of one origin the greater one stays: what was measured last, and at one time the greater digest."""
        return self.measured_at, self.digest()

    @property
    def measure(self) -> str:
        """What makes its numbers comparable with another's: the protocol, whatever its seed, and whatever the proof alone looks
        at, whose metrics no row has (pipeline/evidence.py)."""
        return self.protocol.model_copy(update={"seed": 0, "heldout": None, "heldout_sha256": None}).digest()


class EvidenceTable(Record):
    """Rows by their origin, one of each."""

    rows: tuple[EvidenceRow, ...] = ()

    def with_rows(self, more: Iterable[EvidenceRow]) -> "EvidenceTable":
        """This table and `more`: of one origin what was measured last."""
        known: dict[str, EvidenceRow] = {}
        for row in (*self.rows, *more):
            known[row.origin] = max(known.get(row.origin, row), row, key=lambda each: each.age)
        return EvidenceTable(rows=tuple(known[origin] for origin in sorted(known)))

    def beyond(self, other: "EvidenceTable") -> int:
        """How many rows it has that another table has not."""
        return (Counter(row.digest() for row in self.rows) - Counter(row.digest() for row in other.rows)).total()

    @property
    def sha256(self) -> str:
        """The digest of what it holds, in whatever order."""
        return hashlib.sha256(" ".join(sorted(row.digest() for row in self.rows)).encode()).hexdigest()
