"""A preparation in words: what became of every file, the classes, the values, and what will fail later."""

import math
from pathlib import Path

from components.core.modality import find_modality
from components.core.proof_items import proof_shortage
from components.data.manifest import CaptionReport, Manifest, Report
from components.data.sources import left_alone
from components.data.sources.classes import look_alikes
from components.data.sources.names import shown
from components.data.splits import SPLITS

NAMED = 12  # classes named at most
DUPLICATES = 0.05  # share of the items that equal an earlier one which is worth a warning


def lines(manifest: Manifest, report: Report, *, to: Path, sheet: Path) -> list[str]:
    """What `data prepare` prints."""
    splits = ", ".join(f"{manifest.splits[split]:,} {split}" for split in SPLITS)
    return [
        f"{shown(str(to))}: {manifest.count:,} items of {manifest.item.text} ({splits})",
        f"  files      {account(manifest, report)}",
        *([f"  classes    {_classes(manifest, report)}"] if manifest.classes else []),
        *([f"  captions   {_captions(manifest, report.captions)}"] if report.captions else []),
        f"  values     {_values(manifest, report)}",
        f"  alike      {_share(report.identical, report.used)} equal an earlier one; {_share(report.flat, report.used)} are flat",
        *(f"  rule       {note}" for note in (*report.notes, *find_modality(manifest.modality).rules(report.model_dump()))),
        *(f"  WARNING    {warning}" for warning in warnings(manifest, report)),
        f"  sheet      {shown(str(sheet))}",
    ]


def account(manifest: Manifest, report: Report) -> str:
    """Every file of the source: 'used 80, set aside 3 (2 truncated, 1 empty), left alone 40 (40 .heic: convert ...)'."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in manifest.quarantine.reasons.items())
    left = sum(report.left_alone.values())
    aside = f"set aside {manifest.quarantine.count:,}" + (f" ({reasons})" if reasons else "")
    return f"used {report.used:,}, {aside}, left alone {left:,}" + (f" ({left_alone.words(report.left_alone)})" if left else "")


def warnings(manifest: Manifest, report: Report) -> list[str]:
    """What will fail or disappoint later, each with what to do."""
    found = [
        _proof(manifest),
        _duplicates(report),
        _flat(report, find_modality(manifest.modality).flat),
        *find_modality(manifest.modality).remarks(report.model_dump(), high=report.high, mean=manifest.mean, std=manifest.std),
        _rare(manifest, report),
        *(f"class names look alike: {names}; merge them if they are one" for names in look_alikes(manifest.classes)),
        _unread_labels(manifest, report),
        _seen_captions(manifest, report.captions) if report.captions else "",
    ]
    return [each for each in found if each]


def _proof(manifest: Manifest) -> str:
    held_out = manifest.splits["validation"] + manifest.splits["test"]
    lacking = proof_shortage(manifest.count, train=manifest.splits["train"], held_out=held_out)
    return f"{lacking}; `produce` will refuse this data: add more" if lacking else ""


def _duplicates(report: Report) -> str:
    leaked = f"; {report.shared:,} held-out items are among the training items too" if report.shared else ""
    if report.duplicates > DUPLICATES:
        return (
            f"{100 * report.duplicates:.0f} % of the items equal an earlier one{leaked}; a generator learns what is repeated by "
            "heart, and its copies are told only beyond those of the data; remove the copies"
        )
    return f"{_share(report.identical, report.used)} equal an earlier one{leaked}; remove the copies" if report.shared else ""


def _flat(report: Report, what: str) -> str:
    if not report.flat:
        return ""
    cause = ""
    if report.flat_by_ground:
        other = "black" if report.background != "black" else "white"
        cause = (
            f"; {report.flat_by_ground:,} of them are transparent pictures that vanish on {report.background}: "
            f"try --background {other}"
        )
    return f"{_share(report.flat, report.used)} are {what}{cause or '; look at the sheet'}"


def _rare(manifest: Manifest, report: Report) -> str:
    lacking = {
        split: [name for name, count in zip(manifest.classes, counts, strict=True) if not count]
        for split, counts in report.class_counts.items()
    }
    if not any(lacking.values()):
        return ""
    words = "; ".join(f"{split} has none of {_some(names)}" for split, names in lacking.items() if names)
    return f"classes without an item in a split: {words}; give each 30 items or more, merge or remove them"


def _unread_labels(manifest: Manifest, report: Report) -> str:
    files = [kind for kind in report.left_alone if kind in left_alone.LABEL_SUFFIXES]
    if manifest.classes or not files:
        return ""
    return (
        f"there are no classes, and labels may stand in the {', '.join(files)} left alone; to use them write a metadata.csv, "
        "or make each class a folder"
    )


def _classes(manifest: Manifest, report: Report) -> str:
    counts = [report.class_counts[split] for split in SPLITS]
    order = list(range(len(manifest.classes)))
    if len(order) > NAMED:  # those that are named are the largest
        order.sort(key=lambda at: -manifest.class_counts[at])
    each = [f"{manifest.classes[at]} {'/'.join(f'{of[at]:,}' for of in counts)}" for at in order]
    return f"{len(each):,} ({'/'.join(SPLITS)}): {_some(each)}"


def _captions(manifest: Manifest, said: CaptionReport) -> str:
    each = "1 an item" if said.most == 1 else f"up to {said.most} an item"
    over = {
        "items without one": said.missing,
        "empty": said.empty,
        "twice on one item": said.twice,
        "unusable": said.unusable,
        "items have the one of an earlier item": said.repeated,
    }
    counts = "".join(f"; {count:,} {what}" for what, count in over.items() if count)
    examples = ", ".join(f'"{text}"' for text in said.examples)
    return f"{manifest.captions:,} distinct, {each}, by {said.rule}{counts}; such as {examples}"


def _seen_captions(manifest: Manifest, said: CaptionReport) -> str:
    held_out = manifest.splits["validation"] + manifest.splits["test"]
    if not said.seen:
        return ""
    return (
        f"{said.seen:,} of {held_out:,} held-out items have a caption that training items have too: captions of few kinds are "
        "not held out, and a proof cannot tell what was learnt from what was seen"
    )


def _values(manifest: Manifest, report: Report) -> str:
    mean, std = (", ".join(f"{value:.1f}" for value in each) for each in (manifest.mean, manifest.std))
    most = manifest.item.storage.high
    of = f" of {most:g}" if math.isfinite(most) else ""
    return f"{report.low:g} to {report.high:g}{of}; in training mean {mean}, standard deviation {std}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


def _share(part: int, whole: int) -> str:
    if not part:
        return "none of the items"
    share = 100 * part / whole
    return f"{part:,} of {whole:,} items ({share:.0f} %)" if share >= 1 else f"{part:,} of {whole:,} items ({share:.2g} %)"
