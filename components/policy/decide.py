"""Facts in, one Decision out: hard constraints, then the goal, the chart, the budget table, the default.

What is decided stands in the tables (rules/*.yaml); this file asks them in order and writes down what they say.
"""

from collections.abc import Mapping

from components.core.brief import FamilyName, OverrideBrief
from components.core.card import Card
from components.core.records import Decision, EvidenceTable, Facts, Machine, PolicyWarning, Reason, Rejected, UsedEvidence
from components.policy.budget import training_budget
from components.policy.candidates import Cards, Field, narrow
from components.policy.choose import Chooser, Plan, first
from components.policy.conditions import Value, matches
from components.policy.estimate import estimate, passes
from components.policy.evidence import Evidence, case_of, corrected, dry_factors
from components.policy.override import force
from components.policy.pretrained import reasons as read_or_assumed
from components.policy.situation import fill, situation
from components.policy.tables import Tables, load_tables


def decide(
    facts: Facts,
    *,
    cards: Mapping[tuple[str, str], Card],
    override: OverrideBrief | None = None,
    tables: Tables | None = None,
    usd_per_gpu_hour: float = 2.0,
    evidence: EvidenceTable | None = None,
    machine: Machine | None = None,
) -> Decision:
    """Choose family, variant, mode and delivery, and say why.

    `cards` are those of the variants that are built; others may be chosen from the plan. `evidence`: what was measured before,
    which outranks the tables' priors where a case is similar; None where nobody is to be asked for it. `machine`: what the model
    is to be made and drawn with. Raises BriefError when the brief asks for what no family can do, or forces what a hard
    constraint forbids.
    """
    tables = tables or load_tables()
    chooser = chooser_of(facts, tables, cards, override=override)
    own, measured, used = chooser.prior(), None, None
    if evidence is not None:
        measured = _measured(chooser, own, evidence, machine, usd_per_gpu_hour=usd_per_gpu_hour)
        own, used = measured.better_than(own)
    forced = override is not None and any((override.family, override.variant, override.mode, override.delivery))
    plan = force(chooser, own, override) if override is not None and forced else own
    return _decision(chooser, plan, own, usd_per_gpu_hour=usd_per_gpu_hour, measured=measured, used=used)


def chooser_of(facts: Facts, tables: Tables, cards: Cards, *, override: OverrideBrief | None = None) -> Chooser:
    """The tables, ready to be asked about one brief. Raises BriefError when its hard constraints leave nothing."""
    now = situation(facts, tables)
    field = narrow(now, tables, cards)
    return Chooser(facts, tables, field, now | _start(now, field), override.config if override else {})


def _measured(chooser: Chooser, own: Plan, table: EvidenceTable, machine: Machine | None, *, usd_per_gpu_hour: float) -> Evidence:
    """What was measured, as it is asked for this brief."""
    pick = chooser.pick(own.family, own.variant, own.mode, own.delivery)
    budget, training_s = training_budget(chooser.facts, chooser.tables.estimate, pick, usd_per_gpu_hour=usd_per_gpu_hour)
    return Evidence(chooser, case_of(chooser.facts, budget, training_s.value), table, machine or Machine())


def _start(now: Mapping[str, Value], field: Field) -> dict[str, Value]:
    """Whether the pretrained model is of use: its family is among what the hard constraints and the goal leave, and so is the
    variant of a release made here."""
    family, variant = now["pretrained_family"], now["pretrained_variant"]
    useful = family in field.leaves and (variant is None or (family, variant) in field.variants)
    return {"start": now["pretrained"] if useful else "none", "builds_on_family": now["pretrained_family"] if useful else "none"}


