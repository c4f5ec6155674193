"""What a failed gate advises depends on its cause."""

from typing import Any

import pytest

from components.core.records import GateReport, GateVerdict, Metric, Verdict
from components.evaluation.advice import DISTIL, PRODUCE, Training, advice, causes
from components.evaluation.definitions import gates as found_gates
from components.families import cards

DONE = Training(reference=359)  # it had stopped improving


def verdict(
    gate: str, verdict: Verdict = "fail", *, value: float = 0.2, reach: float = 0.05, threshold: float = 0.3
) -> GateVerdict:
    return GateVerdict(
        gate=gate, verdict=verdict, value=value, low=value - reach, high=value + reach, threshold=threshold, text="a test"
    )  # fmt: skip


def report(*gates: GateVerdict) -> GateReport:
    return GateReport(verdict="fail", gates=gates, champion=None)


def kinds(*gates: GateVerdict, **known: Any) -> list[str]:
    return [cause.kind for cause in causes(report(*gates), Training(**{**vars(DONE), **known}))]


@pytest.mark.parametrize(
    ("gates", "known", "wanted"),
    [
        (["duplicates_max"], {"duplicates": 0.995}, ["duplicates"]),
        (["duplicates_max", "memorised_max", "recall_min"], {"duplicates": 0.2}, ["duplicates"]),
        (["duplicates_max", "fd_noise_ratio_max"], {"duplicates": 0.2, "improving": True}, ["duplicates", "short"]),
        (["duplicates_max"], {"duplicates": 0.0}, ["other"]),
        (["coverage_min"], {"improving": True}, ["short"]),
        (["coverage_min"], {"collapse": "few classes", "improving": True}, ["collapse"]),
        (["fd_noise_ratio_max"], {"blurry": True}, ["blurry"]),
        (["latency_p95_ms_max"], {"improving": True}, ["latency"]),
        (["memorised_max"], {}, ["memorised"]),
        (["distance_ratio_max"], {}, ["champion"]),
        (["distance_ratio_max"], {"improving": True}, ["short"]),
        (["coverage_min"], {}, ["other"]),
        ([], {}, []),
    ],
)
def test_the_cause_is_told(gates: list[str], known: dict[str, Any], wanted: list[str]) -> None:
    assert kinds(*(verdict(gate) for gate in gates), **known) == wanted


@pytest.mark.parametrize(
    ("precision", "agreement", "wanted"),
    [(0.9, 0.95, "none of the known causes fits"), (0.6, 0.54, "of another class"), (0.3, 0.54, "too few samples look like")],
)
def test_of_no_known_cause_the_lowest_share_is_told_where_one_is_low(precision: float, agreement: float, wanted: str) -> None:
    shares = {"precision": precision, "label_agreement": agreement}
    metrics = {name: Metric(value=value, low=value, high=value, n=100) for name, value in shares.items()}
    (cause,) = causes(report(verdict("coverage_min")), DONE, metrics=metrics)
    assert cause.kind == "other"
    assert wanted in cause.seen


def figures(*, contrast: float = 1.0, roughness: float = 1.0, reach: float = 0.02) -> dict[str, Metric]:
    values = {"contrast": contrast, "roughness": roughness}
    return {name: Metric(value=value, low=value - reach, high=value + reach, n=100) for name, value in values.items()}


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        ({"roughness": 1.2}, ["noisy"]),
        ({"roughness": 1.11}, ["champion"]),  # its interval holds what is not noisy
        ({"contrast": 0.7}, ["contrast"]),
        ({"contrast": 1.4}, ["contrast"]),
        ({"contrast": 0.7, "roughness": 1.2}, ["noisy", "contrast"]),
        ({"contrast": 0.6, "roughness": 0.7}, ["blurry"]),  # blur takes contrast, too
        ({"contrast": 0.92, "roughness": 0.94}, ["champion"]),
    ],
)
def test_noise_contrast_and_blur_are_told_from_the_figures(seen: dict[str, float], wanted: list[str]) -> None:
    metrics = figures(**seen)
    assert [cause.kind for cause in causes(report(verdict("distance_ratio_max")), DONE, metrics=metrics)] == wanted
    assert "noisy" not in [cause.kind for cause in causes(report(verdict("latency_p95_ms_max")), DONE, metrics=metrics)]


def test_a_family_that_blurs_is_told_once() -> None:
    known = Training(reference=359, blurry=True)
    (cause,) = causes(report(verdict("distance_ratio_max")), known, metrics=figures(roughness=0.6))
    assert cause.seen == "samples are blurred (0.60 times as rough as the data)"


def test_an_undecided_gate_says_how_many_items_would_tell() -> None:
    """The interval reaches twice as far as the threshold: four times the items."""
    straddling = verdict("coverage_min", "undecided", value=0.25, reach=0.1, threshold=0.3)
    (cause,) = causes(report(straddling), Training(improving=True, reference=359))
    assert cause.kind == "undecided"
    assert "359 held-out items are too few to decide coverage_min; about 1,436 would" in cause.seen
    at = verdict("coverage_min", "undecided", value=0.3, threshold=0.3)
    assert "lies at its threshold" in causes(report(at), DONE)[0].seen


def test_undecided_is_never_advised_to_train_longer() -> None:
    straddling = verdict("coverage_min", "undecided", value=0.25, reach=0.1, threshold=0.3)
    assert "train longer" not in advice(report(straddling), Training(improving=True, reference=32))


@pytest.mark.parametrize("gate", list(found_gates()))
@pytest.mark.parametrize("remedies", [PRODUCE, DISTIL])
def test_every_gate_has_advice_in_one_line(gate: str, remedies: Any) -> None:
    for known in (DONE, Training(improving=True, collapse="x", duplicates=0.5, blurry=True)):
        line = advice(report(verdict(gate)), known, remedies=remedies)
        assert line
        assert "\n" not in line


@pytest.mark.parametrize("remedies", [PRODUCE, DISTIL])
def test_no_advice_names_a_family(remedies: dict[str, str]) -> None:
    """Which ones there are is known by their files alone."""
    words = " ".join(remedies.values()).split()
    assert not {family for family, _ in cards()} & {word.strip(",.:") for word in words}


def test_students_are_advised_in_the_options_of_distil() -> None:
    line = advice(report(verdict("coverage_lost_max")), Training(improving=True), remedies=DISTIL)
    assert "--minutes" in line
    assert "compute" not in line


def test_the_remedies_answer_the_same_causes() -> None:
    assert set(PRODUCE) == set(DISTIL)
