"""What the bench of the gate says of its rows: each line can be missed, and the table holds every row."""

from typing import Any

import numpy as np
import pytest

from benchmarks.gates import POOL, Drawn
from benchmarks.gates_judged import WANTED, judge_rows, table

MET = {1.1: (0.5, 0.1), 1.0: (0.96, 0.0), 1.25: (0.04, 0.5), 1.35: (0.0, 0.85), 1.6: (0.0, 1.0)}


def rows(**changed: tuple[float, float]) -> list[dict[str, Any]]:
    """Of one kind; `changed`: other shares of pass and fail, by the ratio in percent."""
    known = MET | {int(name[1:]) / 100: shares for name, shares in changed.items()}
    fixed = {
        "kind": "gaussians",
        "gates": "first",
        "trials": 200,
        "reference": 360,
        "samples": [2000, 4000, 8000],
        "wholly beyond the margin": 0.0,
    }
    return [
        fixed
        | {"ratio": ratio, "true": {"distance": ratio, "fd": ratio}, "pass": passed, "fail": failed}
        | {"undecided": 1 - passed - failed, "held": 0.95, "mean": ratio, "deviation": 0.1, "looks": 2.0}
        for ratio, (passed, failed) in known.items()
    ]


def missed(**changed: tuple[float, float]) -> list[str]:
    return [name for name, each in judge_rows(rows(**changed)).items() if not each["reached"]]


def test_every_wanted_share_is_judged_once() -> None:
    assert len(judge_rows(rows())) == sum(map(len, WANTED.values())) == 5
    assert missed() == []


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"r100": (0.94, 0.0)}, "gaussians, true ratio 1: share that passes"),
        ({"r100": (0.96, 0.02)}, "gaussians, true ratio 1: share that fails"),
        ({"r125": (0.06, 0.0)}, "gaussians, true ratio 1.25: share that passes"),
        ({"r135": (0.0, 0.79)}, "gaussians, true ratio 1.35: share that fails"),
        ({"r160": (0.0, 0.96)}, "gaussians, true ratio 1.6: share that fails"),
    ],
)
def test_each_line_can_be_missed(changed: dict[str, tuple[float, float]], name: str) -> None:
    assert missed(**changed) == [name]


def test_a_release_by_both_gates_is_judged_by_itself() -> None:
    both = [each | {"gates": "both", "pass": 0.9} for each in rows() if each["ratio"] == 1]
    reached = judge_rows(rows() + both)
    assert [name for name, each in reached.items() if not each["reached"]] == [
        "gaussians, both gates, true ratio 1: share that passes"
    ]


def test_items_are_drawn_with_replacement_and_nothing_is_shared() -> None:
    drawn, again, other = (Drawn.of(seed, share) for seed, share in ((1, 0.5), (1, 0.5), (2, 0.5)))
    np.testing.assert_array_equal(drawn.candidate, again.candidate)
    assert not np.array_equal(drawn.champion, other.champion)
    own = drawn.candidate % POOL
    for places in (own, drawn.champion):
        expected = POOL * (1 - (1 - 1 / POOL) ** len(places))
        assert len(np.unique(places)) == pytest.approx(expected, rel=0.02), "without replacement none would repeat"
    assert np.mean(own == drawn.champion) < 0.001
    assert np.mean(drawn.candidate >= POOL) == pytest.approx(0.5, abs=0.03)


def test_the_table_holds_every_row_and_says_what_was_missed() -> None:
    found = rows(r135=(0.0, 0.5))
    told = {
        "rows": found,
        "reached": judge_rows(found),
        "wall_s": 600,
        "jobs": 2,
        "machine": "2 CPU cores, load",
        "hardware": "x",
        "date": "d",
    }
    page = table(told)
    assert page.count("| gaussians |") == len(MET)
    assert "| gaussians, true ratio 1.35: share that fails | 0.500 | >= 0.8 | no |" in page
