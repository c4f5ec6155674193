"""What `genwright doctor` and `genwright gc` say to people."""

import textwrap
from collections.abc import Iterator, Sequence

from components.operations.finding import Line

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
