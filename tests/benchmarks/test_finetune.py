"""What the bench of fine-tuning says of rows: which rate of a peer counts, and that each line can be missed."""

from typing import Any

import pytest

from benchmarks.finetune_judged import OURS, PEERS, REAL, WEIGHED, best_rate, by_way, judge, next_rates, table

NEW = {"base": 6.0, "scratch": 8.0, "finetune": 3.0, "lora": 3.1, "finetune prior": 3.3, "lora prior": 3.4, "student": 3.2}
OLD = {"base": 3.2, "scratch": 9.0, "finetune": 4.1, "lora": 3.4, "finetune prior": 3.6, "lora prior": 3.3, "student": 5.0}
ROSE = {"scratch": 0.0, "finetune": 0.09, "lora": 0.02, "finetune prior": 0.04, "lora prior": 0.01}
AT_RATE = {1e-3: 3.6, 3e-3: 3.2, 6e-3: 3.5}


def line(how: str, seed: int, new: float, old: float, **more: Any) -> dict[str, Any]:
    def domain(fd: float) -> dict[str, Any]:
        values = {"fd": fd, "coverage": 1 - fd / 10, "memorised": 0.0}
        return {name: {"value": value, "low": value - 0.01, "high": value + 0.01} for name, value in values.items()}

    return {"how": how, "seed": seed, "of new": domain(new), "of base": domain(old)} | more


def rows(*, new: dict[str, float] = NEW, old: dict[str, float] = OLD, rose: dict[str, float] = ROSE) -> list[dict[str, Any]]:
    made = [line(how, 0, 2.0, away) for how, away in zip(REAL, (3.0, 0.8, 4.0), strict=True)]
    for seed in (4, 3):
        made.append(line("base", seed, new["base"], old["base"]))
        for how in OURS:
            told = {"trainable": 50 if "lora" in how else 1000, "kept": 9, "tuning": [[0, 0, 0, 0.3], [9, 0, 0, 0.3 + rose[how]]]}
            made.append(line(how, seed, new[how] + seed / 100, old[how], **told))
        made += [line(how, seed, 4.0, 3.3) for how in WEIGHED]
        made += [line(how, seed, fd + seed / 100, 4.0, rate=rate) for how in PEERS for rate, fd in AT_RATE.items()]
    ratio = {"value": new["student"] / new["finetune"], "low": 0.9, "high": 1.3}
    speeds = {"graph": [11.0, 12.0], "pipeline": [1.0, 1.0]}
    return [
        *made,
        line("student", 3, new["student"], old["student"], images_per_s=speeds, parity=1e-6, **{"distance over teacher": ratio}),
    ]


def missed(**changed: dict[str, float]) -> list[str]:
    return [name for name, each in judge(rows(**changed)).items() if not each["reached"]]


def test_rates_are_tried_until_the_best_lies_between_two_that_are_worse() -> None:
    def tried(*rates: float, best: float) -> list[dict[str, Any]]:
        return [line("peer lora", 3, 3.0 + abs(rate - best), 4.0, rate=rate) for rate in rates]

    assert next_rates([]) == [1e-3, 3e-3]
    assert next_rates(tried(1e-3, 3e-3, best=3e-3)) == [6e-3]
    assert next_rates(tried(1e-3, 3e-3, best=1e-3)) == [3e-4]
    assert next_rates(tried(1e-3, 3e-3, 6e-3, best=6e-3)) == [1.2e-2]
    assert next_rates(tried(1e-3, 3e-3, 6e-3, best=3e-3)) == next_rates(tried(3e-3, 6e-3, 1.2e-2, best=1.2e-2)) == []


def test_a_peer_counts_at_its_best_rate_with_the_seeds_in_order() -> None:
    of = by_way(rows())
    assert {how: best_rate(of[how]) for how in PEERS} == dict.fromkeys(PEERS, 3e-3)
    assert [each["seed"] for each in of["peer lora"]] == [each["seed"] for each in of["lora"]] == [3, 4]


def test_figures_that_reach_all_are_said_to() -> None:
    assert missed() == []


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        ({"new": NEW | {"finetune": 8.1, "lora": 8.1}}, ["nearer", "covers", "behind", "gain over"]),
        ({"new": NEW | {"lora": 3.5}}, ["lora surely behind its peer", "lora surely not behind it", "gain over the base"]),
        ({"new": NEW | {"student": 4.0}}, ["distance of the student"]),
        ({"old": OLD | {"lora": 3.9}}, ["forgets, by FD-local"]),
        ({"old": OLD | {"finetune": 3.1}}, ["forgets, by FD-local"]),  # nothing is forgotten, so there is no share
        ({"rose": ROSE | {"lora": 0.05}}, ["by the loss on what the base drew"]),
        ({"rose": ROSE | {"finetune prior": 0.1}}, ["finetune: the loss that is forgotten with prior"]),
    ],
)
def test_figures_that_miss_are_said_to(changed: dict[str, dict[str, float]], lines: list[str]) -> None:
    found = missed(**changed)
    assert all(any(part in name for name in found) for part in lines)
    assert all(any(part in name for part in lines) for name in found)


def test_seeds_that_disagree_tell_neither_behind_nor_not() -> None:
    found = rows()
    for each, by in zip([each for each in found if each["how"] == "lora"], (0.5, -0.5), strict=True):
        each["of new"]["fd"]["value"] += by
    assert [name.split(":")[0] for name, each in judge(found).items() if not each["reached"]] == ["lora surely not behind it"]


def test_the_best_rate_at_an_end_is_no_bracket() -> None:
    found = [each for each in rows() if each.get("rate") != 6e-3]
    assert [name.split(":")[0] for name, each in judge(found).items() if not each["reached"]] == [
        f"the {how}'s rate" for how in PEERS
    ]


def test_the_table_says_how_much_of_what_is_forgotten_is_style() -> None:
    found = rows()
    told = {"machine": "2 CPU cores, load 1", "hardware": "one", "date": "2026-11-30", "rows": found, "reached": judge(found)}
    text = table(told | {"asked": {"items": 9600, "samples": 640, "prior": 0.25, "jobs": 1, "minutes": 70.0}})
    assert "the styles are 2.20 apart" in text
    assert "perfect pictures of it would be told -0.20" in text
    assert "| finetune | 2.96 ± 0.01 | 0.90 ± 0.00 | 0.0900 ± 0.0000 |" in text
    assert "| peer lora | 0.003, compared | 3.235" in text
