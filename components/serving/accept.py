"""Which of two media types a client would rather have (RFC 9110, section 12.5.1)."""


def prefers(accept: str, one: str, *, over: str) -> bool:
    """Whether an Accept header asks for `one` more than for the type `over`, which it gets where it does not care."""
    return _wanted(accept, one) > _wanted(accept, over)


def _wanted(accept: str, media_type: str) -> tuple[float, int]:
    """The weight of the most specific range that covers the type, and how specific that is; nothing given covers all."""
    kind = media_type.partition("/")[0]
    ranges = {media_type: 2, f"{kind}/*": 1, "*/*": 0}
    best = (-1, 0.0)
    for each in (accept or "*/*").lower().split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        if name in ranges:
            best = max(best, (ranges[name], _weight(parameters)))
    specific, weight = best
    return (weight, specific) if weight > 0 else (0.0, 0)


def _weight(parameters: list[str]) -> float:
    """0 to 1; 1 where none is given, or none that can be read."""
    for each in parameters:
        name, _, value = each.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 1.0
    return 1.0
