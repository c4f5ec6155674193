"""Families are found, not listed: a file here that defines a class with a `card` is a family.

Cards are literals, so this module reads them from the source and `genwright plan` needs no torch.
"""

import importlib
from ast import ClassDef
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.brief import Delivery
from components.core.card import Card
from components.core.errors import NotBuilt
from components.core.literals import assigned, body_of, read

if TYPE_CHECKING:
    from components.core.family import Family

HERE = Path(__file__).parent


@cache
def cards() -> dict[tuple[str, str], tuple[Card, str, str]]:
    """Every family found: (family, variant) -> its card, its module and its class name."""
    found: dict[tuple[str, str], tuple[Card, str, str]] = {}
    for path in sorted(HERE.rglob("*.py")):
        module = ".".join((__name__, *path.relative_to(HERE).with_suffix("").parts))
        for node in body_of(path):
            if isinstance(node, ClassDef) and (given := assigned(node.body, "card")) is not None:
                card = read(given, {"Card": Card}, what="a card", path=path)
                if isinstance(card, Card):
                    found[card.family, card.variant] = (card, module, node.name)
    return found


def find_card(family: str, variant: str) -> Card:
    """The card of a family. Raises NotBuilt when no file here defines it.

    >>> find_card("vae", "gaussian").latent
    True
    """
    return _entry(family, variant)[0]


def maker(family: str, variant: str, delivery: Delivery) -> str:
    """The variant that trains what was decided: itself, or where few steps are wanted of many the one that distils it."""
    if delivery == "many_step":
        return variant
    return next(
        (card.variant for (name, _), (card, _, _) in cards().items() if name == family and card.distils == variant), variant
    )


def find(family: str, variant: str) -> "type[Family]":
    """The class of a family. Raises NotBuilt when no file here defines it."""
    _, module, name = _entry(family, variant)
    cls: type[Family] = getattr(importlib.import_module(module), name)
    return cls


def _entry(family: str, variant: str) -> tuple[Card, str, str]:
    try:
        return cards()[family, variant]
    except KeyError:
        built = ", ".join("/".join(key) for key in cards())
        raise NotBuilt(
            f"{family}/{variant} is not built yet",
            allowed=built,
            do="choose one of them with override: {family: ..., variant: ...}",
        ) from None
