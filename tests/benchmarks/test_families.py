"""What the bench says of rows: which count, and who is ahead."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.families import comparisons, read

ROW = {"data": "digits", "seed": 0, "seconds": 60.0, "threads": 1, "device": "cpu", "hardware": "one", "date": "2026-11-22"}


def line(model: str, *, seed: int = 0, half: float = 0.1, **values: float) -> dict[str, Any]:
    metrics = {name: {"value": value, "low": value - half, "high": value + half} for name, value in values.items()}
    return ROW | {"model": model, "seed": seed, "metrics": metrics}


def told(*lines: dict[str, Any]) -> list[str]:
    """The cells of the one comparison, from FD-local on."""
    return [cell.strip() for cell in [*comparisons(lines)][2].split("|")[3:-1]]


@pytest.mark.parametrize(("ours", "theirs", "verdict"), [(1.0, 2.0, "ahead"), (2.0, 1.0, "behind"), (1.0, 1.15, "even")])
def test_a_verdict_needs_intervals_that_do_not_overlap(ours: float, theirs: float, verdict: str) -> None:
    cells = told(line("flow/glow", fd=ours, coverage=-ours), line("normflows/glow", fd=theirs, coverage=-theirs))
    assert [cell.split(":")[0] for cell in cells[:2]] == [verdict, verdict]


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        ({"hardware": "another"}, "not measured on one machine"),
        ({"hardware": "x86_64"}, "ahead"),
        ({"hardware": "x86_64", "date": "2026-11-30"}, "not measured on one machine"),
    ],
)
def test_rows_of_two_machines_are_not_compared(other: dict[str, str], verdict: str) -> None:
    assert told(line("flow/glow", fd=1.0), line("normflows/glow", fd=2.0) | other)[0].split(":")[0] == verdict


def test_seeds_that_lie_apart_widen_the_interval() -> None:
    ours = [line("flow/glow", seed=seed, fd=fd) for seed, fd in enumerate((1.0, 3.0))]
    assert told(*ours, line("normflows/glow", fd=2.5))[0].startswith("even: 2.000 ± 1.000")


def test_a_value_that_is_not_finite_is_said() -> None:
    peers = [line("normflows/glow", seed=seed, fd=fd) for seed, fd in enumerate((5.0, float("nan")))]
    assert told(line("flow/glow", fd=1.0), *peers)[0] == "the peer's is not there, or not finite"


def test_a_row_that_was_repeated_counts_once_and_a_failure_gives_way(tmp_path: Path) -> None:
    lines = [line("flow/glow", fd=1.0), line("flow/glow", fd=2.0), ROW | {"model": "flow/glow", "failure": "killed"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert [each["metrics"]["fd"]["value"] for each in read(path)] == [2.0]
