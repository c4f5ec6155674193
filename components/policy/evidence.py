"""Measured cases in place of the texts' priors: what is a similar case, what is better beyond chance, what corrects an estimate.

Two cases of one modality and one conditioning are as far apart as the sum of

    |log2 side / side'| + |log4 items / items'| + |log4 work / work'| + |log4 limit / limit'| + 1/2 a tier + 1 for another device

where work is items seen, or seconds where that is not known of both. They are similar up to SIMILAR: one of twice the side with
four times the items still is. Of two models measured in one case by one protocol after as much work, one is better where the
intervals do not overlap: means over the seeds, give or take half of the bootstrap's interval or of the range of the seeds,
whichever is wider. The nearest case in which both were measured decides. Quality counts wherever it was measured; what a clock
said, on a machine like this one alone. docs/decisions/0049-evidence.md says why.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import get_args

from components.core.errors import BriefError
from components.core.records import (
    Case,
    Estimate,
    EvidenceRow,
    EvidenceTable,
    Facts,
    Figure,
    Machine,
    Reason,
    Tier,
    TrainingBudget,
    UsedCase,
    UsedEvidence,
)
from components.policy.candidates import Key
from components.policy.choose import Chooser, Plan
from components.policy.estimate import rounded

SIMILAR = 2.0
UNKNOWN = 0.5  # of a limit or of work that one of the two cases does not have
SAME_WORK = 1.5  # times as much work at most, of two that are compared
TIERS = get_args(Tier)
SOURCE = ("design-evidence",)
FIGURES = ("training_s", "memory_gb", "latency_ms")
RATIO_MAX = 10.0  # of an estimate: what is off by more was another kind of case


@dataclass(frozen=True)
class Found:
    """A row, and how far its case is away."""

    row: EvidenceRow
    distance: float


@dataclass(frozen=True)
class Level:
    """How good a model was in one case: the mean of its seeds, and what chance may make of it."""

    value: float
    half: float


def case_of(facts: Facts, budget: TrainingBudget, seconds: float) -> Case:
    """That of a brief. `seconds`: what its training is estimated to take."""
    granted = budget.lowest(devices=facts.workers if facts.device == "cuda" else 1)
    return Case(
        modality=facts.modality,
        conditioning=facts.conditioning,
        side=facts.side,
        items=facts.items,
        tier=facts.tier,
        items_seen=budget.items_seen,
        seconds=granted.seconds if granted else seconds,
        latency_ms=facts.latency_ms,
        device=facts.device,
    )


def distance(one: Case, other: Case) -> float:
    """How far two cases are apart; infinite where they are of other kinds."""
    if (one.modality, one.conditioning) != (other.modality, other.conditioning):
        return math.inf
    work = (one.items_seen, other.items_seen) if one.items_seen and other.items_seen else (one.seconds, other.seconds)
    return (
        _apart(one.side, other.side, times=2)
        + _apart(one.items, other.items, times=4)
        + _apart(*work, times=4)
        + _apart(one.latency_ms, other.latency_ms, times=4)
        + 0.5 * abs(TIERS.index(one.tier) - TIERS.index(other.tier))
        + float(one.device != other.device)
    )


def _apart(one: float | None, other: float | None, *, times: float) -> float:
    if one is None or other is None:
        return 0.0 if one is other else UNKNOWN
    return abs(math.log(one / other, times))


def similar(case: Case, rows: Iterable[EvidenceRow]) -> list[Found]:
    """Those of a similar case, the nearest first."""
    near = [Found(row, far) for row in rows if (far := distance(case, row.case)) <= SIMILAR]
    return sorted(near, key=lambda found: (found.distance, found.row.origin))


@dataclass(frozen=True)
class Evidence:
    """What was measured in cases like that of a brief, asked for its goal."""

    chooser: Chooser
    case: Case
    table: EvidenceTable
    machine: Machine

    @property
    def metric(self) -> str | None:
        return self.chooser.tables.goals[self.chooser.facts.goal].measured

    @property
    def found(self) -> list[Found]:
        return similar(self.case, self.table.rows)

    def better_than(self, own: Plan) -> tuple[Plan, UsedEvidence]:
        """The tables' plan, or the one that was measured to be better where both were; and what was looked at."""
        found = self.found
        used = UsedEvidence(
            sha256=EvidenceTable(rows=tuple(each.row for each in found)).sha256,
            rows=len(self.table.rows),
            metric=self.metric,
            decided=False,
            cases=tuple(_used(each, self.metric) for each in found),
        )
        if self.metric is None or not found:
            return own.because(self._reason("none", self._without(found))), used
        plans = self._plans(own, found)
        gains = {key: gain for key, plan in plans.items() if (gain := self._gain(plan, own, found)) is not None}
        best = max(gains, key=lambda key: gains[key], default=None)
        if best is None:
            return own.because(self._reason("agrees", self._agreeing(own, plans, found))), used
        text = f"measured: {self._beside(plans[best], own, found)}; the tables alone would choose {own.words}"
        return plans[best].because(self._reason("measured", text)), used.model_copy(update={"decided": True})

    def _reason(self, rule: str, text: str) -> Reason:
        return Reason(rule=f"evidence.{rule}", text=text, source=self.chooser.tables.cite(SOURCE))

    def _without(self, found: Sequence[Found]) -> str:
        """Why the tables alone decide."""
        goal = self.chooser.facts.goal
        if not self.table.rows:
            return "nothing was measured yet, so the texts' priors decide"
        if found:
            return f"{_cases(found)} measured, but no metric says what the goal {goal} asks, so the texts' priors decide"
        nearest = min(distance(self.case, row.case) for row in self.table.rows)
        far = f"the nearest is {nearest:.2g} away" if math.isfinite(nearest) else "all are of another kind"
        count = f"of {len(self.table.rows)} measured cases" if len(self.table.rows) > 1 else "the one measured case"
        return f"{count} none is similar ({far}, {SIMILAR:g} is the limit), so the texts' priors decide"

    def _agreeing(self, own: Plan, plans: Mapping[Key, Plan], found: Sequence[Found]) -> str:
        both = [plan for plan in plans.values() if self._levels(plan, own, found)]
        if both:
            why = "no other one is fast enough" if self._slow(own, found) else "no other one is better beyond chance"
            return f"measured: {'; '.join(self._beside(plan, own, found) for plan in both)}: {why}"
        names = ", ".join(dict.fromkeys(each.row.name for each in found))
        beside = f"{own.family}/{own.variant}{self._slow(own, found, ', which')}"
        return f"{_cases(found)} measured ({names}), but none beside {beside}, so the texts' priors decide"

    def _plans(self, own: Plan, found: Sequence[Found]) -> dict[Key, Plan]:
        """What else the brief may be made by, of what was measured."""
        field, plans = self.chooser.field, {}
        for key in dict.fromkeys((each.row.family, each.row.variant) for each in found):
            if key not in field.variants or key[0] not in field.leaves or key == own.key:
                continue
            if not self.chooser.reaches(field.variants[key]):
                continue
            try:
                plan = self.chooser.complete(key[0], variant=key[1])
            except (BriefError, KeyError):
                continue
            if plan.mode == own.mode and plan.key == key:
                plans[key] = plan
        return plans

    def _gain(self, plan: Plan, own: Plan, found: Sequence[Found]) -> float | None:
        """By how much a plan is better than the tables', in units of what chance may do; None where it is not, or too slow.

        Where the tables' own choice is too slow another one takes its place anyway, so chance does not count: the gain is by how
        much of the own level it is better, or worse, which ranks the others by their own level.
        """
        levels = self._levels(plan, own, found)
        if levels is None or self._slow(plan, found):
            return None
        theirs, ours = levels
        better = (ours.value - theirs.value) * (1 if self._lower(plan, found) else -1)
        if self._slow(own, found):
            return better / max(abs(ours.value), 1e-12)
        gain = better / max(theirs.half + ours.half, 1e-12)
        return gain if gain > 1 else None

    def _slow(self, plan: Plan, found: Sequence[Found], before: str = " and") -> str:
        """That its graph took longer than the brief's limit on a machine like this one, in words; empty where it did not."""
        limit = self.chooser.facts.latency_ms
        own = [each.row for each in _of(plan, found) if _like(each.row.machine.drawing, self.machine.drawing)]
        took = [row.metrics["latency_p95_ms"].value for row in own if "latency_p95_ms" in row.metrics]
        if limit is None or not took or fmean(took) <= limit:
            return ""
        return f"{before} is too slow ({fmean(took):.3g} ms measured, the limit is {limit:g} ms)"

    def like(self, plan: Plan, figure: str) -> list[EvidenceRow]:
        """Whole trainings of a plan's kind whose figure says something here: of memory those on the same device, of what a clock
        measured those on a machine like this one."""
        here, device = self.machine, self.case.device
        rows = _trainings(each.row for each in _of(plan, self.found) if each.row.share == 1.0)
        if figure == "memory_gb":
            return [row for row in rows if row.case.device == device]
        if figure == "training_s":
            return [row for row in rows if _like(row.machine.training, here.training)]
        return [row for row in rows if _like(row.machine.drawing, here.drawing)]

    def _lower(self, plan: Plan, found: Sequence[Found]) -> bool:
        return any(
            each.row.metrics[self.metric].better == "lower" for each in _of(plan, found) if self.metric in each.row.metrics
        )

    def _levels(self, plan: Plan, own: Plan, found: Sequence[Found]) -> tuple[Level, Level] | None:
        """Of both, in the nearest case where both were measured alike."""
        assert self.metric is not None
        return levels([e.row for e in _of(plan, found)], [e.row for e in _of(own, found)], self.metric)

    def _beside(self, plan: Plan, own: Plan, found: Sequence[Found]) -> str:
        """For a person: 'diffusion/edm has fd 0.59 ± 0.1 where vae/gaussian has 0.69 ± 0.2'."""
        both = self._levels(plan, own, found)
        assert both is not None
        theirs, ours = (f"{each.value:.3g} ± {each.half:.2g}" for each in both)
        other = f"{plan.family}/{plan.variant} has {self.metric} {theirs}{self._slow(plan, found)}"
        return f"{other} where {own.family}/{own.variant} has {ours}{self._slow(own, found)}"


