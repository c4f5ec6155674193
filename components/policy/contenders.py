"""What a bake-off tries: the policy's own choice first, then the best of what else the brief may be made by."""

from collections.abc import Iterator, Mapping

from components.core.brief import OverrideBrief
from components.core.card import Card
from components.core.errors import BriefError
from components.core.records import Decision, EvidenceTable, Facts
from components.policy.candidates import Key
from components.policy.choose import Chooser, Plan
from components.policy.decide import chooser_of
from components.policy.evidence import case_of, levels, similar
from components.policy.tables import Tables, load_tables


def contenders(
    facts: Facts,
    own: Decision,
    *,
    cards: Mapping[tuple[str, str], Card],
    tables: Tables | None = None,
    evidence: EvidenceTable | None = None,
) -> Iterator[OverrideBrief]:
    """The forced choices that may be tried beside the policy's own, the most promising first: one variant of each family that the
    goal leaves, by the prior that ranks for the goal, then the further variants. What was measured to be worse comes last."""
    chooser = chooser_of(facts, tables or load_tables(), cards)
    plans = [plan for plan in _plans(chooser, cards) if plan.key != (own.family, own.variant)]
    worse = _measured_worse(chooser, own, evidence or EvidenceTable())
    rank_by = chooser.tables.goals[facts.goal].rank_by
    place = {plan.key: at for at, plan in enumerate(plans)}
    first = {own.family}
    later: dict[Key, bool] = {}
    for plan in plans:
        later[plan.key] = plan.family in first
        first.add(plan.family)

    def order(plan: Plan) -> tuple[object, ...]:
        return plan.key in worse, later[plan.key], -chooser.prior_score(plan.family, rank_by), place[plan.key]

    for plan in sorted(plans, key=order):
        yield OverrideBrief(family=plan.family, variant=plan.variant, mode=plan.mode, delivery=plan.delivery)


def _plans(chooser: Chooser, cards: Mapping[tuple[str, str], Card]) -> Iterator[Plan]:
    """Of each family the variant of the tables first, then the others that are built and meant for such items."""
    known = [family for family in chooser.field.leaves if family in chooser.tables.families]
    for family in known:
        variants = [variant for owner, variant in chooser.field.variants if owner == family and (family, variant) in cards]
        try:
            named = chooser.complete(family).variant
        except (BriefError, KeyError):
            continue
        for variant in sorted(variants, key=lambda variant: variant != named):
            row = chooser.field.variants[family, variant]
            plan = chooser.complete(family, variant=variant)
            if chooser.reaches(row) and plan.variant == variant:
                yield plan


def _measured_worse(chooser: Chooser, own: Decision, evidence: EvidenceTable) -> set[Key]:
    """What was worse than the policy's own choice by more than chance, in a similar case."""
    metric = chooser.tables.goals[chooser.facts.goal].measured
    if metric is None or own.budget is None:
        return set()
    found = [each.row for each in similar(case_of(chooser.facts, own.budget, own.estimate.training_s.value), evidence.rows)]
    ours = [row for row in found if (row.family, row.variant, row.mode) == (own.family, own.variant, own.mode)]
    worse = set()
    for key in {(row.family, row.variant) for row in found}:
        theirs = [row for row in found if (row.family, row.variant) == key and row.mode == own.mode]
        both = levels(theirs, ours, metric)
        if both is not None:
            sign = 1 if theirs[0].metrics[metric].better == "lower" else -1
            if sign * (both[0].value - both[1].value) > both[0].half + both[1].half:
                worse.add(key)
    return worse
