"""A label as sets write it, as the name of a class: a whole number, a name, or a vector of one 1 and else 0."""

from typing import Any

ALLOWED = "a whole number or a name"
GO_ON = "--classes none goes on without labels"


def label_of(given: Any) -> str | None:
    """The class that one label names, None for what is no label.

    A float that is whole is its number (1.0 is 1); a vector with one 1 is the number of its place.

    >>> label_of(3), label_of("cat"), label_of(1.0), label_of([0, 0, 1])
    ('3', 'cat', '1', '2')
    >>> label_of(0.5), label_of(True), label_of([1, 1]), label_of(""), label_of(None)
    (None, None, None, None, None)
    """
    if isinstance(given, list):
        return str(given.index(1)) if len(given) > 1 and all(_is_bit(each) for each in given) and sum(given) == 1 else None
    if isinstance(given, float):
        return str(int(given)) if given.is_integer() else None
    return str(given) if isinstance(given, int | str) and not isinstance(given, bool) and given != "" else None


def _is_bit(given: Any) -> bool:
    return isinstance(given, int | float) and given in (0, 1)
