"""The records that travel between stages: small, frozen, JSON; paths, ids and hashes, never tensors."""

import math
from typing import Any, Literal

from pydantic import Field

from components.core.brief import Conditioning, Delivery, FamilyName, Goal, Modality, Mode, Precision
from components.core.noise import NoiseInput
from components.core.record import Record

Tier = Literal["tiny", "small", "medium", "large"]
Verdict = Literal["pass", "fail", "undecided"]


class Pretrained(Record):
    """The pretrained model of a brief, its gaps filled; `notes` say what was read or assumed."""

    model: str
    family: FamilyName
    in_domain: bool
    notes: tuple[str, ...] = ()


class Facts(Record):
    """The brief made concrete."""

    modality: Modality
    goal: Goal
    conditioning: Conditioning
    items: int | None
    side: int | None  # pixels of the longer edge
    channels: int | None
    classes: int
    train: int | None = None  # items of a prepared set to train on, and held out for the proof; None: not prepared yet
    held_out: int | None = None
    duplicates: float = 0.0  # share of items equal to an earlier one
    rare_classes: tuple[str, ...] = ()  # classes that lack an item to train on, or one that is held out
    tier: Tier
    tier_because: str
    device: Literal["cpu", "cuda"]
    usd: float | None
    gpu_hours: float | None
    minutes: float | None
    items_seen: int | None = None
    spend: Literal["enough", "all"] = "enough"
    workers: int = 1
    latency_ms: float | None
    batch: int
    require: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    pretrained: Pretrained | None = None


class Reason(Record):
    """Why: the rule's id, a sentence, and where the rule comes from."""

    rule: str
    text: str
    source: str


class Rejected(Record):
    """A family that was not chosen, and why."""

    family: FamilyName
    rule: str
    text: str
    source: str


class PolicyWarning(Record):
    """A known mistake ahead, with its fix."""

    code: str
    text: str
    fix: str
    source: str


class Figure(Record):
    """One estimated number and where it comes from. `low` and `high`: an interval where it is uncertain; one alone: a bound."""

    value: float
    unit: str
    basis: str
    low: float | None = None
    high: float | None = None


class Estimate(Record):
    """What the choice will cost: each figure says its basis."""

    training_s: Figure
    memory_gb: Figure
    cost_usd: Figure
    latency_ms: Figure
    parameters_m: Figure | None = None  # of the network that is drawn from; None where they are not known


class Ceiling(Record):
    """A limit on the time of a training."""

    name: str  # as the brief has it: compute.minutes
    seconds: float = Field(gt=0)
    shared: bool = False  # by the GPUs that train together: hours and dollars are, minutes are not


class TrainingBudget(Record):
    """What a training may use. Where `items_seen` is None, a probe on the device turns the lowest ceiling into a number of items,
    and `items_enough` is the largest it may give."""

    items_seen: int | None
    items_enough: int | None = None
    ceilings: tuple[Ceiling, ...] = ()
    text: str  # one sentence: what is spent, and why

    def lowest(self, *, devices: int = 1) -> Ceiling | None:
        """The ceiling that is reached first by so many GPUs, in seconds of the clock."""
        own = [each.model_copy(update={"seconds": each.seconds / devices}) if each.shared else each for each in self.ceilings]
        return min(own, key=lambda each: each.seconds, default=None)


class Decision(Record):
    """Family + variant + mode + delivery, with reasons, rejected options, warnings and an estimate."""

    family: FamilyName
    variant: str
    mode: Mode
    delivery: Delivery
    reasons: tuple[Reason, ...]
    rejected: tuple[Rejected, ...]
    warnings: tuple[PolicyWarning, ...]
    estimate: Estimate
    overridden: str | None = None  # what the policy would have chosen, as family/variant, mode, delivery
    config: dict[str, float] = Field(default_factory=dict)  # of the family, as the reasons ask; override.config outranks it
    budget: TrainingBudget | None = None  # None in what an older version decided
    refusals: tuple[str, ...] = ()  # in a plan: why `produce` will refuse, a line each with its exit code


class Dataset(Record):
    """A DVC-versioned folder at a revision. `path` is where its prepared files can be read on this machine."""

    name: str
    path: str
    repo: str
    rev: str
    md5: str
    modality: Modality
    shape: tuple[int, int, int]  # height, width, channels
    count: int
    classes: tuple[str, ...]
    splits: dict[Literal["train", "validation", "test"], int]
    mean: tuple[float, ...]  # per channel, of [0, 255]
    std: tuple[float, ...]
    quarantined: int = 0
    duplicates: float = 0.0  # share of items equal to an earlier one; 0 where it was not counted: the public sets
    class_counts: dict[Literal["train", "validation", "test"], tuple[int, ...]] = Field(default_factory=dict)  # likewise

    @property
    def held_out(self) -> int:
        """How many items a proof compares with."""
        return self.count - self.splits.get("train", self.count)

    @property
    def rare_classes(self) -> tuple[str, ...]:
        """Classes without an item to train on, or without one that is held out."""
        train, *others = (self.class_counts.get(split, ()) for split in ("train", "validation", "test"))
        kept = [sum(counts) for counts in zip(*others, strict=True)]
        return tuple(name for name, learnt, left in zip(self.classes, train, kept, strict=False) if not (learnt and left))

    @property
    def deviation(self) -> float:
        """The standard deviation of all values together, in data units ([-1, 1])."""
        mean = sum(self.mean) / len(self.mean)
        square = sum(std**2 + each**2 for std, each in zip(self.std, self.mean, strict=True)) / len(self.mean)
        return math.sqrt(max(square - mean**2, 0.0)) / 127.5


