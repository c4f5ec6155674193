"""What the evaluation owns: measured numbers, the protocol behind them, and what the gates say."""

from typing import Any, Literal

from pydantic import Field, model_validator

from components.core.record import Record

Verdict = Literal["pass", "fail", "undecided"]


class Metric(Record):
    """A measured value with its bootstrap interval and the number of samples behind it."""

    value: float
    low: float
    high: float
    n: int
    better: Literal["lower", "higher", "neither"] = "neither"


class ScoringProtocol(Record):
    """How a scorecard was measured. Numbers from different protocols are never compared."""

    extractor: str
    extractor_sha256: str
    dataset_md5: str
    reference_split: str
    reference_count: int
    samples: int
    resizer: str
    seed: int
    bootstrap: int
    level: float  # of the intervals
    judge_sha256: str | None = None  # the weights of the judge of texts, where one was asked
    heldout: str | None = None  # the network that only the proof sees; None of proofs of before, and of what is no proof
    heldout_sha256: str | None = None  # its weights
    version: int = 1


class Scorecard(Record):
    """Measured metrics of one artifact under one protocol. `by_class`: those of each class, where the data has classes;
    `by_caption`: those of words that many captions have, where it was asked by captions."""

    subject: str  # what was measured: onnx:SHA256 or torch:SHA256
    protocol: ScoringProtocol
    metrics: dict[str, Metric]
    device: str
    by_class: dict[str, dict[str, Metric]] = Field(default_factory=dict)
    by_caption: dict[str, dict[str, Metric]] = Field(default_factory=dict, exclude_if=lambda figures: not figures)


class GateVerdict(Record):
    """What one gate says."""

    gate: str
    verdict: Verdict
    value: float
    low: float
    high: float
    threshold: float
    text: str


class GateReport(Record):
    """All gates of one candidate. `verdict` is pass only when every gate passes."""

    verdict: Verdict
    gates: tuple[GateVerdict, ...]
    champion: str | None  # bundle SHA-256 of the champion it was compared with


class Agreement(Record):
    """Does the graph score as torch does? FD-local, precision and coverage of the items of both, on the same seeds.

    `fd_real` is that of as many items of the training set. Proofs of before there were other kinds tell `images`.
    """

    items: int
    fd: tuple[float, float]
    fd_real: float
    precision: tuple[float, float]
    coverage: tuple[float, float]

    @model_validator(mode="before")
    @classmethod
    def _of_images(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "images" not in value:
            return value
        return {"items" if name == "images" else name: each for name, each in value.items()}

    @property
    def holds(self) -> bool:
        """Whether they are as near as rounding explains: FD-local within a twentieth, the shares within 0.03."""
        apart = abs(self.fd[0] - self.fd[1]) <= 0.05 * max(self.fd[1], self.fd_real)
        return apart and all(abs(ours - other) <= 0.03 for ours, other in (self.precision, self.coverage))

    @property
    def text(self) -> str:
        """For a person."""
        pairs = {"FD-local": self.fd, "precision": self.precision, "coverage": self.coverage}
        told = ", ".join(f"{name} {ours:.4g} and {other:.4g}" for name, (ours, other) in pairs.items())
        return f"{self.items} items of the graph and of torch: {told}"