def levels(some: Sequence[EvidenceRow], others: Sequence[EvidenceRow], metric: str) -> tuple[Level, Level] | None:
    """How good two models were by one protocol after as much work: of the first case of `some` in which both were measured, at
    the most work of it. None where there is none."""
    pairs = [(a, b) for a in some for b in others if _alike(a, b) and metric in a.metrics and metric in b.metrics]
    if not pairs:
        return None
    nearest = [(a, b) for a, b in pairs if a.measure == pairs[0][0].measure]
    most = max(nearest, key=lambda pair: min(pair[0].items_seen, pair[1].items_seen))
    chosen = [pair for pair in nearest if all(_same_work(row, top) for row, top in zip(pair, most, strict=True))]
    one, other = (_trainings(column) for column in zip(*chosen, strict=True))
    return _level(one, metric), _level(other, metric)


def _trainings(rows: Iterable[EvidenceRow]) -> list[EvidenceRow]:
    """One row of each training, which may be measured several times: that of the most work, and the last of it."""
    return list({row.run_id: row for row in sorted(rows, key=lambda row: (row.items_seen, row.age))}.values())


def _like(one: str, other: str) -> bool:
    """Whether two machines are alike: what is not known of one is like no other."""
    return bool(one) and one == other


def _alike(one: EvidenceRow, other: EvidenceRow) -> bool:
    return one.measure == other.measure and _same_work(one, other)


