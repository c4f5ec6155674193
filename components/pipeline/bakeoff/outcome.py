"""What a bake-off came to: every candidate with its rungs, and what was made of the winner."""

from components.core.record import Record
from components.core.records import Artifact
from components.pipeline.bakeoff.rung import Rung
from components.pipeline.run import Produced


class Candidate(Record):
    """What was tried, at each rung that it came to."""

    name: str  # family/variant
    run: str  # MODEL/KEY
    mode: str
    parameters_m: float | None
    rungs: tuple[Rung, ...]


class Bakeoff(Record):
    """All that was tried, the winner first, then who came as far as possible; and what was made of the winner."""

    model: str
    metric: str
    samples: int
    budget: str
    shares: tuple[float, ...]
    candidates: tuple[Candidate, ...]
    page: Artifact | None = None
    produced: Produced | None = None

    @property
    def winner(self) -> Candidate:
        return self.candidates[0]
