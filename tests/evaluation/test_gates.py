"""Verdicts, first on made-up scorecards, then on a candidate beside a champion."""

import itertools

import pytest

from components.core.errors import BriefError, RunError
from components.core.records import Metric, Scorecard, ScoringProtocol
from components.evaluation.definitions import gates as found_gates
from components.evaluation.gates import gate, judge, overall, student_thresholds, thresholds
from components.evaluation.pair import Contender, score_pair

PROTOCOL = ScoringProtocol(
    extractor="genwright-classifier-v1",
    extractor_sha256="e" * 64,
    dataset_md5="d" * 32,
    reference_split="validation",
    reference_count=200,
    samples=1000,
    resizer="none",
    seed=0,
    bootstrap=200,
    level=0.95,
)
GOOD = {
    "distance": (0.02, 0.018, 0.022),
    "distance_floor": (0.001, 0.001, 0.001),
    "fd_noise_ratio": (0.1, 0.08, 0.12),
    "coverage": (0.9, 0.88, 0.92),
    "recall": (0.5, 0.45, 0.55),
    "duplicates": (0.0, 0.0, 0.004),
    "memorised": (0.01, 0.0, 0.02),
    "latency_p95_ms": (10.0, 9.0, 12.0),
}


def scorecard(protocol: ScoringProtocol = PROTOCOL, **metrics: tuple[float, float, float]) -> Scorecard:
    values = {name: Metric(value=v, low=low, high=high, n=1000) for name, (v, low, high) in (GOOD | metrics).items()}
    return Scorecard(subject="onnx:" + "a" * 64, protocol=protocol, metrics=values, device="cpu")


def verdict_of(report, name: str) -> str:
    return next(each.verdict for each in report.gates if each.gate == name)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.05, 0.01, 0.09), "pass"), ((0.08, 0.04, 0.12), "undecided"), ((0.3, 0.2, 0.4), "fail"), ((-0.3, -0.4, -0.2), "pass")],
)
def test_what_is_lost_since_the_champion_is_judged_beside_one_alone(interval, verdict) -> None:
    gates = {"coverage_lost_max": 0.1}
    report = gate(scorecard(distance_ratio=(1.0, 0.9, 1.1), coverage_lost=interval), champion=scorecard(), gates=gates)
    assert verdict_of(report, "coverage_lost_max") == verdict
    assert "coverage_lost_max" not in {each.gate for each in gate(scorecard(), champion=None, gates=gates).gates}


@pytest.mark.parametrize(
    ("metric", "interval", "verdict"),
    [
        ("duplicates", (0.01, 0.0, 0.05), "pass"),
        ("duplicates", (0.05, 0.04, 0.06), "undecided"),
        ("duplicates", (0.2, 0.1, 0.3), "fail"),
        ("duplicates", (0.06, 0.05, 0.07), "undecided"),
        ("coverage", (0.4, 0.3, 0.5), "pass"),
        ("coverage", (0.3, 0.2, 0.4), "undecided"),
        ("coverage", (0.2, 0.1, 0.29), "fail"),
    ],
)
def test_the_interval_decides(metric, interval, verdict) -> None:
    report = gate(scorecard(**{metric: interval}), champion=None)
    assert verdict_of(report, f"{metric}_{'min' if metric == 'coverage' else 'max'}") == verdict
    assert report.verdict == verdict


@pytest.mark.parametrize("verdicts", list(itertools.product(("pass", "fail", "undecided"), repeat=3)))
def test_one_fail_fails_and_nothing_undecided_passes(verdicts) -> None:
    found = overall(list(verdicts))
    assert (found == "fail") == ("fail" in verdicts)
    assert (found == "pass") == (set(verdicts) == {"pass"})


def test_each_gate_is_a_threshold_of_the_brief_and_null_turns_it_off() -> None:
    assert list(thresholds({})) == list(found_gates())
    assert {name: each.default for name, each in found_gates().items()} == thresholds({})
    report = gate(scorecard(), champion=None, gates=dict.fromkeys(found_gates()))
    assert (report.gates, report.verdict) == ((), "undecided")  # nothing proved is nothing passed
    one = gate(scorecard(memorised=(0.9, 0.8, 1.0)), champion=None, gates={"memorised_max": None})
    assert one.verdict == "pass"
    assert "memorised_max" not in {each.gate for each in one.gates}


def test_the_gates_their_order_and_their_defaults_are_those_of_the_decision_record() -> None:
    assert thresholds({}) == {
        "distance_ratio_max": 1.25,
        "heldout_ratio_max": 1.25,
        "fd_noise_ratio_max": 0.5,
        "heldout_noise_ratio_max": 0.5,
        "coverage_min": 0.3,
        "recall_min": 0.05,
        "coverage_lost_max": None,
        "recall_lost_max": None,
        "roughness_lost_max": 0.2,
        "class_ratio_min": 0.25,
        "duplicates_max": 0.05,
        "memorised_max": 0.03,
        "memorised_asked_max": 0.1,
        "text_excess_min": 0.01,
        "text_lost_max": 0.1,
        "latency_p95_ms_max": "serving",
    }
    assert thresholds({"latency_p95_ms_max": "serving"}) == thresholds({})
    assert list(thresholds({}))[:3] == ["distance_ratio_max", "heldout_ratio_max", "fd_noise_ratio_max"]


