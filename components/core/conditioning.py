"""From a brief's `conditioning` to what items are asked for by: the one place that knows which of them can be built."""

from collections.abc import Callable, Sequence

from components.core.brief import Conditioning
from components.core.errors import NotBuilt
from components.core.records import ClassCondition, Condition, TextEncoder


def _by_class(classes: Sequence[str], encoder: TextEncoder | None, negative: bool) -> Condition:
    return ClassCondition(classes=tuple(classes))


def _by_text(classes: Sequence[str], encoder: TextEncoder | None, negative: bool) -> Condition:
    assert encoder is not None, "a text is asked through an encoder"
    return encoder.condition(negative=negative)


_MAKERS: dict[Conditioning, Callable[[Sequence[str], TextEncoder | None, bool], Condition | None]] = {  # as they are advised
    "none": lambda classes, encoder, negative: None,
    "class": _by_class,
    "text": _by_text,
}
BUILT: tuple[Conditioning, ...] = tuple(_MAKERS)


def condition_of(
    conditioning: Conditioning, *, classes: Sequence[str] = (), encoder: TextEncoder | None = None, negative: bool = False
) -> Condition | None:
    """What the items of data are asked for by: one of these classes, or a text by this encoder; `negative`: of a sampler that can
    be told what they shall be unlike.

    Raises NotBuilt for a conditioning whose data cannot be prepared here yet.

    >>> condition_of("class", classes=["cat", "dog"]).classes
    ('cat', 'dog')
    """
    if conditioning not in BUILT:
        raise NotBuilt(not_built(conditioning), allowed=", ".join(BUILT), do="write conditioning: none")
    return _MAKERS[conditioning](classes, encoder, negative)


def not_built(conditioning: Conditioning) -> str:
    """What is missing, for a person."""
    return f"conditioning: {conditioning} is not built yet: prepared data hold no such conditions"
