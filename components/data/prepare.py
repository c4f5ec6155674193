"""From a source to a prepared folder: uint8 shards for each split, and dataset.json. The set is never held in memory.

Two passes: a survey (count, size, channels, classes), then one item after another is decoded, brought to size, and written to its
split. The same source, side and seed give the same bytes on every machine.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from components.core.errors import DataError
from components.core.files import write_whole
from components.core.progress import Advance, bar
from components.data.images import MAX_PIXELS, RESIZER, decode, refit
from components.data.manifest import MANIFEST, QUARANTINE, Manifest, Quarantine
from components.data.sources.find import find_source
from components.data.sources.item import Item, Pixels, Source, Survey, Unreadable
from components.data.splits import SPLITS, Split, split_of
from components.data.staging import staging
from components.data.writing import SHARD_BYTES, ShardWriter, Statistics

MIN_ITEMS = 32  # fewer cannot be split into something to train on and something to prove it with
MAX_SIDE = 4096
QUARANTINE_MAX = 0.01


def prepare(
    source: str | Path | Source,
    dest: Path,
    *,
    side: int | None = None,
    seed: int = 0,
    limit_items: int | None = None,
    quarantine_max: float = QUARANTINE_MAX,
    mirror: str | None = None,
    cache: Path,
    progress: bool = True,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Prepare `source` (a public set's name, or the user's own path) into the folder `dest`, whole or not at all.

    `side`: pixels; each item becomes a square of it. `limit_items`: that many, spread evenly over the source.
    `quarantine_max`: the share of unusable items above which it fails. `mirror`: a folder or URL that holds the public sets.
    `cache`: where downloads stay.
    Raises DataError (input), RunError (no mirror answers), StorageError or SettingsError (disk).
    """
    _check(side=side, seed=seed, limit_items=limit_items, quarantine_max=quarantine_max)
    place = dest.absolute()
    if not isinstance(source, str | Path):
        found = source
    else:
        _check_apart(source, place)
        found = find_source(source, cache=cache, mirror=mirror, progress=progress)
    with bar(f"survey {found.kind}", total=None, show=progress) as advance:
        survey = found.survey(advance)
    _check_survey(survey, found, side=side)
    wanted = min(limit_items or survey.count, survey.count)
    with staging(place, marker=MANIFEST) as folder, bar(f"prepare {found.kind}", total=wanted, show=progress) as advance:
        writing = _Writing(folder, survey, side=side, seed=seed, shard_bytes=shard_bytes)
        try:
            with (folder / QUARANTINE).open("w", encoding="utf-8") as report:
                writing.run(_spread(found.items(), survey.count, wanted), report, advance)
            writing.check(
                wanted,
                quarantine_max,
                where=found.where,
                report=folder / QUARANTINE,
                keep=cache / "quarantine" / f"{place.name}.jsonl",
            )
            manifest = writing.finish(found.kind, quarantine_max)
        finally:
            writing.abandon()
        manifest.write(folder / MANIFEST)
    return manifest


