"""What to do about a gate that did not pass: it depends on why. The causes, each with what was seen, the surest first.

    duplicates   the data repeats itself, and what is repeated is learnt by heart; or too little of it is left to cover
    collapse     the samples had lost modes while it trained
    noisy        samples are rougher than the data: noise is left in them
    contrast     the values within a sample spread less, or more, than those within real items
    blurry       samples are smoother than the data, or quality was asked of a family that blurs
    latency      too slow an item
    undecided    the interval straddles the threshold: too few reference items to tell
    short        the last reading of the training was its best by more than chance: it was still improving when it ended
    memorised    samples too close to training items, of data that does not repeat itself: more often than held-out ones
    champion     as good as it gets here, and still not as good as the champion
    other        none of these; where shares of the scorecard are low, the lowest is told

What mends a cause is another thing for `produce` and for `distil`; both stand here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from components.core.metrics import Gate
from components.core.records import GateReport, GateVerdict, Metric
from components.evaluation.definitions import gates as found_gates
from components.evaluation.definitions import words_of

Kind = Literal[
    "duplicates", "collapse", "noisy", "contrast", "blurry", "latency", "undecided", "short", "memorised", "champion", "other"
]  # fmt: skip

DUPLICATES_MANY = 0.01  # share of identical items in the data that is named as a cause
UNKNOWN = Gate("", "", "max", default=None)  # of an older report, which no file defines any more
FACTOR_MAX = 100.0  # times the reference items: beyond it no number is named

PRODUCE: dict[Kind, str] = {
    "duplicates": "remove the copies and prepare the data again: what is repeated is learnt by heart",
    "collapse": "choose a family that keeps its modes with override, or set override.config.on_collapse: rollback, "
    "or override.config.minibatch_kernels: 16 where the family has it",
    "noisy": "let it take more steps with override.config.steps where the family has them, or train longer: raise what compute "
    "in the brief allows",
    "contrast": "see its samples beside real items on the proof's page; set override.config.guidance: 1 where it is more, "
    "or choose another family with override",
    "blurry": "choose a family that does not blur with override, or raise compute.usd so that the policy does",
    "latency": "raise serving.latency_ms, make the network smaller with override.config.width, or distil it once it is promoted",
    "undecided": "add data: a fifth of it is held out for the proof",
    "short": "train longer: raise what compute in the brief allows",
    "memorised": "add data, or set override.config.augment: 0.12 where the family has it",
    "champion": "the champion stays; more data or another family may beat it, longer training alone will not",
    "other": "more data, another family (override) or another recipe (override.config)",
}
DISTIL: dict[Kind, str] = PRODUCE | {
    "collapse": "try more --steps, or --adversarial 0",
    "noisy": "try more --steps, or give it more --minutes",
    "contrast": "try more --steps, or --adversarial 0",
    "blurry": "try more --steps",
    "latency": "try fewer --steps, smaller --widths, --precisions int8 or fp16, or a higher --latency-ms",
    "short": "give it more --minutes",
    "champion": "try more --steps or --widths 1: this student is too small to follow its teacher",
    "other": "try more --steps or --widths 1",
}

# What lies wholly beyond is named. Real items of one data set among themselves, 350 of them, have 0.99 to 1.01 of each; what each
# fault does to them, and to models of other faults, is in docs/metrics.md.
NOISY_ABOVE, SMOOTH_BELOW = 1.1, 0.8  # of roughness
FAINT_BELOW, STRONG_ABOVE = 0.8, 1.25  # of contrast
LOW_BELOW = 0.7  # a share of the scorecard that is told as low
LOW = {  # what it says
    "precision": "too few samples look like the data",
    "recall": "the samples show too little of the data's variety",
    "coverage": "the samples show too little of the data's variety",
    "label_agreement": "samples are of another class than they were asked for",
}
Metrics = Mapping[str, Metric]
NONE_MEASURED: Metrics = {}


@dataclass(frozen=True)
class Training:
    """What is known of how a candidate came to be."""

    improving: bool = False  # its last reading was lower than all before it, by more than chance
    ended_by: str = "budget"
    collapse: str = ""
    duplicates: float = 0.0  # share of the data's items that are identical to another
    reference: int = 0  # items that it was compared with
    blurry: bool = False  # the policy warned that the family blurs and quality is the goal


@dataclass(frozen=True)
class Cause:
    """Why a gate did not pass: the kind, and what was seen, as a clause."""

    kind: Kind
    seen: str


def advice(
    report: GateReport, training: Training, *, metrics: Metrics = NONE_MEASURED, remedies: dict[Kind, str] = PRODUCE
) -> str:
    """One line: each cause and what mends it, the surest first; empty where every gate passed."""
    return "; ".join(f"{cause.seen}: {remedies[cause.kind]}" for cause in causes(report, training, metrics=metrics))


def causes(report: GateReport, training: Training, *, metrics: Metrics = NONE_MEASURED) -> tuple[Cause, ...]:
    """Why the gates that did not pass did not. Where the data repeats itself, what follows from that has no other cause."""
    open_gates = [gate for gate in report.gates if gate.verdict != "pass"]
    if not open_gates:
        return ()
    found = tuple(_found(open_gates, training, metrics))
    return found or (Cause("other", _lowest(metrics)),)


def _lowest(metrics: Metrics) -> str:
    """What the lowest of the low shares says."""
    known = {name: metrics[name] for name in LOW if name in metrics and metrics[name].value < LOW_BELOW}
    if not known:
        return "none of the known causes fits"
    name = min(known, key=lambda each: known[each].value)
    return f"{LOW[name]} ({words_of(name).label} {known[name].value:.2f})"


def _texture(metrics: Metrics) -> Iterator[Cause]:
    """What contrast and roughness tell of samples that are not good enough. Blur takes contrast, too, and is told alone."""
    contrast, roughness = metrics.get("contrast"), metrics.get("roughness")
    if contrast is None or roughness is None:
        return
    smooth = roughness.high < SMOOTH_BELOW
    if roughness.low > NOISY_ABOVE:
        yield Cause("noisy", f"samples are noisy ({roughness.value:.2f} times as rough as the data)")
    if not smooth and (contrast.high < FAINT_BELOW or contrast.low > STRONG_ABOVE):
        yield Cause("contrast", f"samples have {contrast.value:.2f} times the contrast of the data")
    if smooth:
        yield Cause("blurry", f"samples are blurred ({roughness.value:.2f} times as rough as the data)")


def _found(gates: Sequence[GateVerdict], training: Training, metrics: Metrics) -> Iterator[Cause]:
    failed = [gate for gate in gates if gate.verdict == "fail"]
    repeats = training.duplicates >= DUPLICATES_MANY and any(_of(gate).repeats for gate in gates)
    if repeats:
        yield Cause("duplicates", f"{training.duplicates:.1%} of the data's items are identical to another")
    quality = [gate for gate in failed if _of(gate).cause != "latency" and not (repeats and _of(gate).repeats)]
    if quality and training.collapse:
        yield Cause("collapse", f"it lost modes, or detail, in training ({training.collapse})")
    seen = tuple(_texture(metrics)) if quality else ()
    yield from seen
    if quality and training.blurry and not any(cause.kind == "blurry" for cause in seen):
        yield Cause("blurry", "quality is asked for and the family blurs")
    if any(_of(gate).cause == "latency" for gate in gates):
        yield Cause("latency", "an item takes too long")
    unsure = [gate for gate in gates if gate.verdict == "undecided" and _of(gate).cause != "latency"]
    if unsure and not repeats:
        yield Cause("undecided", _too_few(unsure, training.reference))
    if quality and training.improving and not training.collapse:
        yield Cause("short", f"its last reading was its best by more than chance, and {training.ended_by} ended it there")
    if any(_of(gate).cause == "memorised" for gate in quality):
        yield Cause("memorised", "samples copy training items, as they are, shifted or recoloured")
    if quality and all(_of(gate).relative for gate in quality) and not (training.improving or training.collapse or seen):
        yield Cause("champion", "it had stopped improving and the champion is better")


def _of(verdict: GateVerdict) -> Gate:
    return found_gates().get(verdict.gate, UNKNOWN)


def _too_few(gates: Sequence[GateVerdict], reference: int) -> str:
    """How many reference items would tell, where the value lies far enough from the threshold: intervals narrow by the root."""
    factors = [_times(gate) for gate in gates]
    names = ", ".join(gate.gate for gate in gates)
    if not reference or max(factors) > FACTOR_MAX:
        return f"{reference or 'the'} held-out items are too few to decide {names}, which lies at its threshold"
    return f"{reference:,} held-out items are too few to decide {names}; about {math.ceil(reference * max(factors)):,} would"


def _times(gate: GateVerdict) -> float:
    """Times as many items after which the interval ends at the threshold."""
    gap = abs(gate.value - gate.threshold)
    reach = gate.high - gate.value if gate.value < gate.threshold else gate.value - gate.low
    return (reach / gap) ** 2 if gap > 0 else math.inf
