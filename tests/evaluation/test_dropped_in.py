"""A metric and a gate dropped in as files are measured, judged, shown and accepted in a brief: nothing else is edited."""

import importlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from components.core.errors import BriefError, RunError
from components.evaluation import definitions, gates, metrics
from components.evaluation.advice import Training, advice
from components.evaluation.gates import gate, thresholds
from components.evaluation.page import write_page
from components.evaluation.pair import Contender, score_pair
from components.evaluation.score import score
from components.evaluation.timed import untimed
from components.pipeline.view import gate_table, scorecard_table

METRIC = '''"""How bright the samples are."""

from components.core.metrics import Gate, Words

WORDS = (Words("mean_level", "Mean level", "of all values", unit="levels of 255", better="lower", order=95),)
GATES = (Gate("mean_level_max", "mean_level", "max", default=200.0, takes="positive"),)


def compute(seen):
    return {"mean_level": seen.boot.mean(seen.items.reshape(len(seen.items), -1).mean(axis=1), stream="generated")}
'''
GATE = '''"""Precision and recall in one number."""

from components.core.metrics import Gate, Words
from components.core.records import Metric

WORDS = (Words("harmonic", "Harmonic mean of precision and recall", "both must be high", better="higher", share=True),)
GATES = (Gate("harmonic_min", "harmonic", "min", default=0.01, takes="share"),)


def value(candidate, champion):
    ends = {end: [getattr(candidate.metrics[name], end) for name in ("precision", "recall")] for end in ("value", "low", "high")}
    mean = {end: 2 * a * b / max(a + b, 1e-9) for end, (a, b) in ends.items()}
    return Metric(**mean, n=candidate.metrics["precision"].n)
'''


@pytest.fixture
def drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """Write a file as if it lay in metrics/ or gates/."""
    written: list[str] = []

    def write(package: str, name: str, text: str) -> None:
        folder = tmp_path / package
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        home = {"metrics": metrics, "gates": gates}[package]
        if str(folder) not in home.__path__:
            monkeypatch.setattr(home, "__path__", [*home.__path__, str(folder)])
        written.append(f"{home.__name__}.{name}")
        forget()

    def forget() -> None:
        for module in written:
            sys.modules.pop(module, None)
        importlib.invalidate_caches()
        definitions.forget()
        gates._model.cache_clear()

    yield write
    monkeypatch.undo()
    forget()


@pytest.fixture
def dropped(drop) -> None:
    drop("metrics", "mean_level", METRIC)
    drop("gates", "harmonic", GATE)


@pytest.fixture
def real(digits, extractor) -> dict[str, object]:
    return {"dataset": digits.dataset, "train": digits.train, "reference": digits.validation, "extractor": extractor}


def shown(table) -> str:
    out = io.StringIO()
    Console(file=out, width=160, color_system=None).print(table)
    return out.getvalue()


def test_it_is_measured_judged_and_shown_everywhere(dropped, real, digits, decision, fitted, tmp_path) -> None:
    sampler = fitted(8, seed=1)
    scorecard = score(sampler, samples=200, **real)
    metric = scorecard.metrics["mean_level"]
    assert metric.value == pytest.approx(sampler.images[:200].mean())
    assert (metric.better, metric.low < metric.value < metric.high) == ("lower", True)
    assert untimed(scorecard).metrics["mean_level"] == metric
    report = gate(scorecard, champion=None)
    verdicts = {each.gate: each for each in report.gates}
    assert verdicts["mean_level_max"].text.startswith("Mean level (levels of 255): ")
    assert (verdicts["mean_level_max"].verdict, verdicts["harmonic_min"].verdict) == ("pass", "pass")
    assert "Harmonic mean of precision and recall" in verdicts["harmonic_min"].text
    table = shown(scorecard_table(scorecard))
    assert (
        table.index("reconstruction" if "reconstruction" in table else "label" if "label" in table else "Rarest")
        < table.index("Mean level (levels of 255)")
        < table.index("Throughput")
    )
    assert all(name in shown(gate_table(report)) for name in ("mean_level_max", "harmonic_min"))
    page = tmp_path / "page.html"
    few = sampler.images[:12]
    write_page(
        page, model="digits", decision=decision, dataset=digits.dataset, scorecard=scorecard, report=report, samples=few,
        neighbours=(few, few),
    )  # fmt: skip
    text = page.read_text()
    assert all(part in text for part in ("mean_level_max", "Mean level (levels of 255)", "harmonic_min", "both must be high"))


