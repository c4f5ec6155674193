"""What `genwright doctor` and `genwright gc` say to people."""

import textwrap
from collections.abc import Iterator, Sequence

from components.operations.finding import Line
from components.operations.unused.free import Freed

WIDTH = 130


def findings_page(lines: Sequence[Line]) -> str:
    """A line a finding, its remedy below; the sum at the end."""
    return "\n".join(_findings(lines))


def _findings(lines: Sequence[Line]) -> Iterator[str]:
    wide = max(len(each.check) for each in lines)
    for each in lines:
        begin = f"{each.verdict:<4}  {each.check:<{wide}}  "
        yield from textwrap.wrap(each.what, WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin))
        if each.remedy:
            yield from textwrap.wrap(
                each.remedy, WIDTH, initial_indent=" " * len(begin) + "-> ", subsequent_indent=" " * len(begin)
            )
    counts = {verdict: sum(each.verdict == verdict for each in lines) for verdict in ("ok", "warn", "fail")}
    yield ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def freed_page(freed: Freed, *, older: str, done: bool) -> str:
    """How many of each kind, and how much room; what was left because it is being produced."""
    return "\n".join(_freed(freed, older, done))


def _freed(freed: Freed, older: str, done: bool) -> Iterator[str]:
    for kind, (count, size_bytes) in freed.room.items():
        yield f"{kind:<22} {count:>8,}  {size(size_bytes):>9}"
    if freed.busy:
        yield f"being produced, so left as it is: {', '.join(freed.busy)}"
    if not freed.room:
        yield f"nothing to free: what is older than {older} is needed"
    elif done:
        yield f"freed {size(freed.size_bytes)}"
    else:
        yield f"would free {size(freed.size_bytes)}, all older than {older}: genwright gc --yes frees it"


def size(size_bytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"