def _decision(
    chooser: Chooser,
    plan: Plan,
    own: Plan,
    *,
    usd_per_gpu_hour: float,
    measured: Evidence | None = None,
    used: UsedEvidence | None = None,
) -> Decision:
    """What a plan comes to. `measured`: the similar cases, which correct its estimate; `used`: what was taken from them."""
    facts, tables = chooser.facts, chooser.tables
    pick = chooser.pick(plan.family, plan.variant, plan.mode, plan.delivery)
    budget, training_s = training_budget(facts, tables.estimate, pick, usd_per_gpu_hour=usd_per_gpu_hour)
    cost = estimate(facts, tables.estimate, pick, training_s=training_s, usd_per_gpu_hour=usd_per_gpu_hour)
    granted = budget.lowest(devices=facts.workers if facts.device == "cuda" else 1)
    factors: dict[str, float] = {}
    if measured is not None:
        cost, factors = corrected(cost, plan, measured, ceiling_s=granted.seconds if granted else None)
        used = used and used.model_copy(update={"factors": factors, "dry_factors": dry_factors(plan, measured)})
    overridden = own.words if plan.words != own.words else None
    limit = facts.latency_ms
    goal = tables.goals[facts.goal]
    now: dict[str, Value] = plan.now | {
        "passes": passes(facts, tables.estimate, pick),
        "serve_ms": cost.latency_ms.value,
        "latency_fits": limit is None or cost.latency_ms.value <= limit,
        "appetite": pick.row.appetite,
        "below_appetite": facts.items is not None and facts.items < pick.row.appetite,
        "side_max": pick.row.side_max,
        "beyond_side": not chooser.reaches(pick.row),
        "goal_met": plan.family in goal.leaves,
        "goal_never": plan.family in goal.never,
        "forced": overridden is not None,
        "forced_to": plan.words,
        "would_choose": own.words,
    }
    notes = [(name, note) for name, note in tables.notes.items() if matches(note.when, now)]
    return Decision(
        family=plan.family,
        variant=plan.variant,
        mode=plan.mode,
        delivery=plan.delivery,
        reasons=(
            *chooser.field.reasons,
            *plan.reasons,
            _tier(chooser),
            *read_or_assumed(facts.pretrained),
            *(chooser.reason(*note, now) for note in notes),
        ),
        rejected=_rejected(chooser, plan, own, now),
        warnings=_warnings(tables, now),
        estimate=cost,
        overridden=overridden,
        config={key: value for _, note in notes for key, value in note.config.items()},
        budget=budget,
        evidence=used,
    )


def _tier(chooser: Chooser) -> Reason:
    facts, tables = chooser.facts, chooser.tables
    return Reason(
        rule=f"tier.{facts.tier}", text=f"{facts.tier} compute: {facts.tier_because}", source=tables.cite(tables.tiers.source)
    )


def _rejected(chooser: Chooser, plan: Plan, own: Plan, now: dict[str, Value]) -> tuple[Rejected, ...]:
    """Every other family: out by a hard constraint, by the brief's override, or by its table."""
    override = Reason(rule="override", text="the policy would have chosen it", source=chooser.tables.cite(("design-brief",)))
    special = {**({own.family: override} if own.family != plan.family else {}), **chooser.field.out}
    rejected = []
    for family in chooser.field.all_families:
        if family == plan.family:
            continue
        why = special.get(family) or _rejection(chooser, family, now)
        rejected.append(Rejected(family=family, rule=why.rule, text=why.text, source=why.source))
    return tuple(rejected)


def _rejection(chooser: Chooser, family: FamilyName, now: dict[str, Value]) -> Reason:
    """What the tables say against a family that nothing else speaks against."""
    if family not in chooser.tables.rejections:
        text = "no table has a prior for it: only an override chooses it"
        return Reason(rule=f"rejected.{family}.no-prior", text=text, source=chooser.tables.cite(("card",)))
    name, rule = first(chooser.tables.rejections[family], now)
    return chooser.reason(f"rejected.{family}.{name}", rule, now)


def _warnings(tables: Tables, now: dict[str, Value]) -> tuple[PolicyWarning, ...]:
    found: dict[str, PolicyWarning] = {}
    for name, rule in tables.warnings.items():
        code = rule.code or name
        if code not in found and matches(rule.when, now):
            found[code] = PolicyWarning(
                code=code, text=fill(rule.text, now), fix=fill(rule.fix, now), source=tables.cite(rule.source)
            )
    return tuple(found.values())
