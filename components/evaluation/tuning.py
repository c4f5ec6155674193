"""What is said of a training that began with a base, and drawn of it: what it learnt, by heart or not, and what it forgot.

A loss is compared item by item, at the same noise, so that what is above chance (two standard errors) can be told from few items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from components.core.metrics import number
from components.core.records import TuningPoint
from components.core.records.checkpoint import ERRORS, is_by_heart, rise

WIDTH, HEIGHT = 100.0, 40.0  # of a chart


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, the colour of the page that it is drawn in, its points, and its first and kept value."""

    name: str
    colour: str
    points: str  # of an SVG polyline
    first: float
    kept: float


@dataclass(frozen=True)
class Chart:
    """Lines over the steps of a training, on one axis from 0 to `top`; the kept step stands at `kept_x`."""

    title: str
    lines: tuple[Line, ...]
    top: float
    kept_x: float


def sentences(points: Sequence[TuningPoint], *, kept: int) -> tuple[str, ...]:
    """What was learnt and forgotten from the base (the first point) to the step that is kept; nothing where nothing was read."""
    if len(points) < 2:
        return ()
    first, chosen = points[0], _at(points, kept)
    told = [f"distance to the new data {number(first.distance)} as it began, {number(chosen.distance)} as kept, at step {kept:,}"]
    told += _by_heart(points, kept)
    if chosen.base_distance is not None and first.base_distance is not None:
        loss = f"; {_rose('the loss on that', chosen.of_base, first.of_base)}" if chosen.of_base else ""
        far = f"the samples lie {number(chosen.base_distance)} from what the base drew, its own {number(first.base_distance)}"
        told.append(f"of the base: {far}{loss}")
    return tuple(told)


def charts(points: Sequence[TuningPoint], *, kept: int) -> tuple[Chart, ...]:
    """The distances and the losses over the steps."""
    if len(points) < 2:
        return ()
    distances = _chart(
        "Distance of the samples",
        {"to the new data": [each.distance for each in points], "to what the base drew": [each.base_distance for each in points]},
        points,
        kept,
    )
    losses = _chart(
        "Loss at fixed noise",
        {
            "on held-out new data": [each.beside.get("held_out_loss") for each in points],
            "on what the base drew": [each.beside.get("base_loss") for each in points],
        },
        points,
        kept,
    )
    return tuple(chart for chart in (distances, losses) if chart.lines)


def _by_heart(points: Sequence[TuningPoint], kept: int) -> list[str]:
    """Whether the loss on held-out items rose after its lowest reading."""
    read = [each for each in points if each.held_out]
    if not read:
        return []
    means = {each.step: each.beside["held_out_loss"] for each in read}
    lowest, last = min(read, key=lambda each: means[each.step]), read[-1]
    low, end = number(means[lowest.step]), number(means[last.step])
    if is_by_heart(last.held_out, lowest.held_out, read[0].held_out):
        _, error = rise(last.held_out, lowest.held_out)
        more = f"it learnt by heart after step {lowest.step:,}: the held-out loss rose from {low} to {end} (± {number(error)})"
        return [f"{more}; step {kept:,} is kept"]
    return [f"no sign of learning by heart: the held-out loss ended at {end}, its lowest was {low}"]


def _rose(what: str, now: Sequence[float], before: Sequence[float]) -> str:
    up, error = rise(now, before)
    if abs(up) <= ERRORS * error:
        return f"{what} is as it was"
    begun = sum(before) / len(before)
    if begun and abs(up) / abs(begun) < 0.005:
        return f"{what} is as it was"
    word = "rose" if up > 0 else "fell"
    share = f" by {abs(up) / abs(begun):.0%}" if begun else ""
    return f"{what} {word}{share} ({number(begun)} to {number(begun + up)}, ± {number(error)})"


def _at(points: Sequence[TuningPoint], step: int) -> TuningPoint:
    return next((each for each in points if each.step == step), points[-1])


def _chart(title: str, lines: dict[str, list[float | None]], points: Sequence[TuningPoint], kept: int) -> Chart:
    """Of the lines that are known at every point."""
    known = {name: [value for value in values if value is not None] for name, values in lines.items()}
    known = {name: values for name, values in known.items() if len(values) == len(points)}
    end, top = max(points[-1].step, 1), max((max(values) for values in known.values()), default=1.0) or 1.0
    low = min(0.0, *(min(values) for values in known.values())) if known else 0.0  # a density's loss may be below 0
    drawn = []
    for (name, values), colour in zip(known.items(), ("accent", "other"), strict=False):
        spots = [
            f"{WIDTH * each.step / end:.2f},{HEIGHT * (1 - (value - low) / ((top - low) or 1)):.2f}"
            for each, value in zip(points, values, strict=True)
        ]
        chosen = values[points.index(_at(points, kept))]
        drawn.append(Line(name=name, colour=colour, points=" ".join(spots), first=values[0], kept=chosen))
    return Chart(title=title, lines=tuple(drawn), top=top, kept_x=round(WIDTH * kept / end, 2))