class DataSpec(Record):
    """What a family must know of the data: the shape of one item, its classes and spread. Data units: floats in [-1, 1], NCHW."""

    channels: int = Field(ge=1)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    classes: tuple[str, ...] = ()
    conditional: bool = False
    std: float = Field(default=0.5, gt=0, description="standard deviation of all values; about 0.5 for natural images")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.channels, self.height, self.width)


class Checkpoint(Record):
    """The best weights of one training run: a folder of safetensors and JSON, tied to one MLflow run."""

    path: str  # folder with weights.safetensors (EMA weights of the best step)
    sha256: str  # of weights.safetensors
    family: FamilyName
    variant: str
    config: dict[str, Any]
    spec: DataSpec
    dataset_md5: str
    run_id: str
    step: int
    steps_total: int
    train_s: float
    quality: float  # the quality signal at the best step; lower is better
    collapse: str = ""  # why its samples counted as collapsed, if they did and none of the run were better
    stopped_by: str  # items_seen, or the ceiling that came first: compute.minutes
    items_seen: int = 0  # in all
    items_planned: int = 0
    threads: int = 0  # of the CPU, in each process; 0 in what an older version trained


class Reading(Record):
    """What samples on fixed noise say of a model while it trains.

    Diversity, precision, coverage and classes are shares of what as many real images get: 1 is no worse than the data itself.
    """

    distance: float  # lower is better; comparable within one run
    diversity: float = 1.0
    precision: float = 1.0
    coverage: float = 1.0
    classes: float = 1.0  # how many a classifier sees; 1 where the data has no labels
    collapse: str = ""  # why the samples count as collapsed, if they do


class Metric(Record):
    """A measured value with its bootstrap interval and the number of samples behind it."""

    value: float
    low: float
    high: float
    n: int
    better: Literal["lower", "higher", "neither"] = "neither"


class Protocol(Record):
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
    version: int = 1


class Scorecard(Record):
    """Measured metrics of one artifact under one protocol."""

    subject: str  # what was measured: onnx:SHA256 or torch:SHA256
    protocol: Protocol
    metrics: dict[str, Metric]
    device: str


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
    """Does the graph score as torch does? FD-local, precision and coverage of the images of both, on the same seeds.

    `fd_real` is that of as many images of the training set.
    """

    images: int
    fd: tuple[float, float]
    fd_real: float
    precision: tuple[float, float]
    coverage: tuple[float, float]

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
        return f"{self.images} images of the graph and of torch: {told}"


class AdmissionCheck(Record):
    """What one check of a graph saw."""

    check: str
    passed: bool
    text: str


class Admission(Record):
    """Whether a graph may be served, after it was read, loaded and run on a device under limits."""

    verdict: Literal["pass", "fail"]
    device: Literal["cpu", "cuda"]
    checks: tuple[AdmissionCheck, ...]  # the last one says no, where the verdict is fail
    runtime: str  # the version of ONNX Runtime that ran it

    @property
    def refusal(self) -> str:
        """The check that says no and what it saw; empty where the verdict is pass."""
        return next((f"{check.check}: {check.text}" for check in self.checks if not check.passed), "")


class FileDigest(Record):
    """One file of a bundle."""

    name: str
    sha256: str
    size_bytes: int


class Reference(Record):
    """Images that a graph made when it was sealed, in the bundle's `reference.u8` (components/runtime/reference.py).

    Where it is served, at most `may_differ` of them may differ by more than `tolerance_levels` of 255 on average.
    """

    items: int = Field(ge=1, le=64)
    tolerance_levels: float = Field(ge=0)
    may_differ: int = 0


class Lineage(Record):
    """Where a bundle comes from."""

    run_id: str
    brief_sha256: str
    dataset_md5: str
    dataset_rev: str
    checkpoint_sha256: str
    decision: Decision
    genwright: str  # version
    teacher: str | None = None


class Bundle(Record):
    """What is served. This record is bundle.json; its SHA-256 is the bundle's address."""

    format: Literal[1] = 1
    model: str
    family: FamilyName
    variant: str
    spec: DataSpec
    noise: tuple[NoiseInput, ...]
    condition: str | None  # name of the class-index input (int64, shape [batch]), if the graph has one
    output: str  # name of the image output [batch, C, H, W]
    output_type: Literal["FP32", "UINT8"] = "FP32"  # in [-1, 1], or the 256 levels
    precision: Precision = "fp32"  # of its products
    opset: int
    max_batch: int = Field(ge=1, le=1024)
    files: tuple[FileDigest, ...]
    lineage: Lineage
    scorecard: Scorecard
    gates: GateReport
    latent: bool = False  # whether its noise is a latent space: near noise, near images
    admission: Admission | None = None  # None: sealed by a version that did not examine its graphs
    reference: Reference | None = None  # None: sealed by a version that kept none


class StoredBundle(Record):
    """A bundle in an object store."""

    sha256: str
    uri: str
    bundle: Bundle


class Release(Record):
    """A registered model version in MLflow."""

    model: str
    version: int
    bundle_sha256: str
    bundle_uri: str
    run_id: str
    aliases: tuple[str, ...] = ()


class LedgerEntry(Record):
    """One promotion or rollback; or that the champion was put back, where a hand had set the alias on what cannot be served."""

    sequence: int
    model: str
    action: Literal["promote", "rollback", "restore"]
    from_version: int | None
    to_version: int
    from_bundle: str | None
    to_bundle: str
    who: str
    when: str  # ISO 8601, UTC
    why: str
    evidence: dict[str, Any] = Field(default_factory=dict)


class Channel(Record):
    """The one small object that names the bundle being served; changed only by compare-and-swap."""

    model: str
    version: int
    bundle_sha256: str
    sequence: int  # of the ledger entry that put it here
