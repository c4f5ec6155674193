"""From a brief to a decision and a run, and whether anything here can make what was decided. Imports nothing heavy."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from components.core.brief import COMBINE, RELEASE, Brief, LoraBrief
from components.core.brief import base_of as folder_of
from components.core.card import Card
from components.core.errors import BriefError, DataError, DeviceMissing, GenwrightError, NotBuilt, UnknownModel
from components.core.records import Dataset, Decision, EvidenceTable, Facts, LocalDataset, PolicyWarning, TextEncoder
from components.pipeline import encoders
from components.pipeline.adapters import check_adapters
from components.pipeline.backends import Backends
from components.pipeline.briefs import load_brief
from components.pipeline.evidence import keep_used, known_evidence
from components.pipeline.origins import on_gpus, reachable
from components.pipeline.pretrained import base_of, check_base, check_foreign, read_foreign, read_release, take_over
from components.pipeline.run import Base, Run, package_version
from components.policy.built import refuse_unless_built
from components.policy.facts import check_items, undeclared
from components.runtime.devices import device_for
from components.runtime.disk import check_room
from components.training.start import find_start, starts

BeginsWith = Callable[[], Base | None]  # reads the release whose weights a run begins with
Reads = Callable[[], TextEncoder | None]  # tells what reads the texts that it is asked by


def resolve(brief: Brief, backends: Backends, *, base: Path | None = None, elsewhere: bool = False) -> Run:
    """The run of a brief: its data fetched, and decided on what was measured. Everything that follows takes it.

    `base`: the folder that the brief's paths are relative to, core.brief.base_of its file; the current one for a brief without.
    `elsewhere`: the engine places the stages on other machines, so this one needs no GPU.
    What cannot be produced is refused before anything is fetched: raises NotBuilt, BriefError, DataError or SettingsError. That
    is asked of the family, start and config that only a decision names: so it is decided before, where the size of the data is
    known, and again afterwards only where that was not its measured size.
    """
    from components.data.versions import check_named, fetch
    from components.policy.tables import load_tables

    check_start(brief)
    evidence = known_evidence(brief, backends)
    known = known_dataset(brief, backends, base=base)
    decided: tuple[Facts, Decision] | None = None
    begins_with: BeginsWith = no_base
    lacking = undeclared(brief, load_tables(backends.settings.policy))
    if known is not None or not lacking:  # else it is decided once the data is here
        if brief.pretrained is not None and brief.pretrained.from_hub:
            check_built(*decide(brief, backends, dataset=known, base=base, evidence=evidence))  # before anything of it is fetched
        decided = decide(brief, backends, dataset=known, base=base, fetch=True, evidence=evidence)
    try:
        if decided is not None:
            begins_with = cache(partial(base_of, brief, *decided, backends, base=base, fetch=True))
            reads = _reads(brief, decided[1], backends, begins_with, base=base, fetch=True)
            check(brief, *decided, known, base=base, begins_with=begins_with, reads=reads, elsewhere=elsewhere)
            take_over(begins_with(), brief, backends, folder=base)
    except DataError:
        _ = backends.settings.root  # a home that cannot be is said first
        raise
    root = backends.settings.root
    check_room(root)
    check_named(brief.data, base=base)
    dataset = fetch(brief.data, cache=backends.home.data, mirror=backends.settings.data_mirror, base=base)
    if decided is None or dataset != known:
        expected, decided = (
            decided,
            decide(brief, backends, dataset=dataset, base=base, before=decided, fetch=True, evidence=evidence),
        )
        if decided is not expected:
            begins_with = cache(partial(base_of, brief, *decided, backends, base=base, fetch=True))
        reads = _reads(brief, decided[1], backends, begins_with, base=base, fetch=True)
        check(brief, *decided, dataset, base=base, begins_with=begins_with, reads=reads, elsewhere=elsewhere)
    take_over(begins_with(), brief, backends, folder=base)
    facts, decision = decided
    keep_used(decision, evidence, backends)
    encoder = encoders.encoder_of(brief, backends, begins_with(), folder=base or Path.cwd())
    data = brief.data.relative_to(base or Path.cwd())  # a record names no place on this machine
    return Run(
        brief=brief.model_copy(update={"data": data}),
        dataset=dataset.record.model_copy(update={"repo": data.repo}),
        facts=facts,
        decision=warned(brief, decision, begins_with()),
        genwright=package_version(),
        base=begins_with(),
        encoder=encoder,
    )


def resolve_file(path: Path, backends: Backends) -> Run:
    """The run of the brief in a file. Where the engine places stages, `auto` means the GPU of there, and the run says where any
    machine has its data from. Raises what `load_brief` and `resolve` do."""
    return resolve_placed(load_brief(path, backends), backends, base=folder_of(path))


def resolve_placed(brief: Brief, backends: Backends, *, base: Path) -> Run:
    """The same of a brief that is no file. `base`: the folder that its paths are relative to."""
    if backends.settings.placed_on is None:
        return resolve(brief, backends, base=base)
    run = resolve(on_gpus(brief), backends, base=base, elsewhere=True)
    return run.of_data(reachable(run.brief.data, base))


def decide(
    brief: Brief,
    backends: Backends,
    *,
    dataset: Dataset | None,
    base: Path | None = None,
    before: tuple[Facts, Decision] | None = None,
    fetch: bool = False,
    evidence: EvidenceTable | None = None,
) -> tuple[Facts, Decision]:
    """Facts and decision of a brief, from the measured dataset or what it declares; `base`: what its paths are relative to.

    `before`: what was decided with less known, which is returned where the facts are still the same. `fetch`: what a model of the
    hub is may be fetched. `evidence`: what was measured before; None where nobody is to be asked for it.
    """
    from components.policy.decide import decide as choose
    from components.policy.facts import facts as concrete
    from components.policy.tables import load_tables

    settings = backends.settings
    tables = load_tables(settings.policy)
    price = settings.usd_per_gpu_hour
    unused = brief.override is not None and brief.override.mode == "scratch"
    found = concrete(
        brief,
        dataset=dataset,
        device=device_for(brief.compute.device),
        usd_per_gpu_hour=price,
        tables=tables,
        base=base,
        read_release=lambda reference: read_release(reference, backends),
        read_foreign=lambda model: None if unused else read_foreign(model, backends, base=base or Path.cwd(), fetch=fetch),
    )
    if before is not None and before[0] == found:
        return before
    return found, choose(
        found, cards=built_cards(), override=brief.override, tables=tables, usd_per_gpu_hour=price, evidence=evidence
    )


def plan(brief: Brief, backends: Backends, *, base: Path | None = None) -> tuple[Facts, Decision]:
    """What `genwright plan` says: nothing is fetched. `refusals` of the decision hold why `produce` would refuse.

    `base`: the folder that the brief's paths are relative to.
    """
    check_start(brief)
    dataset = known_dataset(brief, backends, base=base)
    facts, decision = decide(brief, backends, dataset=dataset, base=base, evidence=known_evidence(brief, backends))
    begins_with = cache(partial(base_of, brief, facts, decision, backends, base=base))
    reads = _reads(brief, decision, backends, begins_with, base=base, fetch=False)
    refused = refusals(brief, facts, decision, dataset, base=base, begins_with=begins_with, reads=reads)
    with suppress(GenwrightError):  # of a base that is not here, or cannot be: it is among the refusals
        decision = warned(brief, decision, begins_with())
    return facts, decision.model_copy(update={"refusals": refused})


def known_dataset(brief: Brief, backends: Backends, *, base: Path | None = None) -> LocalDataset | None:
    """What is known of the brief's data without fetching it."""
    from components.data.versions import describe

    return describe(brief.data, cache=backends.named_home.data, base=base)


def no_base() -> Base | None:
    """For what does not begin with a release."""
    return None


def no_text() -> TextEncoder | None:
    """For what no text asks."""
    return None


def _reads(
    brief: Brief, decision: Decision, backends: Backends, begins_with: BeginsWith, *, base: Path | None, fetch: bool
) -> Reads:
    given = brief.pretrained
    elsewhere = given is not None and not given.model.startswith(RELEASE) and find_start(decision.mode).needs_base()
    own: dict[str, Any] = {"folder": base or Path.cwd(), "fetch": fetch, "elsewhere": elsewhere}
    return cache(lambda: encoders.told(brief, backends, begins_with(), **own))


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


def refusals(
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
    from components.families import cards

    return {key: entry[0] for key, entry in cards().items()}
