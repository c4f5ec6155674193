"""Facts and decisions for the tests of the policy."""

from collections.abc import Callable
from typing import Any

import pytest

from components.core.card import Card
from components.core.records import Decision, Facts, Pretrained
from components.policy.decide import decide

PLAIN: dict[str, Any] = {
    "modality": "image",
    "goal": "balanced",
    "conditioning": "none",
    "items": 20_000,
    "side": 32,
    "classes": 0,
    "tier": "small",
    "tier_because": "a test",
    "device": "cpu",
    "usd": None,
    "gpu_hours": None,
    "minutes": None,
    "latency_ms": None,
    "batch": 16,
}


def plain_facts(**changes: Any) -> Facts:
    """Facts of 20,000 images of 32 pixels on a small budget, but for the changes. `pretrained` may be 'gan, in domain'."""
    given = changes.get("pretrained")
    if isinstance(given, str):
        family, _, where = given.partition(", ")
        changes["pretrained"] = Pretrained(model="models:/base@champion", family=family, in_domain=where == "in domain")  # type: ignore[arg-type]
    return Facts(**{**PLAIN, **changes})


@pytest.fixture(scope="session")
def facts_of() -> Callable[..., Facts]:
    return plain_facts


@pytest.fixture(scope="session")
def cards() -> dict[tuple[str, str], Card]:
    """The cards of the families that are built."""
    from components.families import cards as found

    return {key: entry[0] for key, entry in found().items()}


@pytest.fixture(scope="session")
def plan(cards: dict[tuple[str, str], Card]) -> Callable[..., Decision]:
    """The decision on plain facts with changes; `override` is passed on."""

    def planned(*, override: Any = None, **changes: Any) -> Decision:
        return decide(plain_facts(**changes), cards=cards, override=override)

    return planned
