"""What the bench of texts says of rows: that each line can be missed; and that no picture of what judges was learnt."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import texts
from benchmarks.text_judged import best_way, chance, judge, table
from benchmarks.text_pictures import write_picture
from benchmarks.text_road import STUDENT, TEACHER
from benchmarks.text_ways import NEAREST, WAYS

FOUND = {"edm": 0.15, "latent": 0.2, "cascade": 0.12, "unclip": 0.14}
RATES = {"graph": [60.0, 61.0, 62.0], "pipeline, 50 steps": [2.0, 2.0, 2.0], "pipeline, 20 steps": [5.0, 5.0, 5.0]}


def cell(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def line(r5: float, **more: Any) -> dict[str, Any]:
    values = {"text_r1": r5 / 4, "text_r5": r5, "text_r5_real": 0.25, "text_r5_shuffled": 0.0125}
    return {name: cell(value) for name, value in (values | {"fd": 9.0, "coverage": 0.4, "memorised": 0.1}).items()} | more


def told(*, found: dict[str, float] = FOUND, lost: float = 0.005, **changed: Any) -> dict[str, Any]:
    ways = {name: line(r5, steps=900, guidance=2.0) for name, r5 in found.items()}
    own = {"steps": 700, "student_steps": 400, "guidance": 2.0, "parity": 1e-6, "export_s": 60.0, "bytes": 5_000_000}
    road = {TEACHER: line(0.2), STUDENT: line(0.19, text_lost=cell(lost)), "told": own}
    timed = {"images_per_s": changed.pop("rates", RATES), "pipeline_differs": 1e-5}
    asked = {
        "seconds": 360.0,
        "jobs": 2,
        "minutes": changed.pop("minutes", 30.0),
        "made_s": {"judge of texts": 40.0},
        "captions": 400,
    }
    return {
        "machine": "2 CPU cores, load 1", "hardware": "one", "date": "2026-11-30",
        "asked": asked | {"items": {"learnt": 3000, "judged": 800, "of the judge": 5000}},
        "rows": ways | {NEAREST: line(0.3), "road": road, "timed": timed},
        "prompts": {"new": changed.pop("added", 3.0), "long": changed.pop("added_long", 4.0)},
    }  # fmt: skip


def missed(**changed: Any) -> list[str]:
    return [name for name, each in judge(told(**changed)).items() if not each["reached"]]


def test_figures_that_reach_all_are_said_to() -> None:
    assert best_way(told()) == "latent"
    assert chance(told()) == pytest.approx(0.0125)
    assert missed() == []


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        ({"found": FOUND | {"latent": 0.14, "edm": 0.13, "unclip": 0.13}}, ["judge's own"]),
        ({"found": dict.fromkeys(WAYS, 0.12)}, ["over chance", "judge's own"]),
        ({"lost": 0.011}, ["the student loses"]),
        ({"rates": RATES | {"pipeline, 50 steps": [7.0, 7.0, 7.0]}}, ["pipeline's in 50 steps"]),
        ({"added": 5.1}, ["a new prompt adds"]),
        ({"added_long": 5.1}, ["a new prompt of all the tokens"]),
        ({"minutes": 46.0}, ["minutes of this bench"]),
    ],
)
def test_figures_that_miss_are_said_to(changed: dict[str, Any], lines: list[str]) -> None:
    found = missed(**changed)
    assert len(found) == len(lines)
    assert all(any(part in name for name in found) for part in lines)


@pytest.mark.parametrize("name", [*WAYS, TEACHER, STUDENT])
def test_shuffled_captions_that_are_found_are_told(name: str) -> None:
    rows = told()
    (rows["rows"]["road"] if name in (TEACHER, STUDENT) else rows["rows"])[name]["text_r5_shuffled"] = cell(0.03)
    assert [line for line, each in judge(rows).items() if not each["reached"]] == [
        f"{name}: how far chance lies outside of the interval of shuffled captions"
    ]


def test_the_table_has_every_way_with_its_interval() -> None:
    rows = told()
    text = table(rows | {"reached": judge(rows)})
    assert (
        "| latent | 0.050 [0.040, 0.060] | 0.200 [0.190, 0.210] | 0.013 [0.003, 0.022] | 9.00 | 0.40 | 0.10 | 900 | 2 |" in text
    )
    assert "| the judge's own on real pictures |  | 0.250 [0.240, 0.260] |" in text
    assert "the student's graph 61.0 images a second, the pipeline, 50 steps 2.00, the pipeline, 20 steps 5.00" in text
    assert all(f"| {name} |" in text for name in (*WAYS, TEACHER, STUDENT, NEAREST))


def test_no_picture_of_a_caption_that_judges_is_learnt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In no style and tone, and none that looks like it or has its name."""
    rng = np.random.default_rng(0)
    plain = [f"{number:x}" for number in range(0x2600, 0x2600 + 100)]
    codes = [*plain, *(f"{code}-1f3fb" for code in plain[:20])]
    pictures = {
        style: {code: (rng.integers(0, 256, (4, 4, 3)).astype(np.uint8), "symbols") for code in codes}
        for style in ("twitter", "google")
    }
    order = sorted(plain, key=lambda code: texts.hashlib.sha256(code.encode()).digest())
    pictures["google"][order[-1]] = pictures["google"][order[0]]  # looks like a learnt one
    said = {code: (f"sign {code}", "sign") for code in codes} | {order[-2]: (f"sign {order[1]}",)}
    monkeypatch.setattr(texts, "read_captions", lambda _: said)
    monkeypatch.setattr(texts, "read_style", lambda path, style, **_: pictures[style])
    for aside in (False, True):
        found = texts.parts(tmp_path, aside=aside)
        judged, learnt, of_judge = (found[name] for name in ("judged", "learnt", "of the judge"))
        assert len(judged) == len({*judged.codes}) == (20 if aside else 18)
        assert not {*judged.codes} & {texts.untoned(code) for code in of_judge.codes}
        assert {*learnt.codes} < {*of_judge.codes}
        assert not any(texts.tone(code) for code in (*learnt.codes, *judged.codes))
    assert not {*found["judged"].codes} & {*texts.parts(tmp_path)["judged"].codes}, "rules are chosen on others"


def test_the_picture_has_a_line_a_caption(tmp_path: Path) -> None:
    from PIL import Image

    columns = {name: np.full((3, 8, 8, 3), (9, 200, 9), np.uint8) for name in ("real, twitter", "latent")}
    write_picture(
        {"captions": ["a cat", "a very long caption that must be folded into several lines", "b"], "pictures": columns},
        tmp_path / "a.png",
    )
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size[1] > 3 * 16
        assert (np.asarray(sheet) == (9, 200, 9)).all(2).sum() == 2 * 3 * 16 * 16
