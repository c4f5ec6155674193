"""The picture of a trade-off: distance over the teacher's and latency, each with its interval, and the limit."""

import io
from collections.abc import Mapping

from components.core.records import Metric
from components.evaluation.definitions import words_of

DPI = 110
COLOURS = {"pass": "tab:green", "undecided": "tab:orange", "fail": "tab:red"}


def trade_off_plot(
    points: Mapping[str, tuple[Metric, Metric, str]], *, teacher: Metric, limit_ms: float | None, title: str
) -> bytes:
    """PNG bytes. `points`: label -> latency p95 in ms, distance over the teacher's, verdict; `teacher`: its latency."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    shown = {label: (latency, fd, COLOURS[verdict]) for label, (latency, fd, verdict) in points.items()}
    for label, (latency, fd, colour) in shown.items():
        axes.errorbar(latency.value, fd.value, xerr=_reach(latency), yerr=_reach(fd), fmt="o", color=colour, capsize=3)
        axes.annotate(label, (latency.value, fd.value), xytext=(6, 5), textcoords="offset points", fontsize=8)
    axes.errorbar(teacher.value, 1.0, xerr=_reach(teacher), fmt="o", color="tab:blue", capsize=3, label="teacher")
    axes.axhline(1.0, linestyle=":", color="tab:blue")
    if limit_ms is not None:
        axes.axvline(limit_ms, linestyle=":", color="black", label=f"limit {limit_ms:g} ms")
    for verdict, colour in COLOURS.items():
        axes.plot([], [], "o", color=colour, label=f"gates: {verdict}")
    across, up = words_of("latency_p95_ms"), words_of("distance_ratio")
    axes.set(xscale="log", xlabel=across.heading, ylabel=f"{up.heading} (the teacher's), {up.better} is better", title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _reach(metric: Metric) -> list[list[float]]:
    return [[max(0.0, metric.value - metric.low)], [max(0.0, metric.high - metric.value)]]
