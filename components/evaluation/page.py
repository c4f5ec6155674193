"""The page of a candidate: one self-contained HTML page with its samples, gates, metrics, decision and lineage."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.core.arrays import Pictures
from components.core.files import write_whole
from components.core.grid import filling, grid_png
from components.core.metrics import Words, number
from components.core.modality import find_modality
from components.core.records import Dataset, Decision, GateReport, Metric, Scorecard, TuningPoint
from components.evaluation.definitions import gates, words, words_of
from components.evaluation.tuning import charts, sentences

TEMPLATE = Path(__file__).with_name("page.html.j2")
COLUMNS = 12
CLASSES_SHOWN = 20
PICTURE_PIXELS = 72  # about the width of one image on the page; the browser enlarges further without smoothing

BY_CLASS = {
    "share_real": "Share of held-out",
    "share": "Share of samples",
    "coverage": "Covered",
    "label_agreement": "Looks as asked",
}
BY_CAPTION = {"share_real": "Share of held-out", "kid": "KID", "text_r5": "Text R@5"}
BETTER = {"lower": "lower is better", "higher": "higher is better", "neither": ""}


@dataclass(frozen=True)
class Bar:
    """An interval on an axis from 0 to 100."""

    start: float
    width: float
    value: float


@dataclass(frozen=True)
class Row:
    """One line of the metric table."""

    words: Words
    metric: Metric
    bar: Bar
    champion: Metric | None
    champion_bar: Bar | None


def write_page(
    path: Path,
    *,
    model: str,
    decision: Decision,
    dataset: Dataset,
    scorecard: Scorecard,
    report: GateReport,
    champion: Scorecard | None = None,
    samples: Pictures,
    neighbours: tuple[Pictures, Pictures],
    lineage: Mapping[str, str] | None = None,
    tuned: tuple[Sequence[TuningPoint], int] = ((), 0),
) -> None:
    """Write the page, whole or not at all.

    `neighbours` holds generated images and, for each, its nearest training image (`nearest_in_split`). `lineage` holds further
    facts to print: run, commit, checkpoint. `tuned`: what was read of a training that began with a base, and the step that was
    kept. The same arguments give the same bytes. Raises StorageError when the disk refuses.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = number
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        model=model,
        decision=decision,
        dataset=dataset,
        scorecard=scorecard,
        report=report,
        champion=champion,
        rows=_rows(scorecard, champion),
        classes=_least_covered(scorecard),
        columns=[(name, label) for name, label in BY_CLASS.items() if any(name in each for each in scorecard.by_class.values())],
        captions=list(scorecard.by_caption.items()),
        caption_columns=list(BY_CAPTION.items()),
        sample_grid=_data_uri(grid_png(samples, filling(len(samples), most=COLUMNS), _scale(samples))),
        neighbour_grid=_data_uri(_facing(*neighbours)),
        plural=find_modality(dataset.modality).plural,
        counts=(len(samples), len(neighbours[0])),
        tuned=sentences(tuned[0], kept=tuned[1]),
        charts=charts(tuned[0], kept=tuned[1]),
        facts=_facts(scorecard, dataset, report) | dict(lineage or {}),
        better=BETTER,
        meanings={name: words_of(gate.metric).note for name, gate in gates().items()},
    )
    write_whole(path, html.encode())


def _facing(generated: Pictures, nearest: Pictures) -> bytes:
    """Rows of generated images, each above the row of their nearest training images."""
    columns = min(COLUMNS, len(generated))
    whole = len(generated) // columns * columns
    shape = (whole // columns, columns, *generated.shape[1:])
    lines = np.stack([part[:whole].reshape(shape) for part in (generated, nearest)], axis=1)
    return grid_png(lines.reshape(-1, *generated.shape[1:]), columns, _scale(generated))


def _scale(images: Pictures) -> int:
    width: int = images.shape[2]
    return max(1, round(PICTURE_PIXELS / width))


def _rows(scorecard: Scorecard, champion: Scorecard | None) -> list[Row]:
    """Known metrics in their order, then any others by name."""
    names = [name for name in words() if name in scorecard.metrics] + sorted(set(scorecard.metrics) - set(words()))
    rows = []
    for name in names:
        metric, other = scorecard.metrics[name], champion.metrics.get(name) if champion else None
        low, high = _axis(words_of(name), metric, other)
        bars = [None if each is None else _bar(each, low, high) for each in (metric, other)]
        assert bars[0] is not None
        rows.append(Row(words=words_of(name), metric=metric, bar=bars[0], champion=other, champion_bar=bars[1]))
    return rows


def _least_covered(scorecard: Scorecard) -> list[tuple[str, dict[str, Metric]]]:
    """At most CLASSES_SHOWN classes, the least covered first; where that is not known of one, it comes last."""
    by_coverage = lambda named: named[1]["coverage"].value if "coverage" in named[1] else math.inf  # noqa: E731
    return sorted(scorecard.by_class.items(), key=by_coverage)[:CLASSES_SHOWN]


def _axis(words: Words, metric: Metric, other: Metric | None) -> tuple[float, float]:
    """From 0, or the lowest end when that is below it, to a little past the highest end; shares end at 0.2 or 1."""
    both = [each for each in (metric, other) if each is not None]
    high = max(each.high for each in both)
    end = max(high * 1.15, 1e-9) if not words.share else 0.2 if high < 0.2 else 1.0
    return min(0.0, *(each.low for each in both)), end


def _bar(metric: Metric, low: float, high: float) -> Bar:
    start, end, value = (100 * (x - low) / (high - low) for x in (metric.low, metric.high, metric.value))
    return Bar(start=round(start, 2), width=round(max(end - start, 0.6), 2), value=round(value, 2))


def _facts(scorecard: Scorecard, dataset: Dataset, report: GateReport) -> dict[str, str]:
    protocol, plural = scorecard.protocol, find_modality(dataset.modality).plural
    facts = {
        "Artifact": scorecard.subject,
        "Dataset": f"{dataset.name}, {dataset.count:,} {plural} of {' × '.join(map(str, dataset.item.stored_shape))}",
        "Data version": f"md5 {dataset.md5}, revision {dataset.rev}",
        "Extractor": f"{protocol.extractor}, sha256 {protocol.extractor_sha256}",
        **({"Judge of texts": f"sha256 {protocol.judge_sha256}"} if protocol.judge_sha256 else {}),
        "Protocol": f"{protocol.samples:,} samples against {protocol.reference_count:,} of the {protocol.reference_split} split, "
        f"seed {protocol.seed}, resizer {protocol.resizer}",
        "Intervals": f"{protocol.level:.0%}, bootstrap of {protocol.bootstrap}",
        "Device": scorecard.device,
    }
    return facts | ({"Champion": report.champion} if report.champion else {})


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