def _same_work(one: EvidenceRow, other: EvidenceRow) -> bool:
    """As many items seen, or on machines that are alike as many seconds, within a factor of SAME_WORK."""
    both: list[tuple[float, float]] = [(one.items_seen, other.items_seen)]
    if _like(one.machine.training, other.machine.training):
        both.append((one.train_s, other.train_s))
    return any(a > 0 and b > 0 and max(a, b) <= SAME_WORK * min(a, b) for a, b in both)


def _level(rows: Iterable[EvidenceRow], metric: str) -> Level:
    found = [row.metrics[metric] for row in rows]
    values = [each.value for each in found]
    chance = fmean(each.high - each.low for each in found) / 2
    return Level(fmean(values), max(chance, (max(values) - min(values)) / 2))


def _of(plan: Plan, found: Sequence[Found]) -> list[Found]:
    wanted = (plan.family, plan.variant, plan.mode, plan.delivery)
    return [each for each in found if (each.row.family, each.row.variant, each.row.mode, each.row.delivery) == wanted]


def _used(found: Found, metric: str | None) -> UsedCase:
    row = found.row
    return UsedCase(
        name=row.name,
        distance=round(found.distance, 3),
        metric=row.metrics.get(metric) if metric else None,
        share=row.share,
        row=row.digest(),
        origin=f"{row.model}, {row.kind}, MLflow run {row.run_id[:12]}",
    )


