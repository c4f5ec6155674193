"""The tables of the policy as typed records, and how a team's own file is laid over them.

The defaults stand in `rules/*.yaml`. A team's file has the same keys: a mapping is merged, a row that exists is replaced key by
key, `null` removes a row, and a new row goes in front of the default ones of its table, so that it is asked first.
"""

from functools import cache
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from components.core.brief import Conditioning, Delivery, FamilyName, Goal, Modality, Mode
from components.core.errors import SettingsError
from components.core.record import Record, first_complaint
from components.core.records import Tier
from components.policy.conditions import ATTRIBUTES, WORDS, When, complaint

RULES = Path(__file__).parent / "rules"
RULE_TABLES = ("hard", "choices", "modes", "deliveries", "variant_rules", "notes", "warnings")
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
    choose: FamilyName | Literal["pretrained"]


class ModeRule(Rule):
    mode: Mode


class DeliveryRule(Rule):
    delivery: Delivery


class VariantRule(Rule):
    family: FamilyName
    variant: str


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
    """What a goal leaves, what it never takes, and the prior that ranks what is left."""

    leaves: tuple[FamilyName, ...]
    never: tuple[FamilyName, ...] = ()
    rank_by: Literal["quality", "stability", "speed"]


class VariantRow(Record):
    """What is planned of a variant; its card outranks this once it is built."""

    modalities: tuple[Modality, ...]
    conditioning: tuple[Conditioning, ...]
    likelihood: Literal["exact", "bound", "none"]
    invertible: bool = False
    latent: bool = False
    sequential: Literal["none", "pixel", "code", "token"] = "none"
    steps: int
    side_max: int | None = None
    wide: bool = False
    appetite: int = 0
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


class Costs(Record):
    """What the estimates are made of; see rules/estimate.yaml for where each number comes from."""

    usd_per_cpu_hour: float
    gpu_over_cpu: float
    batch: int
    train_anchors: tuple[Anchor, ...] = Field(min_length=2)
    pass_anchor: dict[Literal["side", "ms"], float]
    pass_floor_ms: dict[Literal["cpu", "gpu"], float]
    piece_ms: float
    few_steps: int
    latent_factor: int
    latent_above: int
    values: dict[Modality, int]
    tokens: int
    frames: int
    families: dict[FamilyName, FamilyCost]
    tiers: dict[Tier, TierCost]
    pretrained: dict[Literal["small", "wide", "other"], Tier]
    tuning: dict[Literal["lora", "finetune"], Tuning]
    memory: Memory


class Tables(Record):
    """Everything the policy knows. Rows keep their order: in most tables the first that matches decides."""

    sources: dict[str, str]
    families: dict[FamilyName, Prior]
    tiers: Tiers
    goals: dict[Goal, GoalRow]
    variants: dict[str, VariantRow]  # "family/variant"
    hard: dict[str, Constraint]
    choices: dict[str, Choice]
    modes: dict[str, ModeRule]
    deliveries: dict[str, DeliveryRule]
    variant_rules: dict[str, VariantRule]
    notes: dict[str, Rule]
    rejections: dict[FamilyName, dict[str, Rule]]
    warnings: dict[str, WarningRule]
    estimate: Costs

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        for place, rule in self._rules():
            self._check(place, rule)
        for name, row in self.variants.items():
            self._check_sources(f"variants.{name}", row.source)
            if name.split("/")[0] not in WORDS["family"]:
                raise ValueError(f"variants.{name}: the name must be FAMILY/VARIANT")
        unknown = [row for row in self.variant_rules.values() if f"{row.family}/{row.variant}" not in self.variants]
        if unknown:
            raise ValueError(f"variant_rules: no variant {unknown[0].family}/{unknown[0].variant} in variants")
        self._check_complete()
        return self

    def _rules(self) -> list[tuple[str, Rule]]:
        rules = [(f"{table}.{name}", rule) for table in RULE_TABLES for name, rule in getattr(self, table).items()]
        return rules + [
            (f"rejections.{who}.{name}", rule) for who, rows in self.rejections.items() for name, rule in rows.items()
        ]

    def _check(self, place: str, rule: Rule) -> None:
        for name in ("when", "keep"):
            wrong = complaint(getattr(rule, name, {}))
            if wrong:
                raise ValueError(f"{place}.{name}: {wrong}")
        fields = {field for text in (rule.text, getattr(rule, "fix", "")) for _, field, _, _ in Formatter().parse(text) if field}
        if not fields <= set(ATTRIBUTES):
            raise ValueError(
                f"{place}.text: no attribute {sorted(fields - set(ATTRIBUTES))[0]!r}; allowed: {', '.join(ATTRIBUTES)}"
            )
        self._check_sources(place, rule.source)

    def _check_sources(self, place: str, keys: tuple[str, ...]) -> None:
        missing = [key for key in keys if key not in self.sources]
        if missing or not keys:
            raise ValueError(f"{place}.source: {missing[:1] or 'none'} is not in the table sources; add it there")

    def _check_complete(self) -> None:
        for family in WORDS["family"]:
            if not any(not rule.when for rule in self.rejections.get(family, {}).values()):  # type: ignore[call-overload]
                raise ValueError(f"rejections.{family}: a row without a condition must come last")
        for table in ("modes", "deliveries"):
            if all(rule.when for rule in getattr(self, table).values()):
                raise ValueError(f"{table}: a row without a condition must come last")

    def cite(self, keys: tuple[str, ...]) -> str:
        """The sources in words."""
        return "; ".join(self.sources[key] for key in keys)


def load_tables(path: Path | None = None) -> Tables:
    """The default tables, with a team's YAML file laid over them when one is given.

    Raises SettingsError with one line: the file, the row, what is wrong, what is allowed.
    """
    return _default() if path is None else _tables(_merged(_documents(), _read(path)), where=str(path))


@cache
def _default() -> Tables:
    return _tables(_documents(), where=str(RULES))


def _documents() -> dict[str, Any]:
    documents: dict[str, Any] = {}
    for path in sorted(RULES.glob("*.yaml")):
        documents |= _read(path)
    return documents


def _tables(document: dict[str, Any], *, where: str) -> Tables:
    try:
        return Tables.model_validate(document)
    except ValidationError as error:
        raise SettingsError(f"{where}: {first_complaint(error)}") from error


def _read(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is there
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - a safe loader either way
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}", do="name a YAML file of policy tables") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {getattr(error, 'problem', error)}") from error
    allowed = ", ".join(Tables.model_fields)
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: a mapping of tables is needed", allowed=allowed)
    unknown = [key for key in document if key not in Tables.model_fields]
    if unknown:
        raise SettingsError(f"{path}: no table {unknown[0]!r}", allowed=allowed)
    return document


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    new = {key: value for key, value in over.items() if key not in base and value is not None}
    kept = {
        key: _laid_over(key, value, over[key]) if key in over else value
        for key, value in base.items()
        if over.get(key, 0) is not None
    }
    return new | kept


def _laid_over(key: str, base: Any, over: Any) -> Any:
    whole = key in ("when", "keep") or not (isinstance(base, dict) and isinstance(over, dict))
    return over if whole else _merged(base, over)
