"""What the bench says of its rows: either wanted figure can be missed, and what the second gate adds is told."""

from typing import Any

from benchmarks.gamed import HONEST, KINDS, told_of
from benchmarks.gamed import table as table_of


def row(kind: str, verdict: str, **gates: str) -> dict[str, Any]:
    names = ("distance_ratio", "heldout_ratio", "heldout_noise_ratio", "coverage", "memorised", "duplicates", "roughness")
    shown = {name: [1.0, 0.9, 1.1] for name in names}
    known = {"distance_ratio_max": verdict, "heldout_ratio_max": verdict, "heldout_noise_ratio_max": "pass"} | gates
    return {
        "kind": kind,
        "strength": None if kind == "honest" else 1.0,
        "tuned": 0.5,
        "verdict": verdict,
        "gates": known,
        "samples": 2000,
    } | shown


def rows(*, passed: int = HONEST, refused: int = HONEST) -> list[dict[str, Any]]:
    honest = [row("honest", "pass" if at < passed else "undecided") for at in range(HONEST)]
    kinds = [kind for kind, strengths in KINDS.items() for _ in strengths]
    return honest + [row(kind, "fail" if at < refused else "pass") for at, kind in enumerate(kinds)]


def missed(**given: int) -> list[str]:
    return [name for name, each in told_of(rows(**given))["reached"].items() if not each["reached"]]


def test_one_honest_one_may_be_refused_and_no_gamed_one_may_pass() -> None:
    assert sum(map(len, KINDS.values())) == HONEST
    assert missed() == missed(passed=19) == []
    assert missed(passed=18) == ["honest: passed of 20"]
    assert missed(refused=19) == ["tuned on the gate's features and damaged: refused of 20"]


def test_what_the_second_gate_adds_is_told_and_each_row_is_shown() -> None:
    found = rows()
    found[-1] = row("class-dropping", "fail", distance_ratio_max="pass")
    told = {"rows": found, "wall_s": 60, "machine": "2 CPU cores, load 1", "hardware": "a CPU", "date": "2026-11-30"} | told_of(
        found
    )
    assert told["passed without the unseen features"] == {"gamed": 1, "honest": 20}
    page = table_of(told)
    assert "1 of the 20 tuned ones and 20 of the 20 honest ones would have passed" in page
    assert sum(line.startswith(tuple(f"| {kind} |" for kind in ("honest", *KINDS))) for line in page.splitlines()) == 40
