"""The gates: each metric's interval against a threshold. docs/decisions/0003-gates.md says why it is done so.

pass: the whole interval is on the good side. fail: the whole of it is on the bad side. undecided: it straddles the threshold.
"""

import math
from dataclasses import dataclass
from typing import Literal

from components.core.brief import GatesBrief
from components.core.errors import RunError
from components.core.metrics import words_of
from components.core.records import GateReport, GateVerdict, Metric, Scorecard, Verdict


@dataclass(frozen=True)
class Gate:
    """One gate: its name in the brief, the metric it reads (whose words stand in core/metrics.py) and which side is good."""

    name: str
    metric: str
    limit: Literal["max", "min"]
    relative: bool = False  # to a champion: without one there is nothing to judge


GATES = (
    Gate("fd_ratio_max", "fd_ratio", "max", relative=True),
    Gate("fd_noise_ratio_max", "fd_noise_ratio", "max"),
    Gate("coverage_min", "coverage", "min"),
    Gate("recall_min", "recall", "min"),
    Gate("coverage_lost_max", "coverage_lost", "max", relative=True),
    Gate("recall_lost_max", "recall_lost", "max", relative=True),
    Gate("duplicates_max", "duplicates", "max"),
    Gate("memorised_max", "memorised", "max"),
    Gate("latency_p95_ms_max", "latency_p95_ms", "max"),
)


def gate(
    candidate: Scorecard,
    *,
    champion: Scorecard | None,
    gates: GatesBrief,
    latency_ms: float | None = None,
    champion_bundle: str | None = None,
) -> GateReport:
    """Judge a candidate. With a champion, both cards come from `score_pair`; without, the absolute gates alone decide.

    `latency_ms` is the brief's serving limit, used where `gates` sets none. A threshold of None turns its gate off.
    Raises RunError when the protocols differ, when the two were not scored beside each other, or a metric is missing.
    """
    _check_comparable(candidate, champion)
    verdicts = []
    for each in GATES:
        given: float | Literal["serving"] | None = getattr(gates, each.name)
        threshold = latency_ms if given == "serving" else given
        if threshold is None or (each.relative and champion is None):
            continue
        metric = candidate.metrics.get(each.metric)
        if metric is None:
            raise RunError(f"gates.{each.name}: the scorecard has no {each.metric}", do="measure it, or set the gate to null")
        verdicts.append(judge(each, metric, threshold))
    reference = None if champion is None else champion_bundle or champion.subject.partition(":")[2]
    return GateReport(verdict=overall([v.verdict for v in verdicts]), gates=tuple(verdicts), champion=reference)


def judge(each: Gate, metric: Metric, threshold: float) -> GateVerdict:
    """One gate's verdict."""
    verdict = _verdict(metric, threshold, each.limit)
    side = {"max": "at most", "min": "at least"}[each.limit]
    interval = f"{metric.value:.3g} [{metric.low:.3g}, {metric.high:.3g}]"
    text = f"{words_of(each.metric).heading}: {interval}, {side} {threshold:.3g} wanted"
    if verdict == "undecided":
        text += "; the interval straddles it: more samples or more reference images would tell"
    return GateVerdict(
        gate=each.name,
        verdict=verdict,
        value=metric.value,
        low=metric.low,
        high=metric.high,
        threshold=threshold,
        text=text,
    )


def _verdict(metric: Metric, threshold: float, limit: Literal["max", "min"]) -> Verdict:
    sign = 1 if limit == "max" else -1
    best, worst = sorted((sign * metric.low, sign * metric.high))
    if worst <= sign * threshold:
        return "pass"
    return "fail" if best > sign * threshold else "undecided"


def overall(verdicts: list[Verdict]) -> Verdict:
    """fail when any gate fails, else undecided when any is, else pass. With every gate off nothing was proved: undecided."""
    if not verdicts or ("undecided" in verdicts and "fail" not in verdicts):
        return "undecided"
    return "fail" if "fail" in verdicts else "pass"


def _check_comparable(candidate: Scorecard, champion: Scorecard | None) -> None:
    if champion is None:
        return
    ours, theirs = (card.protocol.model_dump() for card in (candidate, champion))
    if different := [name for name in ours if ours[name] != theirs[name]]:
        name = different[0]
        raise RunError(
            f"scorecards of different protocols are not compared: {name} is {ours[name]} and {theirs[name]}",
            do="score candidate and champion beside each other",
        )
    ratio = candidate.metrics.get("fd_ratio")
    floor = candidate.metrics["fd_real"].value
    expected = candidate.metrics["fd"].value / max(champion.metrics["fd"].value, floor, math.ulp(0.0))
    if ratio is None or not math.isclose(ratio.value, expected, rel_tol=1e-6, abs_tol=1e-9):
        raise RunError(
            "these two scorecards were not made beside each other: fd_ratio is missing or of another champion",
            do="score candidate and champion as a pair",
        )
