"""What was measured of a model, as evidence for later choices: the case that it was made for, what it took, how good it is.

A row is known by its digest, and says where it comes from; so tables of several teams merge, and merging twice changes nothing.
"""

import hashlib
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

    @property
    def name(self) -> str:
        return f"{self.family}/{self.variant}"

    @property
    def origin(self) -> str:
        """Where it was measured: there is one row of it."""
        return f"{self.run_id}/{self.kind}"

    @property
    def measure(self) -> str:
        """What makes its numbers comparable with another's: the protocol, whatever its seed, and whatever the proof alone looks
        at, of which a row holds nothing."""
        return self.protocol.model_copy(update={"seed": 0, "heldout": None, "heldout_sha256": None}).digest()


class EvidenceTable(Record):
    """Rows in the order in which they came."""

    rows: tuple[EvidenceRow, ...] = ()

    def with_rows(self, more: Iterable[EvidenceRow]) -> "EvidenceTable":
        """This table and what is new of `more`: of one origin the first row is kept."""
        known = {row.origin: row for row in self.rows}
        for row in more:
            known.setdefault(row.origin, row)
        return EvidenceTable(rows=tuple(known.values()))

    @property
    def sha256(self) -> str:
        """The digest of what it holds, in whatever order."""
        return hashlib.sha256(" ".join(sorted(row.digest() for row in self.rows)).encode()).hexdigest()
