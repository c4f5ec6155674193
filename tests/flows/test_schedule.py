"""`genwright schedule` where there is no server to ask."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from roads import Command

ROOT = Path(__file__).parents[2]
COMMANDS: dict[str, tuple[str, ...]] = {"of": ("briefs/digits.yaml",), "list": ("list",), "remove": ("remove", "digits")}


@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_server_one_line_says_what_to_do(name: str, cli: "Command") -> None:
    cli("schedule", *COMMANDS[name]).refused(2, "PREFECT_API_URL", "prefect server start")


def test_a_server_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    """In a process of its own: where Prefect was imported before, it goes on with the settings of then."""
    told = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:9/api", "GENWRIGHT_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "flows", "schedule", "list"]
    ran = subprocess.run(command, env=told, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("genwright: PREFECT_API_URL: no Prefect server answers")
    assert ran.stderr.endswith("start it, or set another\n")
