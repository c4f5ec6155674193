"""What the hard constraints leave, and why the rest is out."""

from collections.abc import Mapping
from dataclasses import dataclass

from components.core.brief import FamilyName
from components.core.card import Card
from components.core.errors import BriefError
from components.core.records import Reason
from components.policy.conditions import FAMILIES, Situation, Value, matches
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
        remaining = {family for family, _ in self.variants}
        return tuple(family for family in FAMILIES if family in remaining)


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
    remaining = tuple(family for family in FAMILIES if any(family == key[0] for key in left))
    return Field(left, everything, _leaves(now, tables, remaining), tuple(reasons), out, dropped)


def variants(tables: Tables, cards: Cards) -> dict[Key, VariantRow]:
    """Every variant planned or built; the card of a built one outranks its row."""
    rows = {_key(name): row for name, row in tables.variants.items()}
    for card in cards.values():
        rows[card.family, card.variant] = _from_card(card, rows.get((card.family, card.variant)))
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
    }


def reason_of(name: str, rule: Constraint, now: Situation, tables: Tables) -> Reason:
    return Reason(rule=name, text=fill(rule.text, now), source=tables.cite(rule.source))


def _of_modality(now: Situation) -> Constraint:
    text = "only a model of {modality} can draw {modality}"
    return Constraint(text=text, source=("card",), keep={"modality": str(now["modality"])}, quiet=True)


def _leaves(now: Situation, tables: Tables, remaining: tuple[FamilyName, ...]) -> tuple[FamilyName, ...]:
    """What the goal leaves: its own families, else all that it does not forbid, else all."""
    goal = tables.goals[now["goal"]]  # type: ignore[index]
    wanted = tuple(family for family in goal.leaves if family in remaining)
    return wanted or tuple(family for family in remaining if family not in goal.never) or remaining


def _key(name: str) -> Key:
    family, _, variant = name.partition("/")
    return family, variant  # type: ignore[return-value]


def _from_card(card: Card, planned: VariantRow | None) -> VariantRow:
    """The card as a row. What a card does not say comes from the plan, or is guessed on the safe side."""
    sequential = "none" if card.family != "autoregressive" else "token" if "text" in card.modalities else "pixel"
    base = planned or VariantRow(
        modalities=card.modalities,
        conditioning=card.conditioning,
        likelihood=card.likelihood,
        invertible=card.family == "flow",
        sequential=sequential,
        wide=card.family == "gan" or card.side_max > 256,
        steps=card.steps,
        source=("card",),
    )
    from_card = ("modalities", "conditioning", "likelihood", "latent", "steps", "side_max", "distils")
    update = {name: getattr(card, name) for name in from_card} | {"appetite": card.data_appetite}
    if planned and "text" in planned.conditioning:  # captions come with a pretrained model, not with what is built here
        update["conditioning"] = tuple(dict.fromkeys((*card.conditioning, "text")))
    return base.model_copy(update=update)
