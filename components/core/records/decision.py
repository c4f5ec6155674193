"""What the policy owns: the brief made concrete, what was decided, and what it may cost."""

from typing import Any, Literal

from pydantic import Field

from components.core.brief import Conditioning, Delivery, FamilyName, Goal, Modality, Use
from components.core.record import Record
from components.core.records.foreign import Foreign
from components.core.records.scorecard import Metric

Tier = Literal["tiny", "small", "medium", "large"]


class Pretrained(Record):
    """The pretrained model of a brief, its gaps filled; `notes` say what was read or assumed."""

    model: str
    family: FamilyName
    in_domain: bool
    release: str | None = None  # NAME/VERSION, where it was made here and its release was read
    variant: str | None = None  # of that release, or of the model made elsewhere that was read
    foreign: Foreign | None = None  # where it was made elsewhere, and is here
    drawn_by: dict[str, Any] = Field(default_factory=dict)  # its steps and solver, where they were read
    unfit: str = ""  # why nothing here begins with it, where it was made elsewhere
    notes: tuple[str, ...] = ()


class Facts(Record):
    """The brief made concrete."""

    modality: Modality
    goal: Goal
    conditioning: Conditioning
    items: int | None
    side: int | None  # pixels of the longer edge
    classes: int
    captions: int = 0  # distinct ones; 0: none, or not prepared yet
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
    use: Use | None = None
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


class UsedCase(Record):
    """A measured case that a decision looked at."""

    name: str  # family/variant
    distance: float
    metric: Metric | None  # that ranks for the goal
    share: float  # of its budget that it was trained for
    row: str  # its digest
    origin: str


class UsedEvidence(Record):
    """What a decision took from the evidence: `sha256` names the rows that it looked at, by which the same is decided again."""

    sha256: str
    rows: int  # of the table that they were found in
    metric: str | None  # that ranks for the goal
    decided: bool  # whether another choice was made than by the tables
    cases: tuple[UsedCase, ...] = ()
    factors: dict[str, float] = Field(default_factory=dict)  # by which estimates were corrected, by the names of `Estimate`
    dry_factors: dict[str, float] = Field(default_factory=dict)  # the same of dry runs


class Decision(Record):
    """Family + variant + mode + delivery, with reasons, rejected options, warnings and an estimate."""

    family: FamilyName
    variant: str
    mode: str  # the start: scratch, finetune, lora, or another one that the brief names
    delivery: Delivery
    reasons: tuple[Reason, ...]
    rejected: tuple[Rejected, ...]
    warnings: tuple[PolicyWarning, ...]
    estimate: Estimate
    overridden: str | None = None  # what the policy would have chosen, as family/variant, mode, delivery
    config: dict[str, float] = Field(default_factory=dict)  # of the family, as the reasons ask; override.config outranks it
    budget: TrainingBudget | None = None  # None in what an older version decided
    evidence: UsedEvidence | None = None  # None: none was looked at
    refusals: tuple[str, ...] = ()  # in a plan: why `produce` will refuse, a line each with its exit code
    # What the gate on the distance will tell apart; only a plan says.
    gate_power: tuple[str, ...] = Field(default=(), exclude_if=lambda told: not told)