def test_a_student_is_held_to_its_teacher_unless_the_brief_says_how_far() -> None:
    given = {"coverage_lost_max": 0.3, "latency_p95_ms_max": 5, "duplicates_max": None}
    assert student_thresholds(given) == {
        "coverage_lost_max": 0.3, "recall_lost_max": 0.1, "latency_p95_ms_max": "serving", "duplicates_max": None
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"fid_max": 3},
            "brief: gates.fid_max: unknown key; allowed: distance_ratio_max, heldout_ratio_max, fd_noise_ratio_max,",
        ),
        ({"coverage_min": 2}, "brief: gates.coverage_min: Input should be less than or equal to 1 (given: 2)"),
        ({"distance_ratio_max": 0}, "brief: gates.distance_ratio_max: Input should be greater than 0 (given: 0)"),
        ({"distance_ratio_max": float("inf")}, "brief: gates.distance_ratio_max: Input should be a finite number"),
        ({"distance_ratio_max": True}, "brief: gates.distance_ratio_max: Input should be a valid number (given: True)"),
        ({"latency_p95_ms_max": float("inf")}, "brief: gates.latency_p95_ms_max"),
        ({"coverage_min": float("nan")}, "brief: gates.coverage_min: Input should be"),
        ({"distance_ratio_max": "serving"}, "brief: gates.distance_ratio_max: Input should be a valid number (given: 'serving')"),
        ({"coverage_min": [1]}, "brief: gates.coverage_min: Input should be a valid number (given: [1])"),
    ],
)
def test_a_gate_that_is_not_here_or_a_threshold_that_cannot_be_is_refused(given, line) -> None:
    with pytest.raises(BriefError) as caught:
        thresholds(given)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_first_release_is_judged_by_the_absolute_gates() -> None:
    report = gate(scorecard(), champion=None)
    assert "distance_ratio_max" not in {each.gate for each in report.gates}
    assert (report.verdict, report.champion) == ("pass", None)


def test_the_latency_limit_comes_from_the_gate_or_from_serving() -> None:
    assert "latency_p95_ms_max" not in {each.gate for each in gate(scorecard(), champion=None).gates}
    assert gate(scorecard(), champion=None, latency_ms=5).verdict == "fail"
    assert gate(scorecard(), champion=None, gates={"latency_p95_ms_max": 50}, latency_ms=5).verdict == "pass"
    off = {"latency_p95_ms_max": None}
    assert "latency_p95_ms_max" not in {each.gate for each in gate(scorecard(), champion=None, gates=off, latency_ms=5).gates}
    bare = scorecard().model_copy(update={"metrics": {k: m for k, m in scorecard().metrics.items() if k != "latency_p95_ms"}})
    with pytest.raises(RunError, match="the scorecard has no latency_p95_ms"):
        gate(bare, champion=None, latency_ms=5)


@pytest.mark.parametrize("field", list(ScoringProtocol.model_fields))
def test_scorecards_of_different_protocols_are_never_compared(field) -> None:
    value = getattr(PROTOCOL, field)
    other = PROTOCOL.model_copy(update={field: value + 1 if isinstance(value, (int, float)) else (value or "") + "x"})
    with pytest.raises(RunError, match=f"different protocols are not compared: {field} is"):
        gate(scorecard(distance_ratio=(1.0, 0.9, 1.1)), champion=scorecard(other))


def test_a_ratio_that_is_missing_or_of_another_champion_is_refused() -> None:
    with pytest.raises(RunError, match="not made beside each other"):
        gate(scorecard(), champion=scorecard())
    with pytest.raises(RunError, match="not made beside each other"):
        gate(scorecard(distance_ratio=(0.7, 0.6, 0.8)), champion=scorecard())
    report = gate(scorecard(distance_ratio=(1.0, 0.9, 1.1)), champion=scorecard(), champion_bundle="b" * 64)
    assert (report.verdict, report.champion) == ("pass", "b" * 64)


def test_a_ratio_on_unseen_features_is_of_this_champion_too() -> None:
    """A proof has both, and a scorecard of before, which has one, is of another protocol."""
    proof = PROTOCOL.model_copy(update={"heldout": "efficientnet-lite0-64", "heldout_sha256": "f" * 64})
    unseen = {"heldout_distance": (0.02, 0.018, 0.022), "heldout_floor": (0.001, 0.001, 0.001)}
    champion, ratio = scorecard(proof, **unseen), (1.0, 0.9, 1.1)
    report = gate(scorecard(proof, **unseen, distance_ratio=ratio, heldout_ratio=(1.0, 0.9, 1.3)), champion=champion)
    assert (verdict_of(report, "distance_ratio_max"), verdict_of(report, "heldout_ratio_max")) == ("pass", "undecided")
    assert report.verdict == "undecided"
    for wrong in ({}, {"heldout_ratio": (0.7, 0.6, 0.8)}):
        with pytest.raises(RunError, match="heldout_ratio is missing or of another champion"):
            gate(scorecard(proof, **unseen, distance_ratio=ratio, **wrong), champion=champion)
    with pytest.raises(RunError, match="different protocols are not compared: heldout is"):
        gate(scorecard(proof, **unseen, distance_ratio=ratio), champion=scorecard())


