"""The tables of the policy as typed records, and how a team's own file is laid over them.

The defaults stand in `rules/*.yaml`. A team's file has the same keys: a mapping is merged, a row that exists is replaced key by
key, `null` removes a row, and a new row goes in front of the default ones of its table, so that it is asked first.
"""

from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any, Self

from pydantic import ValidationError, model_validator

from components.core.brief import FamilyName, Goal, Modality
from components.core.errors import SettingsError
from components.core.plain_yaml import load_yaml
from components.core.record import Record, first_complaint
from components.core.yaml_values import NotPlain
from components.policy.conditions import ATTRIBUTES, complaint, names_in
from components.policy.rows import (
    OTHER,
    Choice,
    Constraint,
    Costs,
    DeliveryRule,
    GoalRow,
    ModeRule,
    Note,
    Prior,
    Rule,
    Tiers,
    VariantRow,
    VariantRule,
    WarningRule,
)

RULES = Path(__file__).parent / "rules"
RULE_TABLES = ("hard", "choices", "modes", "deliveries", "variant_rules", "notes", "warnings")


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
    notes: dict[str, Note]
    rejections: dict[FamilyName, dict[str, Rule]]
    warnings: dict[str, WarningRule]
    estimate: Costs

    @property
    def known_families(self) -> tuple[FamilyName, ...]:
        """Every family with a planned variant or a prior."""
        return tuple(dict.fromkeys((*(name.split("/")[0] for name in self.variants), *self.families)))

    @property
    def known_modalities(self) -> tuple[Modality, ...]:
        """Every modality that a planned variant draws."""
        return tuple(dict.fromkeys(each for row in self.variants.values() for each in row.modalities))

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        for name, row in self.variants.items():
            self._check_sources(f"variants.{name}", row.source)
            if not all(name.partition("/")):
                raise ValueError(f"variants.{name}: the name must be FAMILY/VARIANT")
        names = names_in(families=self.known_families, modalities=self.known_modalities)
        for place, rule in self._rules():
            self._check(place, rule, names)
        self._check_families()
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

    def _check(self, place: str, rule: Rule, names: dict[str, tuple[str, ...]]) -> None:
        for part in ("when", "keep"):
            wrong = complaint(getattr(rule, part, {}), names)
            if wrong:
                raise ValueError(f"{place}.{part}: {wrong}")
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

    def _check_families(self) -> None:
        """Every family that a row names is one with a planned variant or a prior."""
        known = self.known_families
        named = {
            **{f"choices.{name}.choose": (row.choose,) for name, row in self.choices.items() if row.choose != "pretrained"},
            **{f"goals.{name}": (*row.leaves, *row.never) for name, row in self.goals.items()},
            "rejections": tuple(self.rejections),
            "estimate.denoiser": (self.estimate.denoiser.family, self.estimate.denoiser.decoder),
            "estimate.families": tuple(name for name in self.estimate.families if name != OTHER),
            "estimate.enough": tuple(name for name in self.estimate.enough if name != OTHER),
        }
        for place, names in named.items():
            if unknown := [name for name in names if name not in known]:
                raise ValueError(f"{place}: no family {unknown[0]!r}; allowed: {', '.join(known)}")
        if OTHER not in self.estimate.families or OTHER not in self.estimate.enough:
            raise ValueError(f"estimate: families and enough need a row {OTHER!r}, for families without one")

    def _check_complete(self) -> None:
        for family in self.families:
            if not any(not rule.when for rule in self.rejections.get(family, {}).values()):
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
    try:
        document = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}", do="name a YAML file of policy tables") from error
    except NotPlain as error:
        raise SettingsError(f"{path}: {error}") from error
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
