"""The gates: each metric's interval against a threshold. docs/decisions/0003-gates.md says why it is done so.

pass: the whole interval is on the good side. fail: the whole of it is on the bad side, or where a gate leaves room for what is a
little worse (`worse_beyond`), surely worse and not shown to be within that room. undecided: neither.

A limit on one metric stands in that metric's file (metrics/NAME.py, GATES). A gate on what follows from several stands in a file
here, and is found by its name like them:

    WORDS = (Words(...),)      what people read of the value
    GATES = (Gate(...),)       its limit
    def value(candidate: Scorecard, champion: Scorecard | None) -> Metric | None
"""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, create_model

from components.core.brief import Positive, Share, explain
from components.core.errors import BriefError, RunError
from components.core.metrics import Gate
from components.core.record import Record
from components.core.records import GateReport, GateVerdict, Metric, Scorecard, Verdict
from components.evaluation.definitions import gates as found_gates
from components.evaluation.definitions import maker_of, words_of

# A ratio to the champion's, what it is of, and the floor of the champion's.
RATIOS = (("distance_ratio", "distance", "distance_floor"), ("heldout_ratio", "heldout_distance", "heldout_floor"))
Threshold = float | Literal["serving"] | None


def thresholds(given: Mapping[str, Any], *, where: str = "brief") -> dict[str, Threshold]:
    """The threshold of every gate: what a brief gives, else the gate's own. None is off, "serving" the brief's latency limit.

    Raises BriefError for a gate that is not here and for a threshold that it cannot have.
    """
    model = _model()
    try:
        return model.model_validate_json(json.dumps(dict(given)), strict=True).model_dump()
    except ValidationError as error:
        raise BriefError(f"{where}: gates.{explain(error, model)}") from error


def student_thresholds(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a student: a brief's, the latency limit of serving, and where the brief is silent what holds it to its teacher."""
    set_already, known = thresholds(given), found_gates().values()
    own = {gate.name: gate.student for gate in known if gate.student is not None and set_already[gate.name] is None}
    return {**given, **{gate.name: "serving" for gate in known if gate.default == "serving"}, **own}


@cache
def _model() -> type[Record]:
    """The gates that are here as a record of thresholds, which refuses what a brief may not say."""
    kinds: dict[str, Any] = {"number": Annotated[float, Field(allow_inf_nan=False)], "positive": Positive, "share": Share}
    fields: dict[str, Any] = {}
    for gate in found_gates().values():
        kind = kinds[gate.takes] | Literal["serving"] if gate.default == "serving" else kinds[gate.takes]
        fields[gate.name] = (kind | None, gate.default)
    return create_model("Gates", __base__=Record, **fields)


def gate(
    candidate: Scorecard,
    *,
    champion: Scorecard | None,
    gates: Mapping[str, Any] | None = None,
    latency_ms: float | None = None,
    champion_bundle: str | None = None,
) -> GateReport:
    """Judge a candidate. With a champion, both scorecards come from `score_pair`; without, the absolute gates alone decide.

    `gates` are a brief's thresholds; `latency_ms` is its serving limit. A threshold of None turns its gate off.
    Raises RunError when the protocols differ, when the two were not scored beside each other, or a metric is missing, and
    BriefError as `thresholds` does.
    """
    _check_comparable(candidate, champion)
    verdicts = []
    for name, given in thresholds(gates or {}).items():
        each, threshold = found_gates()[name], latency_ms if given == "serving" else given
        if threshold is None or (each.relative and champion is None):
            continue
        metric = _judged(each, candidate, champion)
        if metric is not None:
            verdicts.append(judge(each, metric, threshold))
    reference = None if champion is None else champion_bundle or champion.subject.partition(":")[2]
    return GateReport(verdict=overall([v.verdict for v in verdicts]), gates=tuple(verdicts), champion=reference)


def _judged(each: Gate, candidate: Scorecard, champion: Scorecard | None) -> Metric | None:
    """What a gate judges: a metric of the scorecard, or what its own file makes of both; None where it does not apply."""
    made: Metric | None
    if (module := maker_of(each)) is None:
        made = candidate.metrics.get(each.metric)
    else:
        made = import_module(module).value(candidate, champion)
    if made is None and not each.optional:
        raise RunError(f"gates.{each.name}: the scorecard has no {each.metric}", do="measure it, or set the gate to null")
    return made


def judge(each: Gate, metric: Metric, threshold: float) -> GateVerdict:
    """One gate's verdict."""
    verdict = _verdict(metric, threshold, each)
    side = {"max": "at most", "min": "at least"}[each.limit]
    interval = f"{metric.value:.3g} [{metric.low:.3g}, {metric.high:.3g}]"
    text = f"{words_of(each.metric).heading}: {interval}, {side} {threshold:.3g} wanted"
    if verdict == "undecided":
        text += "; the interval straddles it: more samples or more reference items would tell"
    elif verdict == "fail" and _verdict(metric, threshold, replace(each, worse_beyond=None)) == "undecided":
        text += f"; surely beyond {each.worse_beyond:g}, and not shown to be within what is wanted"
    return GateVerdict(
        gate=each.name,
        verdict=verdict,
        value=metric.value,
        low=metric.low,
        high=metric.high,
        threshold=threshold,
        text=text,
    )


def _verdict(metric: Metric, threshold: float, each: Gate) -> Verdict:
    sign = 1 if each.limit == "max" else -1
    best, worst = sorted((sign * metric.low, sign * metric.high))
    if worst <= sign * threshold:
        return "pass"
    refused = sign * threshold if each.worse_beyond is None else min(sign * threshold, sign * each.worse_beyond)
    return "fail" if best > refused else "undecided"


def overall(verdicts: list[Verdict]) -> Verdict:
    """fail when any gate fails, else undecided when any is, else pass. With every gate off nothing was proved: undecided."""
    if not verdicts or ("undecided" in verdicts and "fail" not in verdicts):
        return "undecided"
    return "fail" if "fail" in verdicts else "pass"


def _check_comparable(candidate: Scorecard, champion: Scorecard | None) -> None:
    if champion is None:
        return
    ours, theirs = (each.protocol.model_dump() for each in (candidate, champion))
    if different := [name for name in ours if ours[name] != theirs[name]]:
        name = different[0]
        raise RunError(
            f"scorecards of different protocols are not compared: {name} is {ours[name]} and {theirs[name]}",
            do="score candidate and champion beside each other",
        )
    unseen = candidate.protocol.heldout is not None
    for name, own, least in RATIOS if unseen else RATIOS[:1]:
        ratio, floor = candidate.metrics.get(name), candidate.metrics[least].value
        expected = max(0.0, candidate.metrics[own].value) / max(champion.metrics[own].value, floor, math.ulp(0.0))
        if ratio is None or not math.isclose(ratio.value, expected, rel_tol=1e-6, abs_tol=1e-9):
            raise RunError(
                f"these two scorecards were not made beside each other: {name} is missing or of another champion",
                do="score candidate and champion as a pair",
            )