def _cases(found: Sequence[Found]) -> str:
    return f"{len(found)} similar cases were" if len(found) > 1 else "one similar case was"


def corrected(
    estimate: Estimate, plan: Plan, evidence: "Evidence", *, ceiling_s: float | None = None
) -> tuple[Estimate, dict[str, float]]:
    """The estimate times what similar trainings of the same kind took in place of theirs, and these factors.

    A training that was ended before its work was done says nothing of how long that takes. `ceiling_s` ends this one.
    """
    factors: dict[str, float] = {}
    figures: dict[str, Figure] = {}
    for name in FIGURES:
        ratios = [ratio for row in evidence.like(plan, name) if (ratio := _ratio(row, name, row.expected)) is not None]
        figure: Figure = getattr(estimate, name)
        if not ratios or figure.value <= 0:
            continue
        factor = math.exp(fmean(map(math.log, ratios)))
        factors[name] = rounded(factor)
        spread = max(1.25, *(max(each / factor, factor / each) for each in ratios))
        value = figure.value * factors[name]
        if name == "training_s":
            value = min(value, ceiling_s or math.inf)
        of = f"{len(ratios)} measured cases" if len(ratios) > 1 else "one measured case"
        figures[name] = Figure(
            value=rounded(value),
            unit=figure.unit,
            basis=f"measured: {factors[name]:g} times the estimate in {of} like it; {figure.basis}",
            low=None if name == "training_s" else rounded(value / spread),
            high=None if name == "training_s" else rounded(value * spread),
        )
    if "training_s" in figures and estimate.training_s.value > 0:
        cost = estimate.cost_usd
        share = figures["training_s"].value / estimate.training_s.value
        figures["cost_usd"] = cost.model_copy(update={"value": rounded(cost.value * share)})
    return estimate.model_copy(update=figures), factors


def dry_factors(plan: Plan, evidence: "Evidence") -> dict[str, float]:
    """What dry runs of the same kind were wrong by."""
    ratios = {
        name: [ratio for row in evidence.like(plan, name) if (ratio := _ratio(row, name, row.dry)) is not None]
        for name in FIGURES
    }
    return {name: rounded(math.exp(fmean(map(math.log, each)))) for name, each in ratios.items() if each}


def _ratio(row: EvidenceRow, name: str, expected: Mapping[str, float]) -> float | None:
    """What it came to over what was estimated; None where one is not known."""
    latency = row.metrics.get("latency_p95_ms")
    whole = row.stopped_by == "items_seen"
    actual = {
        "training_s": row.train_s if whole else None,
        "memory_gb": row.memory_gb,
        "latency_ms": latency.value if latency else None,
    }[name]
    before = expected.get(name)
    if not actual or not before:
        return None
    return min(RATIO_MAX, max(1 / RATIO_MAX, actual / before))