def test_its_gate_is_set_turned_off_and_refused_by_name_in_a_brief(dropped, real, fitted) -> None:
    scorecard = score(fitted(8, seed=1), samples=200, **real)
    strict = {each.gate: each.verdict for each in gate(scorecard, champion=None, gates={"mean_level_max": 1}).gates}
    assert strict["mean_level_max"] == "fail"
    off = {each.gate for each in gate(scorecard, champion=None, gates={"mean_level_max": None, "harmonic_min": None}).gates}
    assert not {"mean_level_max", "harmonic_min"} & off
    with pytest.raises(
        BriefError, match=r"brief: gates.mean_level_min: unknown key; allowed: distance_ratio_max, .*mean_level_max"
    ):
        thresholds({"mean_level_min": 1})
    with pytest.raises(BriefError, match=r"brief: gates.mean_level_max: Input should be greater than 0 \(given: -1\)"):
        thresholds({"mean_level_max": -1})
    report = gate(scorecard, champion=None, gates={"mean_level_max": 1})
    assert "override.config" in advice(report, Training())


def test_it_is_measured_of_candidate_and_champion(dropped, real, fitted) -> None:
    pair = score_pair(Contender(fitted(8, seed=1)), Contender(fitted(2, seed=2)), samples=200, **real)
    assert {"mean_level"} <= set(pair.candidate.metrics) & set(pair.champion.metrics)


def test_a_metric_that_does_not_apply_returns_nothing(drop, real, fitted) -> None:
    """Where its gate says so it is left out then; else what was to be proved was not."""
    silent = METRIC.split("def compute", maxsplit=1)[0] + "def compute(seen):\n    return {}\n"
    drop("metrics", "mean_level", silent)
    scorecard = score(fitted(8, seed=1), samples=200, **real)
    assert "mean_level" not in scorecard.metrics
    with pytest.raises(RunError, match=r"gates\.mean_level_max: the scorecard has no mean_level"):
        gate(scorecard, champion=None)
    drop("metrics", "mean_level", silent.replace('takes="positive"', 'takes="positive", optional=True'))
    assert "mean_level_max" not in {each.gate for each in gate(scorecard, champion=None).gates}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("value = 1\n", r"odd.py: defines no WORDS = \(Words\(...\),\)"),
        ("WORDS = (Words(NAME, 'a', 'b'),)\n", "odd.py:1: what WORDS holds must be a literal, readable without running the file"),
        ("WORDS = (Words('fd', 'a', 'b'),)\n", "fd is defined twice: in components.evaluation.metrics.fd and in .*odd"),
        (
            "WORDS = (Words('odd', 'a', 'b', colour='red'),)\n",
            "odd.py:1: what WORDS holds: .* unexpected keyword argument 'colour'",
        ),
        (
            "WORDS = (Words('odd', 'a', 'b'),)\nGATES = (Gate('odd_max', 'even', 'max', default=1.0),)\n",
            "its gate odd_max is on 'even', which no file defines",
        ),
    ],
)
def test_a_file_that_defines_nothing_right_is_named(drop, text: str, line: str) -> None:
    drop("metrics", "odd", text)
    with pytest.raises(TypeError, match=line):
        definitions.gates()


def test_what_a_metric_has_no_words_for_is_refused(drop, real, fitted) -> None:
    drop("metrics", "mean_level", METRIC.replace('return {"mean_level"', 'return {"level"'))
    with pytest.raises(TypeError, match="measures 'level', for which its WORDS have none"):
        score(fitted(8, seed=1), samples=200, **real)
