"""Tables for people at the width of a plain terminal: no heading is cut, every metric has the one name and id of its table."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from components.core.records import LedgerEntry, Metric, Release, Scorecard, ScoringProtocol
from components.evaluation.definitions import words
from components.evaluation.gates import gate
from components.pipeline.distil.curve import MEASURED, Curve, StudentResult
from components.pipeline.view import curve_table, gate_table, history_table, scorecard_table

METRIC = Metric(value=1234.5, low=0.012345, high=2345.6, n=20_000)
PROTOCOL = ScoringProtocol(
    extractor="e", extractor_sha256="e", dataset_md5="d", reference_split="v", reference_count=359, samples=2000, resizer="none",
    seed=0, bootstrap=200, level=0.95,
)  # fmt: skip
CARD = Scorecard(subject="onnx:a", protocol=PROTOCOL, metrics=dict.fromkeys(words(), METRIC), device="cpu")


def shown(table: Any, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table)
    assert max(map(len, out.getvalue().splitlines())) <= width
    assert "…" not in out.getvalue()
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_every_metric_is_shown_with_its_name_and_id(width: int) -> None:
    lines = " ".join(shown(scorecard_table(CARD), width).split())
    assert [part for word in words().values() for part in (*word.name.split(), word.id) if part not in lines] == []


@pytest.mark.parametrize("width", [80, 120])
def test_gates_are_shown_in_full(width: int) -> None:
    report = gate(CARD, champion=None, latency_ms=5)
    lines = shown(gate_table(report), width)
    assert all(each.gate in lines for each in report.gates)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_curve_has_whole_headings_and_verdicts(width: int) -> None:
    tried = StudentResult(
        variant="ect", steps=4, width=64, precision="fp32", size_mb=12.5, train_s=1.0, verdict="undecided", refused_for=(),
        run_key="k", export_key="k", train_key="k", **dict.fromkeys(MEASURED, METRIC),
    )  # fmt: skip
    curve = Curve(
        teacher=Release(model="digits", version=3, bundle_sha256="b", run_id="r"), latency_ms=20.0, device="cpu",
        tried=(tried,), chosen=0,
        **{f"teacher_{name}": METRIC for name in ("fd", "latency_p95_ms", "throughput_per_s", "recall", "coverage")},
    )  # fmt: skip
    seen = set(re.findall(r"[^\s]+", shown(curve_table(curve), width)))
    assert {"student", "Latency", "Throughput", "FD-local", "champion's", "Coverage", "Recall", "gates", "undecided"} <= seen


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_ledger_has_whole_moments_bundles_and_names(width: int) -> None:
    entry = LedgerEntry(
        sequence=12, model="digits", action="rollback", from_version=11, to_version=10, from_bundle="a" * 64,
        to_bundle="0123456789ab" * 5, who="somebody@team.example", when="2026-11-29T22:53:11+00:00",
        why="by hand, as the last version is too dark",
    )  # fmt: skip
    lines = shown(history_table([entry]), width)
    assert {"#", "when", "what", "version", "bundle", "who", "why", "2026-11-29", "22:53:11"} <= {*lines.split()}
    assert {"rollback", "0123456789ab"} <= {*lines.split()}
