"""The page of a bake-off: one self-contained HTML page of every candidate, with its pictures and its figures at each rung."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.core.files import write_whole
from components.core.metrics import number
from components.core.records import GateReport, Metric
from components.evaluation.definitions import words_of

TEMPLATE = Path(__file__).with_name("bakeoff.html.j2")
DPI = 110


@dataclass(frozen=True)
class Shown:
    """One candidate. `rungs`: the share of its budget, items seen, seconds, and the metrics there."""

    name: str
    wins: bool
    parameters_m: float | None
    refused: str
    collapse: str
    picture: bytes  # PNG
    latency: Metric | None
    rungs: Sequence[tuple[float, int, float, Mapping[str, Metric]]]

    @property
    def image(self) -> str:
        return _data_uri(self.picture)


def write_bakeoff_page(
    path: Path,
    *,
    model: str,
    budget: str,
    metric: str,
    beside: Sequence[str],
    samples: int,
    candidates: Sequence[Shown],
    gates: GateReport | None = None,
    final: bytes | None = None,
) -> None:
    """Write the page, whole or not at all. `metric` ranked, those `beside` it are shown; `candidates`: the winner first; `final`:
    what the winner draws at the end of its training, as PNG. The same arguments give the same bytes."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = number
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        model=model,
        budget=budget,
        ranked=words_of(metric),
        beside=[words_of(name) for name in beside],
        samples=samples,
        candidates=candidates,
        gates=gates,
        final=None if final is None else _data_uri(final),
        curves=_data_uri(_curves(candidates, metric)),
    )
    write_whole(path, html.encode())


def _curves(candidates: Sequence[Shown], metric: str) -> bytes:
    """The ranking metric over items seen, with intervals: PNG bytes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for place, each in enumerate(candidates):
        points = [(items, metrics[metric]) for _, items, _, metrics in each.rungs if metric in metrics]
        values = [point.value for _, point in points]
        reach = [[v - p.low for v, (_, p) in zip(values, points, strict=True)], [p.high - p.value for _, p in points]]
        reach = [[max(0.0, end) for end in side] for side in reach]
        axes.errorbar([items for items, _ in points], values, yerr=reach, fmt="o-", color=f"C{place}", capsize=3, label=each.name)
    words = words_of(metric)
    axes.set(xlabel="items seen", ylabel=f"{words.heading}, {words.better} is better")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