def test_a_verdict_says_what_was_measured_and_what_was_wanted_in_one_line() -> None:
    report = gate(scorecard(coverage=(0.3, 0.25, 0.35)), champion=None)
    text = next(each.text for each in report.gates if each.gate == "coverage_min")
    assert "0.3 [0.25, 0.35], at least 0.3 wanted" in text
    assert "more samples" in text
    assert "\n" not in text


@pytest.fixture(scope="module")
def beside(digits, extractor):
    def run(candidate, champion, **options):
        return score_pair(
            Contender(candidate),
            Contender(champion),
            **(
                {"dataset": digits.dataset, "train": digits.train, "reference": digits.validation, "extractor": extractor}
                | {"samples": 500, "margins": {"distance_ratio_max": 1.25}}
                | options
            ),
        )

    return run


def judged(pair) -> str:
    return verdict_of(gate(pair.candidate, champion=pair.champion), "distance_ratio_max")


def test_the_champion_itself_passes_at_the_first_look(beside, fitted) -> None:
    champion = fitted(4, seed=1)  # surely off the data already at 500 samples
    pair = beside(champion, champion)
    assert (pair.ratio.value, pair.ratio.low, pair.ratio.high) == pytest.approx((1, 1, 1), abs=1e-6)
    assert pair.candidate.protocol.samples == 500
    assert judged(pair) == "pass"


def test_a_retrained_equal_passes_after_doubling_the_samples(beside, fitted) -> None:
    pair = beside(fitted(2, seed=1, n=4000), fitted(2, seed=2, n=4000), samples=1000)
    assert judged(pair) == "pass"
    assert pair.candidate.protocol == pair.champion.protocol
    assert pair.candidate.protocol.samples in (1000, 2000, 4000)


def test_a_much_worse_candidate_fails_and_a_much_better_one_passes(beside, fitted) -> None:
    poor, good = fitted(1, seed=1), fitted(20, seed=2)
    assert judged(beside(poor, good)) == "fail"
    assert judged(beside(good, poor)) == "pass"


def test_looking_again_stops_at_the_last_look_and_only_while_undecided(beside, fitted) -> None:
    a, b = fitted(4, seed=1), fitted(8, seed=2)
    value = beside(a, b, margins=None).ratio.value
    assert beside(a, b, margins={"distance_ratio_max": value}, looks=2).candidate.protocol.samples == 1000
    assert beside(a, b, margins={"distance_ratio_max": 100.0}).candidate.protocol.samples == 500


def test_the_paired_interval_is_narrower_than_two_marginal_ones(beside, fitted) -> None:
    pair = beside(fitted(2, seed=1), fitted(2, seed=2), margins=None)
    ours, theirs = pair.candidate.metrics["distance"], pair.champion.metrics["distance"]
    assert pair.ratio.high - pair.ratio.low < 0.7 * (ours.high / theirs.low - ours.low / theirs.high)


def test_two_as_good_as_real_images_are_not_told_apart_by_their_noise(beside, digits, make_shelf) -> None:
    """The champion's distance counts as no smaller than what real images differ by among themselves."""
    a, b = (make_shelf(f"torch:{k}", digits.train.images[k::2]) for k in range(2))
    pair = beside(a, b, margins=None)
    ours, theirs = (each.metrics for each in (pair.candidate, pair.champion))
    expected = max(0.0, ours["distance"].value) / max(theirs["distance"].value, ours["distance_floor"].value)
    assert pair.ratio.value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("interval", "verdict", "says"),
    [
        ((1.0, 0.9, 1.2), "pass", "1.25 wanted"),
        ((1.1, 1.05, 1.2), "pass", "1.25 wanted"),  # surely worse, and by no more than is allowed
        ((1.2, 0.9, 1.4), "undecided", "more reference items would tell"),
        ((1.3, 1.1, 1.5), "fail", "surely beyond 1, and not shown to be within what is wanted"),
        ((1.6, 1.4, 1.8), "fail", "1.25 wanted"),
    ],
)
def test_what_is_surely_worse_and_not_shown_to_be_near_enough_fails(interval, verdict, says) -> None:
    ratio = found_gates()["distance_ratio_max"]
    value, low, high = interval
    told = judge(ratio, Metric(value=value, low=low, high=high, n=100), 1.25)
    assert (told.verdict, told.text.endswith(says)) == (verdict, True)


def test_a_margin_below_1_is_proof_of_progress() -> None:
    ratio = found_gates()["distance_ratio_max"]
    asked = {0.85: "pass", 0.95: "undecided", 0.97: "fail"}
    found = {value: judge(ratio, Metric(value=value, low=value - 0.06, high=value + 0.04, n=9), 0.9).verdict for value in asked}
    assert found == asked
