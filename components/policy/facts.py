"""From a brief to Facts: what is measured outranks what is declared, and a budget becomes a tier."""

from pathlib import Path
from typing import Literal

from components.core.brief import Brief, ComputeBrief
from components.core.errors import BriefError, DataError
from components.core.proof_items import proof_shortage
from components.core.records import Dataset, Facts, Tier, spec_of
from components.policy.pretrained import ReadForeign, ReadRelease, pretrained
from components.policy.tables import Tables, load_tables


def facts(
    brief: Brief,
    *,
    dataset: Dataset | None,
    device: Literal["cpu", "cuda"],
    usd_per_gpu_hour: float = 2.0,
    tables: Tables | None = None,
    base: Path | None = None,
    read_release: ReadRelease | None = None,
    read_foreign: ReadForeign | None = None,
) -> Facts:
    """The brief made concrete. `device` is already resolved from auto; `usd_per_gpu_hour` prices a budget given in hours.

    `base`: the folder that the brief's paths are relative to (the current one); `read_release` and `read_foreign`: read a
    release, and a model that was made elsewhere.

    Raises BriefError when neither the data nor the brief says how much there is, or when the two contradict each other.
    """
    tables = tables or load_tables()
    tier, because = tier_of(brief.compute, device=device, usd_per_gpu_hour=usd_per_gpu_hour, tables=tables)
    if dataset is not None:
        _check_dataset(brief, dataset)
    items, side = _size(brief, dataset, tables)
    return Facts(
        modality=brief.modality,
        goal=brief.goal,
        conditioning=brief.conditioning,
        items=items,
        side=side,
        classes=len(dataset.classes) if dataset else 0,
        captions=dataset.captions if dataset else 0,
        train=dataset.splits["train"] if dataset else None,
        held_out=dataset.held_out if dataset else None,
        duplicates=dataset.duplicates if dataset else 0.0,
        rare_classes=dataset.rare_classes if dataset else (),
        tier=tier,
        tier_because=because,
        device=device,
        usd=brief.compute.usd,
        gpu_hours=brief.compute.gpu_hours,
        minutes=brief.compute.minutes,
        items_seen=brief.compute.items_seen,
        spend=brief.compute.spend,
        workers=brief.compute.workers,
        latency_ms=brief.serving.latency_ms,
        batch=brief.serving.batch,
        require=brief.require,
        accept=brief.accept,
        use=brief.use,
        pretrained=brief.pretrained
        and pretrained(brief.pretrained, base=base or Path.cwd(), read_release=read_release, read_foreign=read_foreign),
    )


def check_items(facts: Facts, *, where: str) -> None:
    """Raises DataError when there are too few items for a proof, so that nothing is trained in vain. `where`: the data's path."""
    if lacking := items_lacking(facts):
        raise DataError(f"{where}: {lacking}", do="add more data")


def items_lacking(facts: Facts) -> str:
    """What is lacking for a proof, empty when nothing is: a person reads it before anything is trained."""
    return proof_shortage(facts.items, train=facts.train, held_out=facts.held_out)


def tier_of(
    compute: ComputeBrief, *, device: Literal["cpu", "cuda"], usd_per_gpu_hour: float, tables: Tables
) -> tuple[Tier, str]:
    """The compute tier, and from what it follows: the stated USD, else the priced GPU hours, else the device."""
    if compute.usd is not None:
        return _priced(compute.usd, tables), f"compute.usd: {compute.usd:,g}"
    if compute.gpu_hours is not None:
        usd = compute.gpu_hours * usd_per_gpu_hour
        return _priced(
            usd, tables
        ), f"compute.gpu_hours: {compute.gpu_hours:,g} at {usd_per_gpu_hour:g} USD an hour: {usd:,g} USD"
    name = "one GPU" if device == "cuda" else "a CPU"
    return tables.tiers.device[device], f"no budget stated; the device is {name}"


def _priced(usd: float, tables: Tables) -> Tier:
    return next((tier for tier, bound in tables.tiers.bounds.items() if usd < bound), "large")


def _size(brief: Brief, dataset: Dataset | None, tables: Tables) -> tuple[int, int | None]:
    """How many items there are, and the longer edge in pixels where an item has one."""
    if dataset is not None:
        return dataset.count, dataset.item.side
    missing = undeclared(brief, tables)
    if missing or brief.data.items is None:
        raise BriefError(
            f"data: {brief.data.path} is not prepared and {' and '.join(missing)} not declared",
            do="prepare the data, or declare items: and side: under data: to plan without it",
        )
    return brief.data.items, brief.data.side


def undeclared(brief: Brief, tables: Tables) -> list[str]:
    """What the brief does not declare of its data, so that nothing can be decided before it is here."""
    wanted = {"items": brief.data.items, "side": brief.data.side if _has_side(brief.modality, tables) else 0}
    return [key for key, value in wanted.items() if value is None]


def _has_side(modality: str, tables: Tables) -> bool:
    """Whether its items have a side: as their spec says; of those that nobody brings yet, where the tables give them no size."""
    try:
        return spec_of(modality).declared(side=1) is not None
    except KeyError:
        return modality not in tables.estimate.values


def _check_dataset(brief: Brief, dataset: Dataset) -> None:
    if dataset.modality != brief.modality:
        raise BriefError(
            f"modality: {brief.modality} given, but {brief.data.path} holds {dataset.modality}",
            do=f"write modality: {dataset.modality}, or name other data",
        )
    if brief.conditioning == "class" and len(dataset.classes) < 2:
        raise BriefError(
            f"conditioning: class given, but {brief.data.path} has {len(dataset.classes)} classes",
            do="write conditioning: none, or prepare data with labels (image folder: class = subfolder)",
        )
    if brief.conditioning == "text" and not dataset.captions:
        raise BriefError(
            f"conditioning: text given, but {brief.data.path} has no captions",
            do="prepare it with captions (docs/data.md), or write conditioning: none or class",
        )
