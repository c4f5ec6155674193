"""From a brief to a decision and a run. Imports nothing heavy."""

from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from components.core.brief import RELEASE, Brief
from components.core.brief import base_of as folder_of
from components.core.errors import DataError, GenwrightError
from components.core.records import Dataset, Decision, EvidenceTable, Facts, LocalDataset, Reason
from components.pipeline import encoders
from components.pipeline.backends import Backends
from components.pipeline.briefs import load_brief
from components.pipeline.evidence import check_ranked, keep_used, known_evidence, machine_of
from components.pipeline.gate_power import gate_power
from components.pipeline.origins import on_gpus, reachable
from components.pipeline.pretrained import base_of, read_foreign, read_release, take_over
from components.pipeline.proof_network import check_network, network_of
from components.pipeline.refusals import (
    BeginsWith,
    Reads,
    built_cards,
    check,
    check_built,
    check_guidance,
    check_start,
    no_base,
    refused_lines,
    warned,
)
from components.pipeline.run import Run, package_version
from components.policy.facts import undeclared
from components.runtime.devices import device_for
from components.runtime.disk import check_room
from components.training.start import find_start


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
    check_network(brief, folder=base or Path.cwd())
    evidence = known_evidence(brief, backends)
    known = known_dataset(brief, backends, base=base)
    decided: tuple[Facts, Decision] | None = None
    begins_with: BeginsWith = no_base

    def checked(found: tuple[Facts, Decision], dataset: LocalDataset | None, begins_with: BeginsWith | None) -> BeginsWith:
        """What it begins with, asked once."""
        begins_with = begins_with or cache(partial(base_of, brief, *found, backends, base=base, fetch=True))
        reads = _reads(brief, found[1], backends, begins_with, base=base, fetch=True)
        check(brief, *found, dataset, base=base, begins_with=begins_with, reads=reads, elsewhere=elsewhere)
        return begins_with

    lacking = undeclared(brief, load_tables(backends.settings.policy))
    if known is not None or not lacking:  # else it is decided once the data is here
        if brief.pretrained is not None and brief.pretrained.from_hub:
            unseen = decide(brief, backends, dataset=known, base=base, evidence=evidence)  # before anything of it is fetched
            check_built(*unseen)
            check_guidance(brief, *unseen)
        decided = decide(brief, backends, dataset=known, base=base, fetch=True, evidence=evidence)
    try:
        if decided is not None:
            begins_with = checked(decided, known, None)
            take_over(begins_with(), brief, backends, folder=base)
    except DataError:
        _ = backends.settings.root  # a home that cannot be is said first
        raise
    root = backends.settings.root
    check_room(root)
    check_named(brief.data, base=base)
    dataset = fetch(brief.data, cache=backends.home.data, mirror=backends.settings.data_mirror, base=base)
    if decided is None or dataset != known:
        again = decide(brief, backends, dataset=dataset, base=base, before=decided, fetch=True, evidence=evidence)
        begins_with, decided = checked(again, dataset, begins_with if again is decided else None), again
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
        proof_network=network_of(brief, backends, folder=base or Path.cwd()),
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
    check_ranked(tables, where=str(settings.policy))
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
        found,
        cards=built_cards(),
        override=brief.override,
        tables=tables,
        usd_per_gpu_hour=price,
        evidence=evidence,
        machine=machine_of(brief, found.device) if evidence is not None else None,
    )


def plan(brief: Brief, backends: Backends, *, base: Path | None = None) -> tuple[Facts, Decision]:
    """What `genwright plan` says: nothing is fetched. `refusals` of the decision hold why `produce` would refuse.

    `base`: the folder that the brief's paths are relative to. What is wrong with a base or a text encoder that the brief names is
    raised: that is to be mended before anything is planned.
    """
    check_start(brief)
    check_network(brief, folder=base or Path.cwd(), digest=False)
    dataset = known_dataset(brief, backends, base=base)
    facts, decision = decide(brief, backends, dataset=dataset, base=base, evidence=known_evidence(brief, backends))
    begins_with = cache(partial(base_of, brief, facts, decision, backends, base=base))
    reads = _reads(brief, decision, backends, begins_with, base=base, fetch=False)
    if brief.text is not None and brief.text.encoder is not None:
        reads()
    refused = refused_lines(brief, facts, decision, dataset, base=base, begins_with=begins_with, reads=reads)
    with suppress(GenwrightError):  # of a base that is not here, or cannot be: it is among the refusals
        decision = warned(brief, decision, begins_with())
    told = gate_power(brief, facts, decision, backends.named_store, dataset.item if dataset is not None else None)
    reasons = (*decision.reasons, *_unseen(brief, reads))
    return facts, decision.model_copy(update={"refusals": refused, "gate_power": told, "reasons": reasons})


def _unseen(brief: Brief, reads: Reads) -> Iterator[Reason]:
    """That the text encoder is not here, so that nothing could be asked of it."""
    with suppress(GenwrightError):  # it is among the refusals
        if brief.conditioning == "text" and reads() is None:
            given = brief.text and brief.text.encoder
            name = given or f"the encoder of {brief.pretrained.model if brief.pretrained else brief.name}"
            text = (
                f"{name}, which reads its texts, is not fetched yet: whether there is one, and whether it fits, `produce` tells"
            )
            yield Reason(rule="text.encoder-unseen", text=text, source="genwright, docs/text.md: the text encoder")


def known_dataset(brief: Brief, backends: Backends, *, base: Path | None = None) -> LocalDataset | None:
    """What is known of the brief's data without fetching it."""
    from components.data.versions import describe

    return describe(brief.data, cache=backends.named_home.data, base=base)


def _reads(
    brief: Brief, decision: Decision, backends: Backends, begins_with: BeginsWith, *, base: Path | None, fetch: bool
) -> Reads:
    given = brief.pretrained
    elsewhere = given is not None and not given.model.startswith(RELEASE) and find_start(decision.mode).needs_base()
    own: dict[str, Any] = {"folder": base or Path.cwd(), "fetch": fetch, "elsewhere": elsewhere}
    return cache(lambda: encoders.told(brief, backends, begins_with(), **own))
