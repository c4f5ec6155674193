"""A forced choice: allowed unless it breaks a hard constraint; the policy still says what it would have chosen."""

from components.core.brief import COMBINE, UNCHANGED, Delivery, FamilyName, OverrideBrief
from components.core.errors import BriefError
from components.core.records import Reason
from components.policy.candidates import families_of
from components.policy.choose import Chooser, Plan
from components.policy.rows import VariantRow

SUBSECOND_MS = 1000


def force(chooser: Chooser, own: Plan, override: OverrideBrief) -> Plan:
    """The plan that the brief forces. Raises BriefError when it is impossible or a hard constraint forbids it."""
    source = chooser.tables.cite(("design-brief",))
    family, variant = _subject(chooser, own, override)
    builds_on = chooser.now["pretrained_family"] == family
    _check_mode(chooser, family, override, builds_on=builds_on)
    mode = override.mode or (own.mode if family == own.family else None)
    if mode not in (None, "scratch"):
        variant = chooser.base_variant(family) or variant
    _check_base(chooser, family, override, mode)
    plan = chooser.complete(
        family,
        variant=variant,
        mode=mode,
        delivery=override.delivery,
        builds_on=builds_on,
        reasons=(Reason(rule="override", text="the brief forces this choice", source=source),),
    )
    _check_delivery(plan, chooser.field.everything[plan.key], chooser.facts.latency_ms)
    if plan.words == own.words:
        return own.because(Reason(rule="override.agrees", text="the brief forces what the policy chooses", source=source))
    return plan


def _subject(chooser: Chooser, own: Plan, override: OverrideBrief) -> tuple[FamilyName, str | None]:
    """The forced family and variant; a variant alone names its family."""
    field = chooser.field
    if override.variant is None:
        family = override.family or own.family
        if family not in field.all_families:
            raise BriefError(f"override: family: {family} is unknown", allowed=", ".join(field.all_families), do=_DO)
        if family not in field.families:
            raise BriefError(
                f"override: family: {family} is impossible: {field.out[family].text}", allowed=", ".join(field.families), do=_DO
            )
        return family, own.variant if family == own.family else None
    owners = [family for family, variant in field.everything if variant == override.variant]
    if override.family not in (None, *owners) or not owners:
        known = [f"{family}/{variant}" for family, variant in field.everything if override.family in (None, family)]
        raise BriefError(f"override: variant: {override.variant} is unknown", allowed=", ".join(known), do=_DO)
    family = override.family or (own.family if own.family in owners else owners[0])
    if (family, override.variant) not in field.variants:
        why = field.dropped[family, override.variant].text
        allowed = [f"{left}/{variant}" for left, variant in field.variants]
        raise BriefError(f"override: {family}/{override.variant} is impossible: {why}", allowed=", ".join(allowed), do=_DO)
    return family, override.variant


def _check_mode(chooser: Chooser, family: FamilyName, override: OverrideBrief, *, builds_on: bool) -> None:
    if override.mode in ("finetune", "lora", UNCHANGED, COMBINE) and not builds_on:
        given = chooser.facts.pretrained is not None
        what = f"the pretrained model is not a {family}" if given else "no pretrained model is given"
        raise BriefError(
            f"override: mode: {override.mode} is impossible: {what}",
            allowed="scratch",
            do=f"add pretrained: with family: {family}",
        )
    adapted = [key for key, row in chooser.field.everything.items() if "lora" in row.starts]
    base = chooser.base_variant(family)
    if override.mode == "lora" and (family not in families_of(adapted) if base is None else (family, base) not in adapted):
        raise BriefError(
            f"override: mode: lora is not for {family if base is None else f'{family}/{base}'}",
            allowed="scratch, finetune",
            do=f"LoRA is for {', '.join('/'.join(key) for key in adapted)}",
        )


def _check_base(chooser: Chooser, family: FamilyName, override: OverrideBrief, mode: str | None) -> None:
    """Of a release made here the variant is its own, and a hard constraint may forbid it."""
    base, pretrained = chooser.base_variant(family), chooser.facts.pretrained
    if base is None or pretrained is None or "scratch" in (override.mode, mode):
        return
    if override.variant not in (None, base):
        raise BriefError(
            f"override: variant: {override.variant} given, and pretrained.model: {pretrained.model} is {family}/{base}",
            allowed=base,
            do="leave variant out, or write mode: scratch beside it",
        )
    row, asked = chooser.field.everything.get((family, base)), chooser.facts.conditioning
    if row is not None and asked not in row.conditioning:
        what = f"pretrained.model: {pretrained.model} is {family}/{base}, which is not asked by that"
        raise BriefError(
            f"conditioning: {asked} given, and {what}",
            allowed=", ".join(row.conditioning),
            do="write mode: scratch, or name another model",
        )
    if override.mode is not None and (family, base) not in chooser.field.variants:
        why = chooser.field.dropped.get((family, base))
        raise BriefError(
            f"override: mode: {override.mode} is impossible: {pretrained.model} is {family}/{base}, "
            + (why.text if why else "which no family here makes"),
            allowed="scratch",
            do=_DO,
        )


def _check_delivery(plan: Plan, row: VariantRow, latency_ms: float | None) -> None:
    allowed: tuple[Delivery, ...] = ("one_pass",)
    subsecond = latency_ms is not None and latency_ms < SUBSECOND_MS
    if row.sequential != "none" or not row.few_steps:
        allowed = ("many_step",)
    elif row.stepwise:
        allowed = ("few_step", "one_pass") if subsecond else ("many_step", "few_step", "one_pass")
    if plan.delivery not in allowed:
        limit = f" under {latency_ms:g} ms" if row.stepwise and subsecond else ""
        raise BriefError(
            f"override: delivery: {plan.delivery} is impossible for {plan.family}/{plan.variant}{limit}",
            allowed=", ".join(allowed),
            do=_DO,
        )


_DO = "change or remove override in the brief"
