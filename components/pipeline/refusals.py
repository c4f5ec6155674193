"""What `produce` refuses before it trains, and `plan` tells of: whether what was decided is built, and fits its base, its data,
its text encoder and this machine. Imports nothing heavy, but where a config has to be asked of a family."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from components.core.brief import COMBINE, Brief, LoraBrief
from components.core.card import Card
from components.core.errors import BriefError, DeviceMissing, GenwrightError, NotBuilt, UnknownModel
from components.core.records import Dataset, Decision, Facts, PolicyWarning, TextEncoder
from components.pipeline.adapters import check_adapters
from components.pipeline.pretrained import check_base, check_foreign
from components.pipeline.run import Base
from components.policy.built import refuse_unless_built
from components.policy.facts import check_items
from components.runtime.devices import device_for
from components.training.start import find_start, starts

BeginsWith = Callable[[], Base | None]  # reads the release whose weights a run begins with
Reads = Callable[[], TextEncoder | None]  # tells what reads the texts that it is asked by


def no_base() -> Base | None:
    """For what does not begin with a release."""
    return None


def no_text() -> TextEncoder | None:
    """For what no text asks."""
    return None


def check(
    brief: Brief,
    facts: Facts,
    decision: Decision,
    dataset: Dataset | None,
    *,
    base: Path | None = None,
    begins_with: BeginsWith = no_base,
    reads: Reads = no_text,
    elsewhere: bool = False,
) -> None:
    """All that `produce` asks before it trains. `dataset` is None where the data is not here yet; `begins_with` reads the release
    whose weights are taken.

    Raises the first refusal: NotBuilt, UnknownModel, BriefError or DataError.
    """
    for refusal in _refused(brief, facts, decision, dataset, base, begins_with, reads, elsewhere=elsewhere):
        raise refusal


def refused_lines(
    brief: Brief,
    facts: Facts,
    decision: Decision,
    dataset: Dataset | None,
    *,
    base: Path | None = None,
    begins_with: BeginsWith = no_base,
    reads: Reads = no_text,
) -> tuple[str, ...]:
    """Why `produce` will refuse what was decided, a line each; empty where it will not.

    Raises BriefError for what is wrong in the brief itself: that is to be mended before anything is planned.
    """
    found = []
    for refusal in _refused(brief, facts, decision, dataset, base, begins_with, reads):
        if isinstance(refusal, BriefError):
            raise refusal
        found.append(f"{refusal} (exit {refusal.exit_code})")
    return tuple(found)


def _refused(
    brief: Brief,
    facts: Facts,
    decision: Decision,
    dataset: Dataset | None,
    base: Path | None,
    begins_with: BeginsWith,
    reads: Reads,
    *,
    elsewhere: bool = False,
) -> Iterator[GenwrightError]:
    """What each check says against it, once. A config is only asked of a family that is built and a base that is there."""
    checks: tuple[Callable[[], None], ...] = (
        lambda: check_built(facts, decision),
        lambda: check_guidance(brief, facts, decision),
        lambda: check_foreign(brief, facts, decision, dataset),
        lambda: check_base(brief, facts, decision, dataset, begins_with()),
        lambda: check_text(reads),
        lambda: check_config(brief, facts, decision, dataset, begins_with(), reads()),
        lambda: check_tuning(brief, decision, begins_with()),
        lambda: check_adapters(brief, decision.mode, dataset, begins_with()),
        lambda: None if elsewhere else check_device(facts),
        lambda: check_data(brief, dataset, base=base),
        lambda: check_items(facts, where=brief.data.path),
    )
    said: set[object] = set()
    for each in checks:
        try:
            each()
        except GenwrightError as error:
            what = type(error) if isinstance(error, NotBuilt | UnknownModel) else str(error)
            if what not in said:
                yield error
            said.add(what)


def check_guidance(brief: Brief, facts: Facts, decision: Decision) -> None:
    """Raises BriefError for few steps straight from a base that a text steers: its guidance takes two evaluations a step, and
    only what is distilled has it in one."""
    from components.families import maker

    few = maker(decision.family, decision.variant, decision.delivery) != decision.variant
    if not few or facts.conditioning != "text" or brief.pretrained is None or not find_start(decision.mode).needs_base():
        return
    limit, delivery = facts.latency_ms, brief.override and brief.override.delivery
    asks = {
        "override.delivery": delivery and f"override.delivery: {delivery}",
        "serving.latency_ms": limit and f"serving.latency_ms: {limit:g}",
        "goal": "goal: speed" if facts.goal == "speed" else None,
    }
    told = " and ".join(each for each in asks.values() if each)
    left_out = " and ".join(name for name, each in asks.items() if each)
    raise BriefError(
        f"{told} given, and pretrained.model: {brief.pretrained.model} is asked by a text: in few steps it would lose the "
        "guidance that it is steered by",
        do=f"leave {left_out} out, produce, and `genwright distil {brief.name}{f' --latency-ms {limit:g}' if limit else ''}`, "
        "which has the guidance in its few steps",
    )


def check_text(reads: Reads) -> None:
    """Raises what telling the text encoder of the brief does (encoders.told)."""
    reads()


def check_device(facts: Facts) -> None:
    """Raises DeviceMissing when the brief asks for a GPU and this machine has none."""
    if facts.device == "cuda" and device_for("auto") != "cuda":
        raise DeviceMissing(
            "compute.device: cuda: no NVIDIA GPU on this machine", do="produce where there is one, or write device: cpu"
        )


def check_data(brief: Brief, dataset: Dataset | None, *, base: Path | None = None) -> None:
    """Raises DataError when the data lies neither here nor in any record of DVC, so that fetching it can only fail."""
    from components.data.versions import check_named

    if dataset is None:
        check_named(brief.data, base=base)


def check_start(brief: Brief) -> None:
    """Raises BriefError for an override.mode that is no start, and for one that begins from a model where none is given."""
    mode = brief.override.mode if brief.override else None
    if mode is not None and find_start(mode).needs_base() and brief.pretrained is None:
        raise BriefError(
            f"override: mode: {mode} is impossible: no pretrained model is given", allowed="scratch", do="add pretrained:"
        )


def check_config(
    brief: Brief,
    facts: Facts,
    decision: Decision,
    dataset: Dataset | None,
    base: Base | None = None,
    encoder: TextEncoder | None = None,
) -> None:
    """Raises BriefError when override.config holds what the family does not know or makes another network than its base's, or
    the graph cannot have serving.precision.

    Imports torch, where there is any config.
    """
    from components.families import find_card

    wanted, name = brief.serving.precision, f"{decision.family}/{decision.variant}"
    if wanted != "fp32" and find_card(decision.family, decision.variant).discrete:
        raise BriefError(f"serving.precision: {wanted} given", allowed=f"fp32 for {name}, which draws from categories")
    if wanted == "int8" and decision.delivery == "many_step":
        raise BriefError(
            "serving.precision: int8 given",
            allowed=f"fp32, fp16 for {name} in many steps",
            do="leave it out, and `genwright distil` the release to four steps or fewer",
        )
    if brief.override is None or not brief.override.config:
        return
    from components.core.conditioning import condition_of
    from components.core.records import DataSpec, spec_of
    from components.families import find, maker

    variant = maker(decision.family, decision.variant, decision.delivery)
    if base is not None:
        from components.training.start.finetune import network_changes

        if changed := network_changes(base.checkpoint, brief.override.config, variant=variant):
            own = ", ".join(f"{name}: {base.checkpoint.config.get(name)}" for name in changed)
            raise BriefError(
                f"override.config: {', '.join(changed)} would make another network than that of {base.name}",
                allowed=own,
                do="leave it out, or write mode: scratch",
            )
        changed_meaning = meant_otherwise(brief, decision, base)
        if changed_meaning and not find_start(decision.mode).learns:
            raise BriefError(
                f"override.config: {_values(brief.override.config, changed_meaning)} given, and the weights of {base.name} mean "
                f"something else with it; {decision.mode} does not train them to it",
                allowed=_values(changed_meaning, changed_meaning),
                do="leave it out, or write mode: finetune",
            )
        return
    item = dataset.item if dataset else spec_of(facts.modality).declared(side=facts.side or 64)
    if item is None:
        return
    classes = [*map(str, range(facts.classes))]
    asked = condition_of(facts.conditioning, classes=classes, encoder=encoder) if classes or encoder else None
    find(decision.family, variant).configure(brief.override.config, DataSpec(item=item, condition=asked))


def meant_otherwise(brief: Brief, decision: Decision, base: Base | None) -> dict[str, Any]:
    """What override.config changes of a base's settings so that its weights compute something else at first, as the base has it.

    Imports torch, where there is any config.
    """
    if base is None or brief.override is None or not brief.override.config:
        return {}
    from components.families import maker
    from components.training.start.finetune import meaning_changes

    variant = maker(decision.family, decision.variant, decision.delivery)
    return meaning_changes(base.checkpoint, brief.override.config, variant=variant)


def warned(brief: Brief, decision: Decision, base: Base | None) -> Decision:
    """The decision, with a warning where a training begins with weights that mean something else by override.config."""
    changed = meant_otherwise(brief, decision, base)
    if base is None or brief.override is None or not changed:
        return decision
    own = _values(changed, changed)
    text = (
        f"override.config has {_values(brief.override.config, changed)}, and the weights of {base.name} were trained with {own}: "
        "at first they draw nothing that is right, and the training has to teach them that, too"
    )
    fix = "leave it out, or, where it is meant, give more items_seen than a fine-tuning takes" + (
        "; an adapter of low rank may not reach it: mode: finetune" if decision.mode == "lora" else ""
    )
    found = PolicyWarning(
        code="base-means-otherwise", text=text, fix=fix, source="genwright, docs/decisions/0033-foreign-bases.md"
    )
    return decision.model_copy(update={"warnings": (*decision.warnings, found)})


def _values(config: dict[str, Any], names: Iterable[str]) -> str:
    return ", ".join(f"{name}: {config[name]}" for name in names)


def check_tuning(brief: Brief, decision: Decision, base: Base | None) -> None:
    """Raises BriefError where settings of a start are given and another one was decided, and where the base cannot have them.

    Imports torch, where the start has any.
    """
    given = brief.pretrained
    for name, mode in {"lora": "lora", "freeze": "finetune", "adapters": COMBINE}.items():
        if getattr(given, name, None) is not None and decision.mode != mode:
            raise BriefError(
                f"pretrained.{name}: given, and what was decided is {decision.mode}",
                do=f"write override: {{mode: {mode}}}, or leave pretrained.{name} out",
            )
    if given is not None and given.prior_preservation and "prior_preservation" not in find_start(decision.mode).model_fields:
        raise BriefError(
            f"pretrained.prior_preservation: given, and what was decided is {decision.mode}, which learns nothing from it",
            do="leave it out",
        )
    if base is None or given is None or not (decision.mode == "lora" or given.freeze):
        return
    from components.families import maker
    from components.training.adapter.targets import chosen_targets
    from components.training.start.finetune import network

    family = network(base.checkpoint, variant=maker(decision.family, decision.variant, decision.delivery))
    if decision.mode == "lora":
        chosen_targets(family, given.lora or LoraBrief())
    elif not family.lower_layers():
        what = f"pretrained.freeze: true, and {decision.family}/{decision.variant} has no discriminator of convolutions"
        raise BriefError(what, do="leave it out")


def check_built(facts: Facts, decision: Decision) -> None:
    """Raises NotBuilt when nothing here can make what was decided."""
    from components.families import maker

    built = {name: start.begins_from for name, start in starts().items() if start.in_briefs}
    refuse_unless_built(facts, decision, cards=built_cards(), maker=maker, starts=built)


def built_cards() -> dict[tuple[str, str], Card]:
    """The cards of what is built."""
    from components.families import cards

    return {key: entry[0] for key, entry in cards().items()}
