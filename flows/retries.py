"""Which failures a retry can help against."""

from collections.abc import Callable
from typing import Any

from components.core.errors import GenwrightError


def passing(*kinds: type[GenwrightError]) -> Callable[[Any, Any, Any], bool]:
    """A Prefect retry condition: retry on these errors, never on wrong input or a defect."""

    def condition(_task: Any, _run: Any, state: Any) -> bool:
        return isinstance(state.result(raise_on_failure=False), kinds)

    return condition
