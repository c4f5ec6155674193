"""The second pass of a preparation: each item is read, written to its split, and counted."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from components.core.errors import DataError
from components.core.files import write_whole
from components.core.item import ItemSpec
from components.core.modality import ItemReader, Unreadable, find_modality
from components.core.proof_items import BLOCK, ITEMS_NEEDED, held_out_block
from components.data.captioning import NO_CAPTION, Captioning
from components.data.manifest import Manifest, Quarantine, Report
from components.data.sameness import Sameness
from components.data.sources.caption_rules import Cleaned
from components.data.sources.item import Item, Source, Survey
from components.data.splits import SPLITS, Split, split_of
from components.data.writing import ShardWriter, Statistics
from components.runtime.progress import Advance


@dataclass(frozen=True)
class Options:
    """What the user chose, whatever the items are."""

    seed: int = 0
    quarantine_max: float = 0.01
    captions_missing_max: float = 0.01
    captions_repeated_max: float = 1.0


@dataclass
class SecondPass:
    """Writes `wanted` items into `folder`."""

    folder: Path
    survey: Survey
    reader: ItemReader
    item: ItemSpec
    options: Options
    wanted: int
    shard_bytes: int
    writers: dict[Split, ShardWriter] = field(init=False)
    statistics: Statistics = field(init=False)
    sameness: Sameness = field(default_factory=Sameness)
    classes: dict[Split, Counter[int]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})
    reasons: Counter[str] = field(default_factory=Counter)
    first_refused: str = ""
    first_uncaptioned: str = ""
    flat_by_ground: int = 0
    captioning: Captioning = field(init=False)
    split_of_group: dict[int, Split] = field(default_factory=dict)

    def __post_init__(self) -> None:
        labelled = bool(self.survey.classes)
        self.writers = {
            split: ShardWriter(self.folder, split, item=self.item, labelled=labelled, shard_bytes=self.shard_bytes)
            for split in SPLITS
        }
        self.statistics = Statistics(self.item)
        self.captioning = Captioning(self.folder, self.survey)

    def run(self, items: Iterator[Item], report: IO[str], advance: Advance) -> None:
        """Write each item to its split, or name it in the report."""
        place: Counter[bool] = Counter()
        # What the first pass could not open is not counted on: small sets hold out enough of what is left.
        small = held_out_block(self.wanted - min(self.survey.refused, self.wanted))
        for item in items:
            said = self.captioning.of(item)
            split = self._split(item, said, place, small)
            try:
                self._write(item, said, split)
            except Unreadable as refused:
                self.reasons[refused.reason] += 1
                if refused.reason == NO_CAPTION:
                    self.first_uncaptioned = self.first_uncaptioned or f"{item.name} ({refused.detail})"
                else:
                    self.first_refused = self.first_refused or f"{item.name} ({refused})"
                line = {"item": item.name, "reason": refused.reason, "detail": refused.detail}
                report.write(json.dumps(line, sort_keys=True) + "\n")
            advance(1)

    def _split(self, item: Item, said: Cleaned, place: Counter[bool], small: int) -> Split:
        """Where an item goes; `place`: how many groups of items were placed, a group an item where none is captioned."""
        group = self.survey.groups.of(said.captions) if self.survey.groups and said.captions else None
        if group in self.split_of_group:
            return self.split_of_group[group]
        official = item.split is not None and item.split != "train"
        block = small if item.split is None else BLOCK
        if item.split not in (None, *SPLITS):
            raise DataError(f"item {item.name}: its source puts it into the split {item.split!r}", allowed=", ".join(SPLITS))
        split = split_of(place[official], seed=self.options.seed, official=item.split, block=block)
        place[official] += 1
        if group is not None:
            self.split_of_group[group] = split
        return split

    def _write(self, item: Item, said: Cleaned, split: Split) -> None:
        data = item.read()
        stored = self.reader.read(data)
        if stored.shape != self.item.stored_shape or stored.dtype != np.dtype(self.item.storage.dtype):
            given = f"{stored.dtype} {'x'.join(map(str, stored.shape))}"
            raise Unreadable("shape", f"{given}, where the set has {self.item.storage.dtype} {self.item.text}")
        label = self.survey.class_of(item)
        self.captioning.check(item, said)
        self.writers[split].add(stored, label)
        self.captioning.add(said.captions, split)
        if self.sameness.add(stored, split, channel_axis=self.item.channel_axis):
            self.flat_by_ground += self.reader.vanishes(data)
        if split == "train":
            self.statistics.add(stored)
        if label is not None:
            self.classes[split][label] += 1

    def check(self, *, where: str, report: Path, keep: Path) -> None:
        """Raises DataError when too many items were refused, too few are left or all are alike; the report is kept outside."""
        refused, used = self.reasons.total() - self.reasons[NO_CAPTION], self.wanted - self.reasons.total()
        share_max = self.options.quarantine_max
        if refused > share_max * self.wanted:
            write_whole(keep, report.read_bytes())
            raise DataError(
                f"{where}: {refused} of {self.wanted} items cannot be used, first {self.first_refused}",
                allowed=f"{share_max:.2%} (--quarantine-max)",
                do=f"all are named in {keep}",
            )
        self._check_captions(where=where, report=report, keep=keep)
        if used < BLOCK:
            raise DataError(f"{where}: {used} usable items", allowed=f"{ITEMS_NEEDED} or more", do="add more data")
        self._check_alike(used, where)

    def _check_captions(self, *, where: str, report: Path, keep: Path) -> None:
        missing, counts, options = self.reasons[NO_CAPTION], self.captioning.counts, self.options
        if (bad := max(missing, counts["unusable"])) > options.captions_missing_max * self.wanted:
            write_whole(keep, report.read_bytes())
            first = self.captioning.first_unusable or self.first_uncaptioned
            raise DataError(
                f"{where}: {bad:,} of {self.wanted:,} items have no caption that can be used, first {first}",
                allowed=f"{options.captions_missing_max:.2%} (--captions-missing-max)",
                do=f"write them ({keep} names each), or give --captions none",
            )
        if counts["repeated"] > options.captions_repeated_max * self.wanted:
            raise DataError(
                f"{where}: {counts['repeated']:,} of {self.wanted:,} items have the caption of an earlier one",
                allowed=f"{options.captions_repeated_max:.2%} (--captions-repeated-max)",
                do="say of each item what is in it",
            )

    def _check_alike(self, used: int, where: str) -> None:
        if self.sameness.identical() < used - 1:
            return
        modality = find_modality(self.item.modality)
        flat = modality.flat
        what, do = f"are the same {modality.singular}", "give other data: there is nothing to learn from one item"
        if self.sameness.flat:
            what = f"are the same, {flat}"
        if self.flat_by_ground:
            ground = self.reader.details()["background"]
            what = f"come out the same, {flat}: {self.flat_by_ground} are transparent and were laid over {ground}"
            do = f"choose another ground with --background, for example {'black' if ground != 'black' else 'white'}"
        raise DataError(f"{where}: all {used:,} items {what}", do=do)

    def finish(self, source: Source) -> tuple[Manifest, Report]:
        """Close the shards and describe them."""
        for writer in self.writers.values():
            writer.finish()
        counts: dict[Split, int] = {split: sum(shard.count for shard in writer.shards) for split, writer in self.writers.items()}
        if not all(counts.values()):
            raise DataError(f"a split came out empty: {counts}", do="raise --limit or add more data")
        report = self._report(sum(counts.values()))
        manifest = Manifest(
            source=source.kind,
            modality=self.item.modality,
            count=report.used,
            shape=self.item.stored_shape,
            details=self.item.details,
            classes=self.survey.classes,
            class_counts=tuple(map(sum, zip(*report.class_counts.values(), strict=True))),
            splits=counts,
            mean=self.statistics.mean(),
            std=self.statistics.std(),
            seed=self.options.seed,
            resizer=self.reader.resizer,
            quarantine=Quarantine(
                count=self.reasons.total(), share_max=self.options.quarantine_max, reasons=dict(sorted(self.reasons.items()))
            ),
            shards={split: tuple(writer.shards) for split, writer in self.writers.items()},
            captions=len(self.captioning.kinds),
            caption_files=self.captioning.finish(),
            report=None if source.locked else report,
        )
        return manifest, report

    def _report(self, used: int) -> Report:
        survey = self.survey
        passed_over = survey.count - self.wanted
        left = dict(survey.left_alone) | ({"beyond --limit": passed_over} if passed_over else {})
        return Report(
            used=used,
            left_alone=dict(sorted(left.items())),
            class_counts={split: tuple(self.classes[split][at] for at in range(len(survey.classes))) for split in SPLITS},
            identical=self.sameness.identical(),
            shared=self.sameness.shared(),
            flat=self.sameness.flat,
            flat_by_ground=self.flat_by_ground,
            low=self.sameness.low,
            high=self.sameness.high,
            captions=self.captioning.report(missing=self.reasons[NO_CAPTION]),
            notes=survey.notes,
            **self.reader.details(),
        )

    def abandon(self) -> None:
        """Let go of open files."""
        for writer in self.writers.values():
            writer.abandon()
        self.captioning.abandon()
