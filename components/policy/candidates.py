"""What the hard constraints leave, and why the rest is out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from components.core.brief import FamilyName
from components.core.card import Card
from components.core.errors import BriefError
from components.core.records import Reason
from components.policy.conditions import Situation, Value, matches
from components.policy.rows import Constraint, VariantRow
from components.policy.situation import fill
from components.policy.tables import Tables

Key = tuple[FamilyName, str]
Cards = Mapping[tuple[str, str], Card]


@dataclass(frozen=True)
class Field:
    """The variants that remain, what the goal leaves of their families, the reasons, and why each other one is out."""

    variants: dict[Key, VariantRow]
    everything: dict[Key, VariantRow]
    leaves: tuple[FamilyName, ...]
    reasons: tuple[Reason, ...]
    out: dict[FamilyName, Reason]
    dropped: dict[Key, Reason]

    @property
    def families(self) -> tuple[FamilyName, ...]:
        """Those that remain."""
        return families_of(self.variants)

    @property
    def all_families(self) -> tuple[FamilyName, ...]:
        """Those that remain and those that are out."""
        return families_of(self.everything)


def narrow(now: Situation, tables: Tables, cards: Cards) -> Field:
    """Apply the hard constraints in order. Raises BriefError when they leave nothing."""
    everything = variants(tables, cards)
    left = dict(everything)
    reasons: list[Reason] = []
    out: dict[FamilyName, Reason] = {}
    dropped: dict[Key, Reason] = {}
    for name, constraint in {**tables.hard, "modality": _of_modality(now)}.items():
        if not matches(constraint.when, now):
            continue
        kept = {key: row for key, row in left.items() if matches(constraint.keep, traits(key, row))}
        reason = reason_of(f"hard.{name}", constraint, now, tables)
        gone = {family for family, _ in left} - {family for family, _ in kept}
        out |= dict.fromkeys(gone, reason)
        dropped |= {key: reason for key in left if key not in kept}
        if gone or (len(kept) < len(left) and not constraint.quiet):
            reasons.append(reason)
        if not kept:
            raise BriefError(
                f"nothing can do all the brief asks: {' / '.join(reason.text for reason in reasons)}",
                do="drop one of these demands from the brief",
            )
        left = kept
    return Field(left, everything, _leaves(now, tables, families_of(left)), tuple(reasons), out, dropped)


def families_of(keys: Iterable[Key]) -> tuple[FamilyName, ...]:
    """The families of these variants: in the order of the tables, then those that are known by their cards alone."""
    return tuple(dict.fromkeys(family for family, _ in keys))


def variants(tables: Tables, cards: Cards) -> dict[Key, VariantRow]:
    """Every variant planned or built; the card of a built one outranks its row."""
    rows = {_key(name): row for name, row in tables.variants.items()}
    quick = {(card.family, card.distils) for card in cards.values()} | {key for key, card in cards.items() if card.distils}
    for key, card in cards.items():
        row = _from_card(card, rows.get(key))
        rows[key] = row.model_copy(update={"few_steps": not card.stepwise or key in quick})
    return rows


def traits(key: Key, row: VariantRow) -> dict[str, Value]:
    """What a hard constraint may ask of a variant."""
    return {
        "family": key[0],
        "variant": key[1],
        "modality": row.modalities,
        "conditioning": row.conditioning,
        "likelihood_kind": row.likelihood,
        "sequential": row.sequential,
        "wide": row.wide,
        "latent": row.latent,
        "few_steps": row.few_steps,
        "invertible": row.invertible,
    }


def reason_of(name: str, rule: Constraint, now: Situation, tables: Tables) -> Reason:
    return Reason(rule=name, text=fill(rule.text, now), source=tables.cite(rule.source))


def _of_modality(now: Situation) -> Constraint:
    text = "only a model of {modality} can draw {modality}"
    return Constraint(text=text, source=("card",), keep={"modality": str(now["modality"])}, quiet=True)


def _leaves(now: Situation, tables: Tables, remaining: tuple[FamilyName, ...]) -> tuple[FamilyName, ...]:
    """What the goal leaves: its own families, else all that it does not forbid, else all. A family without a prior is left only
    where no other is."""
    goal = tables.goals[now["goal"]]  # type: ignore[index]
    known = tuple(family for family in remaining if family in tables.families)
    wanted = tuple(family for family in goal.leaves if family in known)
    return wanted or tuple(family for family in known if family not in goal.never) or known or remaining


def _key(name: str) -> Key:
    family, _, variant = name.partition("/")
    return family, variant


def _from_card(card: Card, planned: VariantRow | None) -> VariantRow:
    """The card as a row. What a card does not say (its sources) comes from the plan, where there is one."""
    told = {
        name: getattr(card, name)
        for name in (
            "modalities", "conditioning", "likelihood", "latent", "steps", "side_max", "distils", "sequential", "stepwise",
            "solver", "stages",
            "on_codes", "invertible", "wide", "starts",
        )
    }  # fmt: skip
    told["appetite"] = card.data_appetite
    return planned.model_copy(update=told) if planned else VariantRow(**told, source=("card",))