@dataclass
class _Writing:
    """The second pass."""

    folder: Path
    survey: Survey
    side: int | None
    seed: int
    shard_bytes: int
    writers: dict[Split, ShardWriter] = field(init=False)
    statistics: Statistics = field(init=False)
    classes: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    first_refused: str = ""

    def __post_init__(self) -> None:
        height, width = (self.side, self.side) if self.side else self.survey.size or (0, 0)
        self.shape = (height, width, self.survey.channels)
        labelled = bool(self.survey.classes)
        self.writers = {
            split: ShardWriter(self.folder, split, shape=self.shape, labelled=labelled, shard_bytes=self.shard_bytes)
            for split in SPLITS
        }
        self.statistics = Statistics(self.survey.channels)

    def run(self, items: Iterator[Item], report: IO[str], advance: Advance) -> None:
        """Write each item to its split, or name it in the report."""
        place: Counter[bool] = Counter()
        for item in items:
            official = item.split is not None and item.split != "train"
            split = split_of(place[official], seed=self.seed, official=item.split)
            place[official] += 1
            try:
                self._write(item, split)
            except Unreadable as refused:
                self.reasons[refused.reason] += 1
                self.first_refused = self.first_refused or f"{item.name} ({refused})"
                line = {"item": item.name, "reason": refused.reason, "detail": refused.detail}
                report.write(json.dumps(line, sort_keys=True) + "\n")
            advance(1)

    def _write(self, item: Item, split: Split) -> None:
        pixels = self._pixels(item)
        label = self.survey.class_of(item)
        self.writers[split].add(pixels, label)
        if split == "train":
            self.statistics.add(pixels)
        if label is not None:
            self.classes[label] += 1

    def _pixels(self, item: Item) -> Pixels:
        data = item.read()
        if isinstance(data, bytes):
            return decode(data, channels=self.survey.channels, side=self.side)
        return refit(data, side=self.side)

    def check(self, wanted: int, share_max: float, *, where: str, report: Path, keep: Path) -> None:
        """Raises DataError when too many items were refused, or too few are left; the report is then kept outside."""
        refused = self.reasons.total()
        if refused > share_max * wanted:
            write_whole(keep, report.read_bytes())
            raise DataError(
                f"{where}: {refused} of {wanted} items cannot be used, first {self.first_refused}",
                allowed=f"{share_max:.2%} (--quarantine-max)",
                do=f"all are named in {keep}",
            )
        if wanted - refused < MIN_ITEMS:
            raise DataError(f"{where}: {wanted - refused} usable items", allowed=f"{MIN_ITEMS} or more", do="add more data")

    def finish(self, kind: str, share_max: float) -> Manifest:
        """Close the shards and describe them."""
        for writer in self.writers.values():
            writer.finish()
        counts: dict[Split, int] = {split: sum(shard.count for shard in writer.shards) for split, writer in self.writers.items()}
        if not all(counts.values()):
            raise DataError(f"a split came out empty: {counts}", do="raise --limit or add more data")
        return Manifest(
            source=kind,
            count=sum(counts.values()),
            shape=self.shape,
            classes=self.survey.classes,
            class_counts=tuple(self.classes[at] for at in range(len(self.survey.classes))),
            splits=counts,
            mean=self.statistics.mean(),
            std=self.statistics.std(),
            seed=self.seed,
            resizer=RESIZER if self.side and self.survey.size != (self.side, self.side) else None,
            quarantine=Quarantine(count=self.reasons.total(), share_max=share_max, reasons=dict(sorted(self.reasons.items()))),
            shards={split: tuple(writer.shards) for split, writer in self.writers.items()},
        )

    def abandon(self) -> None:
        """Let go of open files."""
        for writer in self.writers.values():
            writer.abandon()


def _spread(items: Iterator[Item], count: int, wanted: int) -> Iterator[Item]:
    """`wanted` of `count` items at even distances, in order; those passed over are never read."""
    return (item for at, item in enumerate(items) if at * wanted % count < wanted)


def _check(*, side: int | None, seed: int, limit_items: int | None, quarantine_max: float) -> None:
    if side is not None and not 1 <= side <= MAX_SIDE:
        raise DataError(f"side {side}", allowed=f"1 to {MAX_SIDE} pixels")
    if not 0 <= seed < 2**32:
        raise DataError(f"seed {seed}", allowed="0 to 4294967295")
    if limit_items is not None and limit_items < MIN_ITEMS:
        raise DataError(f"limit of {limit_items} items", allowed=f"{MIN_ITEMS} or more")
    if not 0 <= quarantine_max < 1:
        raise DataError(f"quarantine-max {quarantine_max}", allowed="0 up to, not including, 1")


def _check_apart(source: str | Path, dest: Path) -> None:
    path = Path(source).absolute()
    if path.exists() and (path == dest or dest in path.parents or (path in dest.parents and path.is_dir())):
        raise DataError(f"{dest}: lies in the source, or the source in it", do="name a folder elsewhere")


def _check_survey(survey: Survey, source: Source, *, side: int | None) -> None:
    if survey.count < MIN_ITEMS:
        raise DataError(f"{source.where}: {survey.count} items", allowed=f"{MIN_ITEMS} or more", do="add more data")
    if side is None and survey.size is None:
        given = f"sizes differ: {survey.mixed}" if survey.mixed else f"none of {survey.count} items is a readable picture"
        raise DataError(f"{source.where}: {given}", do="give a side in pixels (--side)" if survey.mixed else "give other data")
    if side is None and survey.size and survey.size[0] * survey.size[1] > MAX_SIDE * MAX_SIDE:
        raise DataError(f"{source.where}: {survey.size[0]}x{survey.size[1]} pixels", allowed=f"{MAX_PIXELS}", do="give --side")
