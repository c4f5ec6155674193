"""From a brief's `conditioning` to what items are asked for by: the one place that knows which of them can be built."""

from collections.abc import Callable, Sequence

from components.core.brief import Conditioning
from components.core.errors import NotBuilt
from components.core.records import ClassCondition, Condition

_MAKERS: dict[Conditioning, Callable[[Sequence[str]], Condition | None]] = {  # in the order in which they are advised
    "none": lambda classes: None,
    "class": lambda classes: ClassCondition(classes=tuple(classes)),
}
BUILT: tuple[Conditioning, ...] = tuple(_MAKERS)


def condition_of(conditioning: Conditioning, *, classes: Sequence[str]) -> Condition | None:
    """What the items of data with these classes are asked for by.

    Raises NotBuilt for a conditioning whose data cannot be prepared here yet.

    >>> condition_of("class", classes=["cat", "dog"]).classes
    ('cat', 'dog')
    """
    if conditioning not in BUILT:
        raise NotBuilt(not_built(conditioning), allowed=", ".join(BUILT), do="write conditioning: none")
    return _MAKERS[conditioning](classes)


def not_built(conditioning: Conditioning) -> str:
    """What is missing, for a person."""
    return f"conditioning: {conditioning} is not built yet: prepared data hold no such conditions"
