"""From what is left to one plan: family by goal, chart, budget or default; then mode, variant and delivery, each by its table."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from components.core.brief import Delivery, FamilyName
from components.core.records import Facts, Reason
from components.policy.candidates import Field, Key
from components.policy.conditions import Value, matches
from components.policy.estimate import Pick, latency
from components.policy.rows import Rule, VariantRow
from components.policy.situation import fill
from components.policy.tables import Tables

AnyRule = TypeVar("AnyRule", bound=Rule)
SPEEDS = {"fast": 2.0, "slow": 1.0, "very_slow": 0.0}


@dataclass(frozen=True)
class Plan:
    """One whole choice, the situation it leads to, and the reasons on the way."""

    family: FamilyName
    variant: str
    mode: str
    delivery: Delivery
    now: dict[str, Value]
    reasons: tuple[Reason, ...]

    @property
    def key(self) -> Key:
        return self.family, self.variant

    @property
    def words(self) -> str:
        return f"{self.family}/{self.variant}, {self.mode}, {self.delivery}"

    def because(self, *reasons: Reason) -> "Plan":
        return replace(self, reasons=(*self.reasons, *reasons))


@dataclass(frozen=True)
class Chooser:
    """The tables, asked about one brief. `now` is the situation before a family is chosen."""

    facts: Facts
    tables: Tables
    field: Field
    now: dict[str, Value]
    config: Mapping[str, Any]  # of the brief's override

    def prior(self) -> Plan:
        """What the texts' priors choose."""
        family, reasons = self._family()
        return self.complete(family, reasons=reasons)

    def complete(
        self,
        family: FamilyName,
        *,
        variant: str | None = None,
        mode: str | None = None,
        delivery: Delivery | None = None,
        builds_on: bool | None = None,
        reasons: tuple[Reason, ...] = (),
    ) -> Plan:
        """The plan for a family; what is not given comes from the tables."""
        builds_on = self.now["builds_on_family"] == family if builds_on is None else builds_on
        base = self.base_variant(family) if builds_on else None
        if base is not None and (variant not in (None, base) or (family, base) not in self.field.variants):
            base, builds_on = None, False  # weights do not carry over to another variant
        now: dict[str, Value] = {**self.now, "family": family, "builds_on": builds_on}
        if mode is None:
            name, rule = first(self.tables.modes, now)
            mode, reasons = rule.mode, (*reasons, self.reason(name, rule, now))
        now["mode"] = mode
        if base is not None and mode != "scratch" and variant is None:
            text = f"the pretrained model is {family}/{base}, and weights do not carry over to another variant"
            variant, reasons = base, (*reasons, Reason(rule="variant.base", text=text, source=self.tables.cite(("003-scratch",))))
        if variant is None:
            variant, reason = self._variant(family, now)
            reasons = (*reasons, reason)
        now["variant"] = variant
        now["many_step_fits"] = self._many_step_fits(family, variant, mode)
        row = self.field.everything[family, variant]
        now |= {"distilled": row.distils is not None, "few_steps": row.few_steps}
        now |= {"stepwise": row.stepwise, "sequential": row.sequential}
        if delivery is None:
            step, how = first(self.tables.deliveries, now)
            delivery, reasons = how.delivery, (*reasons, self.reason(step, how, now))
        return Plan(family, variant, mode, delivery, {**now, "delivery": delivery}, reasons)

    def base_variant(self, family: FamilyName) -> str | None:
        """The variant of the pretrained model, where that is a release made here of this family."""
        pretrained = self.facts.pretrained
        return pretrained.variant if pretrained is not None and pretrained.family == family else None

    def reason(self, name: str, rule: Rule, now: dict[str, Value]) -> Reason:
        return Reason(rule=name, text=fill(rule.text, now), source=self.tables.cite(rule.source))

    def _family(self) -> tuple[FamilyName, tuple[Reason, ...]]:
        families = self.field.families
        for name, rule in self.tables.choices.items():
            family = str(self.now["pretrained_family"]) if rule.choose == "pretrained" else rule.choose
            if family in families and matches(rule.when, self.now):
                return family, (self.reason(name, rule, self.now),)
        known = [family for family in families if family in self.tables.families]
        if not known:
            return self._without_prior()
        if len(known) == 1:
            return known[0], ()  # the hard constraints, which are reasons already, have decided
        return self._best_ranked()

    def _without_prior(self) -> tuple[FamilyName, tuple[Reason, ...]]:
        """Where nothing is known of any family that is left, the first is taken."""
        families = self.field.families
        text = f"no table has a prior for what is left ({', '.join(families)}), and nothing else can draw {self.facts.modality}"
        if len(families) > 1:
            text += "; override: {family: ...} chooses another of them"
        return families[0], (Reason(rule="default.no-prior", text=text, source=self.tables.cite(("card",))),)

    def _best_ranked(self) -> tuple[FamilyName, tuple[Reason, ...]]:
        """By the priors, when no row names a family that is left."""
        rank_by = self.tables.goals[self.facts.goal].rank_by
        order = list(self.tables.families)
        best = max(self.field.leaves, key=lambda family: (self.prior_score(family, rank_by), -order.index(family)))
        text = f"of what is left ({', '.join(self.field.leaves)}) it has the best {rank_by}"
        prior = self.tables.families[best]
        return best, (Reason(rule="default.rank", text=text, source=self.tables.cite(prior.source)),)

    def prior_score(self, family: FamilyName, rank_by: str) -> float:
        """What the guides say of a family, by what the goal ranks by."""
        prior = self.tables.families[family]
        if rank_by == "speed":
            return SPEEDS[prior.speed]
        return (prior.stability or 0.0) if rank_by == "stability" else sum(prior.quality or (0.0,))

    def _variant(self, family: FamilyName, now: dict[str, Value]) -> tuple[str, Reason]:
        """The first row that matches and fits the side; else any variant that fits it; else the one that reaches furthest."""
        rules = [
            (name, rule)
            for name, rule in self.tables.variant_rules.items()
            if rule.family == family and (family, rule.variant) in self.field.variants and matches(rule.when, now)
        ]
        for name, rule in rules:
            if self.reaches(self.field.variants[family, rule.variant]):
                return rule.variant, self.reason(f"variant.{name}", rule, now)
        rows = {key: row for key, row in self.field.variants.items() if key[0] == family}
        furthest = max(rows, key=lambda key: (self.reaches(rows[key]), rows[key].side_max or 0))
        named = [(name, rule) for name, rule in rules if not self.reaches(rows[furthest])]
        if named:
            return named[0][1].variant, self.reason(f"variant.{named[0][0]}", named[0][1], now)
        text = f"of the {family} variants that the brief allows it reaches furthest"
        return furthest[1], Reason(rule="variant.fits", text=text, source=self.tables.cite(rows[furthest].source))

    def reaches(self, row: VariantRow) -> bool:
        """Whether a variant is meant for items of this side."""
        return row.side_max is None or self.facts.side is None or self.facts.side <= row.side_max

    def pick(self, family: FamilyName, variant: str, mode: str, delivery: Delivery) -> Pick:
        """A choice as the estimate needs it: in the steps of override.config, else of the base that it begins with."""
        known = self.facts.pretrained
        begun = mode != "scratch" and delivery == "many_step"  # for fewer its recipe is another one
        drawn_by = known.drawn_by if known and begun and (known.family, known.variant) == (family, variant) else {}
        own = {**drawn_by, **self.config}
        steps, solver = own.get("steps"), own.get("solver")
        return Pick(
            family,
            variant,
            self.field.everything[family, variant],
            mode,
            delivery,
            steps=steps if isinstance(steps, int) and steps > 0 else None,
            solver=solver if isinstance(solver, str) else None,
        )

    def _many_step_fits(self, family: FamilyName, variant: str, mode: str) -> bool:
        if self.facts.latency_ms is None:
            return True
        return (
            latency(self.facts, self.tables.estimate, self.pick(family, variant, mode, "many_step")).value
            <= self.facts.latency_ms
        )


def first(rules: dict[str, AnyRule], now: dict[str, Value]) -> tuple[str, AnyRule]:
    """The first row that matches. The tables are checked to end with one that always does."""
    return next((name, rule) for name, rule in rules.items() if matches(rule.when, now))
