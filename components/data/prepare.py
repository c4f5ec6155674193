"""From a source to a prepared folder: uint8 shards for each split, and dataset.json. The set is never held in memory.

Two passes: a survey (count, size, channels, depth, classes), then one item after another is decoded, brought to size, and written
to its split. The same source, side and seed give the same bytes on every machine.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from components.core.errors import DataError
from components.core.files import write_whole
from components.core.proof_items import BLOCK, ITEMS_NEEDED
from components.data.images import BACKGROUND, MAX_PIXELS, check_background
from components.data.manifest import MANIFEST, QUARANTINE, Manifest, Report
from components.data.second_pass import Options, SecondPass
from components.data.sources.classes import ClassRule
from components.data.sources.find import find_source
from components.data.sources.item import Item, Source, Survey
from components.data.sources.names import shown
from components.data.staging import staging
from components.data.writing import SHARD_BYTES
from components.runtime.progress import bar

MAX_SIDE = 4096
MAX_LEVELS = 1 << 24
QUARANTINE_MAX = 0.01
Told = Callable[[Report], None]


def prepare(
    source: str | Path | Source,
    dest: Path,
    *,
    side: int | None = None,
    seed: int = 0,
    limit_items: int | None = None,
    quarantine_max: float = QUARANTINE_MAX,
    background: str = BACKGROUND,
    levels: int | None = None,
    classes: ClassRule = "auto",
    mirror: str | None = None,
    cache: Path,
    progress: bool = True,
    shard_bytes: int = SHARD_BYTES,
    told: Told = lambda report: None,
) -> Manifest:
    """Prepare `source` (a public set's name, or the user's own path) into the folder `dest`, whole or not at all.

    `side`: pixels; each item becomes a square of it. `limit_items`: that many, spread evenly over the source.
    `quarantine_max`: the share of unusable items above which it fails. `background`: the colour under transparency.
    `levels`: how many a channel has (4096 for twelve bits); None: as the pictures show. `classes`: whether folders are.
    `mirror`: a folder or URL that holds the public sets. `cache`: where downloads, reports and contact sheets stay.
    `told` is given the report, which is part of the manifest but for public sets.
    Raises DataError (input), RunError (no mirror answers), StorageError or SettingsError (disk).
    """
    options = Options(side=side, seed=seed, quarantine_max=quarantine_max, background=background, levels=levels)
    _check(options, limit_items=limit_items)
    place = dest.absolute()
    _check_nameable(place)
    if not isinstance(source, str | Path):
        found = source
    else:
        _check_apart(source, place)
        found = find_source(source, cache=cache, mirror=mirror, progress=progress, classes=classes)
    with bar(f"survey {found.kind}", total=None, show=progress) as advance:
        survey = found.survey(advance)
    if classes == "none":
        survey = replace(survey, classes=(), index=None)
    _check_survey(survey, found, side=side)
    wanted = min(limit_items or survey.count, survey.count)
    with staging(place, marker=MANIFEST) as folder, bar(f"prepare {found.kind}", total=wanted, show=progress) as advance:
        writing = SecondPass(folder, survey, options, wanted=wanted, shard_bytes=shard_bytes)
        try:
            with (folder / QUARANTINE).open("w", encoding="utf-8") as refused:
                writing.run(_spread(found.items(), survey.count, wanted), refused, advance)
            writing.check(where=found.where, report=folder / QUARANTINE, keep=cache / "quarantine" / f"{place.name}.jsonl")
            manifest, report = writing.finish(found.kind)
        finally:
            writing.abandon()
        manifest.write(folder / MANIFEST)
        _draw_sheet(folder, manifest, sheet_path(cache, place))
    told(report)
    return manifest


def sheet_path(cache: Path, dest: Path) -> Path:
    """Where the contact sheet of a prepared folder lies: outside it, so that it is no part of the version."""
    return cache / "sheets" / f"{shown(dest.name)}.png"


def _draw_sheet(folder: Path, manifest: Manifest, to: Path) -> None:
    from components.data.sheet import sheet_png

    write_whole(to, sheet_png(folder, manifest))


def _spread(items: Iterator[Item], count: int, wanted: int) -> Iterator[Item]:
    """`wanted` of `count` items at even distances, in order; those passed over are never read."""
    return (item for at, item in enumerate(items) if at * wanted % count < wanted)


def _check(options: Options, *, limit_items: int | None) -> None:
    side, levels = options.side, options.levels
    if side is not None and not 1 <= side <= MAX_SIDE:
        raise DataError(f"side {side}", allowed=f"1 to {MAX_SIDE} pixels")
    if not 0 <= options.seed < 2**32:
        raise DataError(f"seed {options.seed}", allowed="0 to 4294967295")
    if limit_items is not None and limit_items < BLOCK:
        raise DataError(f"limit of {limit_items} items", allowed=f"{BLOCK} or more, {ITEMS_NEEDED} or more for a proof")
    if not 0 <= options.quarantine_max < 1:
        raise DataError(f"quarantine-max {options.quarantine_max}", allowed="0 up to, not including, 1")
    if levels is not None and not 2 <= levels <= MAX_LEVELS:
        raise DataError(f"levels {levels}", allowed=f"2 to {MAX_LEVELS}: 4096 for twelve bits")
    check_background(options.background)


def _check_nameable(dest: Path) -> None:
    """Sources may have any name; what is prepared is named in briefs, in DVC's files and in records, which are UTF-8."""
    try:
        str(dest).encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{shown(str(dest))}: its path is not UTF-8", do="name another folder to write") from None


def _check_apart(source: str | Path, dest: Path) -> None:
    path = Path(source).absolute()
    if path.exists() and (path == dest or dest in path.parents or (path in dest.parents and path.is_dir())):
        raise DataError(f"{shown(str(dest))}: lies in the source, or the source in it", do="name a folder elsewhere")


def _check_survey(survey: Survey, source: Source, *, side: int | None) -> None:
    if survey.count < BLOCK:
        raise DataError(f"{source.where}: {survey.count} items", allowed=f"{ITEMS_NEEDED} or more", do="add more data")
    if side is None and survey.size is None:
        given = f"sizes differ: {survey.mixed}" if survey.mixed else f"none of {survey.count} items is a readable picture"
        raise DataError(f"{source.where}: {given}", do="give a side in pixels (--side)" if survey.mixed else "give other data")
    if side is None and survey.size and survey.size[0] * survey.size[1] > MAX_SIDE * MAX_SIDE:
        raise DataError(f"{source.where}: {survey.size[0]}x{survey.size[1]} pixels", allowed=f"{MAX_PIXELS}", do="give --side")
