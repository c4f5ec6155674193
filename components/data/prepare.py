"""From a source to a prepared folder: shards of stored items for each split, and dataset.json. The set is never held in memory.

Two passes: a survey, in which a reader of the modality looks at every item, then one item after another is read and written to
its split. The same source, options and seed give the same bytes on every machine.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.core.errors import DataError
from components.core.files import write_whole
from components.core.modality import find_modality, make_reader
from components.core.proof_items import BLOCK, ITEMS_NEEDED
from components.data.captioning import ask_captions
from components.data.manifest import MANIFEST, QUARANTINE, Manifest, Report
from components.data.second_pass import Options, SecondPass
from components.data.sources.caption_rules import CaptionRule, check_rule
from components.data.sources.classes import ClassRule
from components.data.sources.find import find_source, named_sources
from components.data.sources.item import Item, Opening, Source
from components.data.sources.names import shown
from components.data.staging import staging
from components.data.writing import SHARD_BYTES
from components.runtime.progress import bar

QUARANTINE_MAX = 0.01
CAPTIONS_MISSING_MAX = 0.01
Told = Callable[[Report], None]


def prepare(
    source: str | Path | Source,
    dest: Path,
    *,
    seed: int = 0,
    limit_items: int | None = None,
    quarantine_max: float = QUARANTINE_MAX,
    classes: ClassRule = "auto",
    captions: CaptionRule = "auto",
    captions_missing_max: float = CAPTIONS_MISSING_MAX,
    captions_repeated_max: float = 1.0,
    modality: str = "image",
    mirror: str | None = None,
    cache: Path,
    progress: bool = True,
    shard_bytes: int = SHARD_BYTES,
    told: Told = lambda report: None,
    **reading: Any,
) -> Manifest:
    """Prepare `source` (a public set's name, or the user's own path) into the folder `dest`, whole or not at all.

    `modality`: of the files at a path; a public set has its own. `reading`: the modality's options (of images `side`, in
    pixels); None where they are not given. `limit_items`: that many, spread evenly over the source. `quarantine_max`: the share
    of unusable items above which it fails. `classes`: whether folders are. `captions`: where they come from, with the shares of
    items that have none, and of those that have the one of an earlier item, above which it fails. `mirror`: a folder or URL that
    holds the public sets.
    `cache`: where downloads, reports and contact sheets stay. `told` is given the report, which is part of the manifest but for
    public sets. Raises DataError (input), RunError (no mirror answers), StorageError or SettingsError (disk).
    """
    options = Options(seed, quarantine_max, captions_missing_max, captions_repeated_max)
    _check(options, limit_items=limit_items)
    check_rule(captions)
    reading = {name: value for name, value in reading.items() if value is not None}
    place = dest.absolute()
    opening = Opening(cache=cache, mirror=mirror, progress=progress, classes=classes, captions=captions, modality=modality)
    found = _found(source, place, opening, reading)
    reader = make_reader(find_modality(found.modality), reading)
    with bar(f"survey {found.kind}", total=None, show=progress) as advance:
        survey = found.survey(reader, advance)
    if classes == "none":
        survey = replace(survey, classes=(), index=None)
    survey = ask_captions(survey, captions, where=found.where)
    if survey.count < BLOCK:
        raise DataError(f"{found.where}: {survey.count} items", allowed=f"{ITEMS_NEEDED} or more", do="add more data")
    item = reader.spec(where=found.where)
    wanted = min(limit_items or survey.count, survey.count)
    with staging(place, marker=MANIFEST) as folder, bar(f"prepare {found.kind}", total=wanted, show=progress) as advance:
        writing = SecondPass(folder, survey, reader, item, options, wanted=wanted, shard_bytes=shard_bytes)
        try:
            with (folder / QUARANTINE).open("w", encoding="utf-8") as refused:
                writing.run(_spread(found.items(reader), survey.count, wanted, where=found.where), refused, advance)
            writing.check(where=found.where, report=folder / QUARANTINE, keep=cache / "quarantine" / f"{place.name}.jsonl")
            manifest, report = writing.finish(found)
        finally:
            writing.abandon()
        manifest.write(folder / MANIFEST)
        _draw_sheet(folder, manifest, sheet_path(cache, place))
    told(report)
    return manifest


def _found(source: str | Path | Source, place: Path, opening: Opening, reading: Mapping[str, Any]) -> Source:
    """The source that is named, once `place` is known to be writable beside it. What is wrong with the options is said first."""
    if not isinstance(source, str | Path):
        _check_nameable(place)
        return source
    if source not in named_sources():  # those have a modality of their own, which is asked once they are opened
        make_reader(find_modality(opening.modality), reading)
    _check_nameable(place)
    _check_apart(source, place)
    return find_source(source, opening)


def sheet_path(cache: Path, dest: Path) -> Path:
    """Where the contact sheet of a prepared folder lies: outside it, so that it is no part of the version."""
    return cache / "sheets" / f"{shown(dest.name)}.png"


def _draw_sheet(folder: Path, manifest: Manifest, to: Path) -> None:
    from components.data.sheet import sheet_png

    write_whole(to, sheet_png(folder, manifest))


def _spread(items: Iterator[Item], count: int, wanted: int, *, where: str) -> Iterator[Item]:
    """`wanted` of `count` items at even distances, in order; those passed over are never read.

    Raises DataError where there are not so many.
    """
    given = 0
    for at, item in enumerate(items):
        given += 1
        if at * wanted % count < wanted and given <= count:
            yield item
    if given != count:
        raise DataError(f"{where}: it gives {given:,} items, and its survey counted {count:,}", do="prepare it again")


def _check(options: Options, *, limit_items: int | None) -> None:
    if not 0 <= options.seed < 2**32:
        raise DataError(f"seed {options.seed}", allowed="0 to 4294967295")
    if limit_items is not None and limit_items < BLOCK:
        raise DataError(f"limit of {limit_items} items", allowed=f"{BLOCK} or more, {ITEMS_NEEDED} or more for a proof")
    if not 0 <= options.quarantine_max < 1:
        raise DataError(f"quarantine-max {options.quarantine_max}", allowed="0 up to, not including, 1")
    for name in ("captions_missing_max", "captions_repeated_max"):
        if not 0 <= getattr(options, name) <= 1:
            raise DataError(f"{name.replace('_', '-')} {getattr(options, name)}", allowed="0 to 1")


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
