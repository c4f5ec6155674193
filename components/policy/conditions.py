"""The little language of the tables: `when: {modality: image, side: {above: 64}, tier: [tiny, small]}`.

A situation is a flat mapping of attributes, derived from the Facts and from what is chosen so far. A condition holds when every
attribute it names has the value, one of the values, or lies in the range. An attribute that is unknown (None) satisfies none.
"""

from collections.abc import Mapping
from typing import get_args

from pydantic import model_validator

from components.core.brief import COMBINE, UNCHANGED, Conditioning, Delivery, Goal, Mode, Use
from components.core.record import Record
from components.core.records import Tier
from components.core.records.foreign import Terms

Value = str | bool | int | float | tuple[str, ...] | None
Situation = Mapping[str, Value]


class Range(Record):
    """A range of numbers; every bound that is given must hold."""

    above: float | None = None
    below: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Range":
        if not self.model_fields_set:
            raise ValueError("a range needs above, below, at_least or at_most")
        return self

    def holds(self, number: float) -> bool:
        return (
            (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
            and (self.at_least is None or number >= self.at_least)
            and (self.at_most is None or number <= self.at_most)
        )


Test = bool | str | tuple[str, ...] | Range
When = dict[str, Test]

STARTS = ("none", "general", "in_domain")
SIZES = ("small", "big")

# What a condition may ask: words have the listed values, numbers take ranges, flags take true and false.
WORDS: dict[str, tuple[str, ...]] = {
    "goal": get_args(Goal),
    "conditioning": get_args(Conditioning),
    "tier": get_args(Tier),
    "device": ("cpu", "cuda"),
    "data": SIZES,
    "compute": SIZES,
    "pretrained": STARTS,
    "start": STARTS,
    "mode": (*get_args(Mode), UNCHANGED, COMBINE),
    "delivery": get_args(Delivery),
    "likelihood_kind": ("exact", "bound", "none"),
    "sequential": ("none", "pixel", "code", "token"),
    "base_terms": ("none", *get_args(Terms)),
    "use": ("none", *get_args(Use)),
}
NUMBERS = (
    "items",
    "side",
    "latency_ms",
    "classes",
    "rare_classes",
    "duplicates_percent",
    "minutes",
    "usd",
    "gpu_hours",
    "batch",
    "step_ms",
    "serve_ms",
    "passes",
    "appetite",
    "side_max",
)
FLAGS = (
    "likelihood", "invertibility", "accepts_instability", "one_step_fits", "sequential_fits", "many_step_fits", "latency_fits",
    "builds_on", "below_appetite", "beyond_side", "goal_met", "goal_never", "forced", "wide", "latent",
    "distilled", "few_steps", "too_few_items", "stepwise", "invertible", "made_here",
)  # fmt: skip
NAMES = ("modality", "family", "pretrained_family", "builds_on_family")  # words whose values are the tables' own (names_in)
OPEN = (
    "variant",
    "pretrained_variant",
    "forced_to",
    "would_choose",
    "items_lacking",
    "rare_class_names",
    "base_licence",
)  # free words
ATTRIBUTES = (*NAMES, *WORDS, *NUMBERS, *FLAGS, *OPEN)


def names_in(*, families: tuple[str, ...], modalities: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The values of the NAMES."""
    given = ("none", *families)
    return {"modality": modalities, "family": families, "pretrained_family": given, "builds_on_family": given}


def matches(when: When, situation: Situation) -> bool:
    """Whether every attribute that `when` names holds in the situation."""
    return all(_holds(test, situation.get(attribute)) for attribute, test in when.items())


def _holds(test: Test, value: Value) -> bool:
    if isinstance(test, Range):
        return isinstance(value, int | float) and not isinstance(value, bool) and test.holds(value)
    allowed = test if isinstance(test, tuple) else (test,)
    return any(given in allowed for given in (value if isinstance(value, tuple) else (value,)))


def complaint(when: When, names: Mapping[str, tuple[str, ...]]) -> str | None:
    """What is wrong with a condition, in words, or None. `names`: those that the tables know (names_in)."""
    known = {**WORDS, **names}
    for attribute, test in when.items():
        if attribute not in ATTRIBUTES:
            return f"{attribute!r} is no attribute; allowed: {', '.join(ATTRIBUTES)}"
        if attribute in NUMBERS and not isinstance(test, Range):
            return f"{attribute} takes a range such as {{below: 10}}"
        if attribute in FLAGS and not isinstance(test, bool):
            return f"{attribute} takes true or false"
        if attribute in known:
            asked = test if isinstance(test, tuple) else (test,)
            wrong = [word for word in asked if word not in known[attribute]]
            if wrong:
                return f"{attribute} cannot be {wrong[0]!r}; allowed: {', '.join(known[attribute])}"
    return None
