"""From a brief to a decision, and whether anything here can make what was decided. Imports nothing heavy."""

from pathlib import Path

from components.core.brief import Brief, Delivery, FamilyName
from components.core.errors import BriefError, NotBuilt
from components.core.records import Dataset, Decision, Facts
from flows.place import Place
from flows.settings import device_for


def decide(brief: Brief, place: Place, *, dataset: Dataset | None, base: Path | None = None) -> tuple[Facts, Decision]:
    """Facts and decision of a brief, from the measured dataset or what it declares; `base`: what its paths are relative to."""
    from components.families import cards
    from components.policy.decide import decide as choose
    from components.policy.facts import facts as concrete
    from components.policy.tables import load_tables

    settings = place.settings
    tables = load_tables(settings.policy)
    price = settings.usd_per_gpu_hour
    facts = concrete(
        brief,
        dataset=dataset,
        device=device_for(brief.compute.device),
        usd_per_gpu_hour=price,
        tables=tables,
        base=base,
        family_of=lambda reference: family_of(reference, place),
    )
    known = {key: entry[0] for key, entry in cards().items()}
    return facts, choose(facts, cards=known, override=brief.override, tables=tables, usd_per_gpu_hour=price)


def family_of(reference: str, place: Place) -> FamilyName:
    """The family of a release, NAME@ALIAS or NAME/VERSION, as its bundle says. Raises UnknownModel for one that is not here."""
    from components.core.errors import UnknownModel

    settings = place.settings
    try:
        if settings.tracking_uri is None and not (settings.home / "mlflow.db").exists():
            raise UnknownModel("nothing was produced in this home yet")  # and a plan makes no store to look
        from components.core.records import Bundle

        release = place.versions.resolve(reference)
        stored = place.store.get(f"bundles/{release.bundle_sha256}/bundle.json")
        if stored is None:
            raise UnknownModel(f"the bundle of {reference} is not in the store")
        return Bundle.model_validate_json(stored[0]).family
    except (UnknownModel, ValueError) as error:
        raise UnknownModel(
            f"pretrained.model: models:/{reference}: its family cannot be read: {error}",
            do="write pretrained.family, or produce it",
        ) from error


def plan(brief: Brief, place: Place, *, base: Path | None = None) -> tuple[Facts, Decision]:
    """What `genwright plan` says: nothing is fetched. `base`: the folder that the brief's paths are relative to."""
    from components.data.versions import describe

    return decide(brief, place, dataset=describe(brief.data, cache=place.settings.home / "data", base=base), base=base)


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
    from components.families import find_card, maker

    card = find_card(decision.family, maker(decision.family, decision.variant, decision.delivery))
    if decision.mode != "scratch":
        raise NotBuilt(
            f"mode {decision.mode} for {decision.family}/{decision.variant} is not built yet",
            allowed="scratch",
            do="force it with override: {mode: scratch}",
        )
    if not card.exports:
        raise NotBuilt(
            f"{decision.family}/{decision.variant} cannot be released: its card says that it has no ONNX graph",
            do="force another family or variant with override",
        )
    if facts.conditioning not in card.conditioning:
        raise NotBuilt(
            f"conditioning {facts.conditioning} for {decision.family}/{decision.variant} from scratch is not built yet",
            allowed=", ".join(card.conditioning),
            do="write one of them in the brief",
        )
    several = card.steps > 1 and card.family in ("diffusion", "autoregressive")  # a VQ-VAE's short prior counts as one pass
    natural: tuple[Delivery, ...] = ("few_step", "one_pass") if card.distils else ("many_step",) if several else ("one_pass",)
    if decision.delivery not in natural:
        raise NotBuilt(
            f"delivery {decision.delivery} of {decision.family}/{decision.variant} is not built yet",
            allowed=", ".join(natural),
            do=f"force it with override: {{delivery: {natural[0]}}}",
        )
