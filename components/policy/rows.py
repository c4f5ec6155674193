"""One row of each table of the policy, as a frozen record. `rules/*.yaml` holds the rows, `tables.py` reads them."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from components.core.brief import Conditioning, Delivery, FamilyName, Modality, Mode
from components.core.record import Record
from components.core.records import Tier
from components.policy.conditions import When

OTHER = "other"  # the name of the row for families that have none
Names = Annotated[tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]


class Rule(Record):
    """A sentence that holds when the condition does, and the keys of its sources."""

    when: When = Field(default_factory=dict)
    text: str
    source: Names


class Constraint(Rule):
    """What a hard constraint keeps of the variants. A quiet one is a reason only when a whole family goes."""

    keep: When
    quiet: bool = False


class Choice(Rule):
    choose: FamilyName  # or "pretrained": that of the pretrained model


class ModeRule(Rule):
    mode: Mode


class DeliveryRule(Rule):
    delivery: Delivery


class VariantRule(Rule):
    family: FamilyName
    variant: str


class Note(Rule):
    """`config` is what the note asks of the family's Config."""

    config: dict[str, float] = Field(default_factory=dict)


class WarningRule(Rule):
    code: str | None = None  # the row's id by default
    fix: str


class Prior(Record):
    """What the texts say of a family. Scores out of 10."""

    title: str
    quality: tuple[float, float] | None
    stability: float | None
    speed: Literal["fast", "slow", "very_slow"]
    mode_collapse: bool
    likelihood: Literal["exact", "bound", "none"]
    best_for: str
    source: Names


class Tiers(Record):
    """USD below a bound is that tier; above all of them it is large."""

    bounds: dict[Tier, float]
    device: dict[Literal["cpu", "cuda"], Tier]
    big: tuple[Tier, ...]
    items_big: int
    source: Names


class GoalRow(Record):
    """What a goal leaves, what it never takes, and what ranks the rest: a prior, and the metric of what was measured."""

    leaves: tuple[FamilyName, ...]
    never: tuple[FamilyName, ...] = ()
    rank_by: Literal["quality", "stability", "speed"]
    measured: str | None = None  # the metric that ranks measured cases


class VariantRow(Record):
    """What is planned of a variant; its card outranks this once it is built."""

    modalities: tuple[Modality, ...]
    conditioning: tuple[Conditioning, ...]
    likelihood: Literal["exact", "bound", "none"]
    invertible: bool = False
    latent: bool = False
    sequential: Literal["none", "pixel", "code", "token"] = "none"
    stepwise: bool = False
    solver: str = "ddim"
    stages: int = 1
    on_codes: bool = False
    starts: tuple[Mode, ...] = ("scratch", "finetune")
    steps: int
    side_max: int | None = None
    wide: bool = False
    appetite: int = 0
    distils: str | None = None
    few_steps: bool = True  # of one that denoises: whether what is trained here for few steps can be made of it
    source: Names


class Anchor(Record):
    """A measured training step."""

    side: int
    batch: int
    s: float
    note: str


class TierCost(Record):
    steps: int
    train: float
    serve: float
    params_m: float


class FamilyCost(Record):
    train: float
    serve: float
    grows: bool


class Denoiser(Record):
    """What a denoising step is taken for before a family is chosen: the family, its variants, and what decodes its codes."""

    family: FamilyName
    variant: str
    on_codes: str
    decoder: FamilyName


class Memory(Record):
    base_gb: float
    bytes_per_parameter: float
    bytes_per_parameter_frozen: float
    bytes_per_pixel: float
    pixels: int


class Tuning(Record):
    hours: tuple[float, float]
    hours_per_item: float
    side: int


class Enough(Record):
    """Items seen after which more of the same training is not worth it: what the paper's own run saw."""

    items_seen: int = Field(gt=0)
    because: str


class Work(Record):
    """How fast a device works on one item at a time, from slow to fast; `source`: measured or assumed, and where."""

    gflop_per_s: tuple[float, float]
    call_us: tuple[float, float]
    source: str


class Costs(Record):
    """What the estimates are made of; see rules/estimate.yaml for where each number comes from.

    A family without a row of its own has that of OTHER.
    """

    usd_per_cpu_hour: float
    gpu_over_cpu: float
    batch: int
    enough: dict[FamilyName, Enough]
    epochs_enough: int
    train_anchors: tuple[Anchor, ...] = Field(min_length=2)
    pass_anchor: dict[Literal["side", "ms"], float]
    pass_floor_ms: dict[Literal["cpu", "gpu"], float]
    work: dict[Literal["cpu", "cuda"], Work]
    piece_ms: float
    few_steps: int
    latent_factor: int
    latent_above: int
    values: dict[Modality, int]
    measured_on: Modality
    tokens: int
    frames: dict[Modality, int]
    families: dict[FamilyName, FamilyCost]
    denoiser: Denoiser
    tiers: dict[Tier, TierCost]
    pretrained: dict[Literal["small", "wide", "other"], Tier]
    tuning: dict[Literal["lora", "finetune"], Tuning]
    memory: Memory

    def of_family(self, family: FamilyName) -> FamilyCost:
        """What its training and its passes cost beside those of a diffusion model."""
        return self.families.get(family) or self.families[OTHER]

    def enough_of(self, family: FamilyName) -> Enough:
        """How many items seen are enough."""
        return self.enough.get(family) or self.enough[OTHER]
