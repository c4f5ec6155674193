"""Scorecards measured here outrank the texts' priors, among what the hard constraints and the goal leave."""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from components.core.brief import FamilyName, Modality, Mode
from components.core.record import Record
from components.core.records import Facts, Reason, Tier
from components.policy.candidates import Key
from components.policy.choose import Chooser, Plan

SIMILAR_SIDES = 2.0  # the longer side at most this many times the shorter


class Evidence(Record):
    """One scorecard as the policy sees it. Distances of different protocols are never compared."""

    family: FamilyName
    variant: str
    mode: Mode = "scratch"
    modality: Modality
    side: int | None = None
    tier: Tier
    fd: float = Field(ge=0, description="Frechet distance; lower is better")
    fd_low: float = Field(ge=0)
    fd_high: float = Field(ge=0)
    protocol: str = Field(description="digest of the protocol that produced it")
    source: str = Field(description="where it can be looked up: a run, a release, a bake-off")


def weigh(chooser: Chooser, plan: Plan, scorecards: Sequence[Evidence]) -> Plan:
    """The plan after the measurements: another family when it is measured better beyond doubt, else the same with a reason."""
    measured = _comparable(chooser, plan, scorecards)
    if not measured:
        return plan
    source = chooser.tables.cite(("design-evidence",))
    own = measured.get(plan.key)
    if own is None:
        text = f"measured here, but not {plan.family}/{plan.variant}: {_shown(measured)}; the priors stand"
        return plan.because(Reason(rule="evidence.incomplete", text=text, source=source))
    best_key = min(measured, key=lambda key: (measured[key].fd, key != plan.key))
    best = measured[best_key]
    text = f"measured: {_shown(measured)}"
    if best_key == plan.key:
        return plan.because(Reason(rule="evidence.measured", text=f"{text}; the choice is confirmed", source=_named(source, own)))
    if best.fd_high >= own.fd_low:
        return plan.because(
            Reason(rule="evidence.undecided", text=f"{text}; intervals overlap, the priors stand", source=_named(source, own))
        )
    reason = Reason(rule="evidence.measured", text=f"{text}; this outranks the prior", source=_named(source, best))
    changed = chooser.complete(best.family, variant=best.variant, reasons=(reason,))
    worse = Reason(
        rule="evidence.measured", text=f"measured: FD {_figure(own)} against {_figure(best)}", source=_named(source, own)
    )
    return replace(changed, instead={plan.family: worse} if plan.family != best.family else {})


def _comparable(chooser: Chooser, plan: Plan, scorecards: Sequence[Evidence]) -> dict[Key, Evidence]:
    """The last scorecard of each candidate under one protocol: that of the plan's own, else the last one's."""
    families = {*chooser.field.leaves, plan.family}
    fitting = [
        card
        for card in scorecards
        if card.family in families
        and (card.family, card.variant) in chooser.field.variants
        and card.mode == chooser.mode_for(card.family)
        and _alike(card, chooser.facts)
    ]
    own = [card for card in fitting if (card.family, card.variant) == plan.key]
    protocol = (own or fitting)[-1].protocol if fitting else None
    return {(card.family, card.variant): card for card in fitting if card.protocol == protocol}


def _alike(card: Evidence, facts: Facts) -> bool:
    """Same modality, similar shape and budget."""
    if card.modality != facts.modality or card.tier != facts.tier:
        return False
    if card.side is None or facts.side is None:
        return card.side == facts.side
    return max(card.side, facts.side) <= SIMILAR_SIDES * min(card.side, facts.side)


def _shown(measured: dict[Key, Evidence]) -> str:
    ranked = sorted(measured.items(), key=lambda item: (item[1].fd, item[0]))
    return ", ".join(f"{family}/{variant} FD {_figure(card)}" for (family, variant), card in ranked)


def _figure(card: Evidence) -> str:
    return f"{card.fd:.4g} [{card.fd_low:.4g}, {card.fd_high:.4g}]"


def _named(source: str, card: Evidence) -> str:
    return f"{source}; scorecard {card.source}"
