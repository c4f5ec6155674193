"""`genwright schedule` where there is no server to ask."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from roads import Command

COMMANDS: dict[str, tuple[str, ...]] = {"of": ("briefs/digits.yaml",), "list": ("list",), "remove": ("remove", "digits")}


@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_server_one_line_says_what_to_do(name: str, cli: "Command") -> None:
    cli("schedule", *COMMANDS[name]).refused(2, "PREFECT_API_URL", "prefect server start")


def test_a_server_that_does_not_answer_is_one_line(cli: "Command") -> None:
    refused: Callable[..., str] = cli("schedule", "list", PREFECT_API_URL="http://127.0.0.1:9/api").refused
    refused(1, "PREFECT_API_URL: no Prefect server answers", "start it, or set another")
