"""From a brief to a decision and a run, and whether anything here can make what was decided. Imports nothing heavy."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from components.core.brief import Brief, FamilyName
from components.core.card import Card
from components.core.errors import BriefError, DataError, DeviceMissing, GenwrightError, NotBuilt
from components.core.records import Dataset, Decision, Facts, LocalDataset
from components.pipeline.backends import Backends
from components.pipeline.run import Run, package_version
from components.policy.built import refuse_unless_built
from components.policy.facts import check_items
from components.runtime.devices import device_for
from components.runtime.disk import check_room


def resolve(brief: Brief, backends: Backends, *, base: Path | None = None) -> Run:
    """The run of a brief: its data fetched, and decided on what was measured. Everything that follows takes it.

    `base`: the folder that the brief's paths are relative to, core.brief.base_of its file; the current one for a brief without.
    What cannot be produced is refused before anything is fetched: raises NotBuilt, BriefError, DataError or SettingsError.
    """
    from components.data.versions import check_named, fetch

    known, decided = known_dataset(brief, backends, base=base), None
    with suppress(BriefError):  # neither declared nor prepared yet: decided once the data is here
        decided = decide(brief, backends, dataset=known, base=base)
    try:
        if decided is not None:
            check(brief, *decided, known, base=base)
    except DataError:
        _ = backends.settings.root  # a home that cannot be is said first
        raise
    root = backends.settings.root
    check_room(root)
    check_named(brief.data, base=base)
    dataset = fetch(brief.data, cache=backends.home.data, mirror=backends.settings.data_mirror, base=base)
    if decided is None or dataset != known:
        decided = decide(brief, backends, dataset=dataset, base=base)
        check(brief, *decided, dataset, base=base)
    facts, decision = decided
    return Run(brief=brief, dataset=dataset.record, facts=facts, decision=decision, genwright=package_version())


def decide(brief: Brief, backends: Backends, *, dataset: Dataset | None, base: Path | None = None) -> tuple[Facts, Decision]:
    """Facts and decision of a brief, from the measured dataset or what it declares; `base`: what its paths are relative to."""
    from components.policy.decide import decide as choose
    from components.policy.facts import facts as concrete
    from components.policy.tables import load_tables

    settings = backends.settings
    tables = load_tables(settings.policy)
    price = settings.usd_per_gpu_hour
    facts = concrete(
        brief,
        dataset=dataset,
        device=device_for(brief.compute.device),
        usd_per_gpu_hour=price,
        tables=tables,
        base=base,
        family_of=lambda reference: family_of(reference, backends),
    )
    return facts, choose(facts, cards=_cards(), override=brief.override, tables=tables, usd_per_gpu_hour=price)


def family_of(reference: str, backends: Backends) -> FamilyName:
    """The family of a release, NAME@ALIAS or NAME/VERSION, as its bundle says. Raises UnknownModel for one that is not here."""
    from components.core.errors import UnknownModel

    settings = backends.settings
    try:
        if settings.tracking_uri is None and not (settings.home / "mlflow.db").exists():
            raise UnknownModel("nothing was produced in this home yet")  # and a plan makes no store to look
        from components.core.records import Bundle

        release = backends.versions.resolve(reference)
        stored = backends.store.get(f"bundles/{release.bundle_sha256}/bundle.json")
        if stored is None:
            raise UnknownModel(f"the bundle of {reference} is not in the store")
        return Bundle.model_validate_json(stored[0]).family
    except (UnknownModel, ValueError) as error:
        raise UnknownModel(
            f"pretrained.model: models:/{reference}: its family cannot be read: {error}",
            do="write pretrained.family, or produce it",
        ) from error


def plan(brief: Brief, backends: Backends, *, base: Path | None = None) -> tuple[Facts, Decision]:
    """What `genwright plan` says: nothing is fetched. `refusals` of the decision hold why `produce` would refuse.

    `base`: the folder that the brief's paths are relative to.
    """
    dataset = known_dataset(brief, backends, base=base)
    facts, decision = decide(brief, backends, dataset=dataset, base=base)
    return facts, decision.model_copy(update={"refusals": refusals(brief, facts, decision, dataset, base=base)})


def known_dataset(brief: Brief, backends: Backends, *, base: Path | None = None) -> LocalDataset | None:
    """What is known of the brief's data without fetching it."""
    from components.data.versions import describe

    return describe(brief.data, cache=backends.named_home.data, base=base)


def check(brief: Brief, facts: Facts, decision: Decision, dataset: Dataset | None, *, base: Path | None = None) -> None:
    """All that `produce` asks before it trains. `dataset` is None where the data is not here yet.

    Raises the first refusal: NotBuilt, BriefError or DataError.
    """
    for refusal in _refused(brief, facts, decision, dataset, base):
        raise refusal


def refusals(
    brief: Brief, facts: Facts, decision: Decision, dataset: Dataset | None, *, base: Path | None = None
) -> tuple[str, ...]:
    """Why `produce` will refuse what was decided, a line each; empty where it will not.

    Raises BriefError for what is wrong in the brief itself: that is to be mended before anything is planned.
    """
    found = []
    for refusal in _refused(brief, facts, decision, dataset, base):
        if isinstance(refusal, BriefError):
            raise refusal
        found.append(f"{refusal} (exit {refusal.exit_code})")
    return tuple(found)


def _refused(
    brief: Brief, facts: Facts, decision: Decision, dataset: Dataset | None, base: Path | None
) -> Iterator[GenwrightError]:
    """What each check says against it. A config is only asked of a family that is built."""
    checks: tuple[Callable[[], None], ...] = (
        lambda: check_built(facts, decision),
        lambda: check_config(brief, facts, decision),
        lambda: check_device(facts),
        lambda: check_data(brief, dataset, base=base),
        lambda: check_items(facts, where=brief.data.path),
    )
    built = True
    for each in checks:
        try:
            each()
        except NotBuilt as error:
            if built:  # said once
                yield error
            built = False
        except GenwrightError as error:
            yield error


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


def check_config(brief: Brief, facts: Facts, decision: Decision) -> None:
    """Raises BriefError when override.config holds what the family does not know, or the graph cannot have serving.precision.

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
    from components.core.records import DataSpec
    from components.families import find, maker

    side, channels = facts.side or 64, facts.channels or 3
    classes = tuple(map(str, range(facts.classes)))
    spec = DataSpec(
        channels=channels, height=side, width=side, classes=classes, conditional=bool(classes) and facts.conditioning == "class"
    )
    find(decision.family, maker(decision.family, decision.variant, decision.delivery)).configure(brief.override.config, spec)


def check_built(facts: Facts, decision: Decision) -> None:
    """Raises NotBuilt when nothing here can make what was decided."""
    from components.families import maker

    refuse_unless_built(facts, decision, cards=_cards(), maker=maker)


def _cards() -> dict[tuple[str, str], Card]:
    from components.families import cards

    return {key: entry[0] for key, entry in cards().items()}
