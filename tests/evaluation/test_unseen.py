"""Features that only a proof sees: what they are, who may ask for them, and what they refuse."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest

import components
from components.core.records import Metric
from components.evaluation.gates import gate
from components.evaluation.kernel import Distance, Kernel, Real
from components.evaluation.pair import Contender, look_again, score_pair
from components.evaluation.power import MARGIN, MEASURED, Spread, told_apart
from components.evaluation.samples import Drawn
from components.evaluation.score import score
from components.evaluation.unseen import HALVES, Unseen, UnseenSide, learnt_by

ROOT = Path(components.__file__).parent
ASK = {"evaluation/pair.py", "evaluation/score.py", "evaluation/yardstick.py", "pipeline/extractor.py"}


@pytest.fixture(scope="module")
def side(digits, unseen) -> UnseenSide:
    return UnseenSide.of(unseen, digits.train, digits.validation, seed=0)


def drawn(images) -> Drawn:
    return Drawn("torch:drawn", images, None, np.ones(1))


def test_nothing_but_a_proof_asks_for_them() -> None:
    """Training, readings, tuning, the choice of weights and the rungs of a bake-off are measured without."""
    imports, calls = set(), set()
    for path in ROOT.rglob("*.py"):
        tree, name = ast.parse(path.read_text()), path.relative_to(ROOT).as_posix()
        if any(isinstance(node, ast.ImportFrom) and node.module == "components.evaluation.unseen" for node in ast.walk(tree)):
            imports.add(name)
        if any(isinstance(node, ast.Name) and node.id == "load_unseen" for node in ast.walk(tree)):
            calls.add(name)
    assert imports == ASK
    assert calls == {"pipeline/proof.py"}
    body = ast.parse((ROOT / "pipeline/proof.py").read_text()).body
    asking = {each.name for each in body if isinstance(each, ast.FunctionDef) and "load_unseen" in ast.dump(each)}
    assert asking == {"_scored"}, "protocol_of is shared with bake-offs"


def test_no_held_out_item_is_judged_by_a_network_that_learnt_it(digits, side) -> None:
    learnt = [set(learnt_by(digits.validation, part).chosen.tolist()) for part in range(HALVES)]
    assert learnt[0].isdisjoint(learnt[1])
    assert learnt[0] | learnt[1] == set(range(len(digits.validation)))
    for part, real in enumerate(side.parts):
        own = np.array(sorted(learnt[1 - part]))
        np.testing.assert_array_equal(real.features_MD, side.unseen.networks[part](digits.validation.take(own)))


def test_a_distance_over_parts_is_their_mean_and_so_is_its_error() -> None:
    rng = np.random.default_rng(0)
    kernels = [Kernel.of(rng.standard_normal((200, 4))) for _ in range(2)]
    reals = [Real.of(kernel, rng.standard_normal((n, 4))) for kernel, n in zip(kernels, (60, 40), strict=True)]
    x, y = rng.standard_normal((2, 500, 4)) + 0.3
    parts = [[Distance.of(each, real) for real in reals] for each in (x, y)]
    ours, theirs = (Distance.pooled(each) for each in parts)
    assert ours.value == pytest.approx(0.6 * parts[0][0].value + 0.4 * parts[0][1].value)
    of_samples = sum((0.6, 0.4)[k] * parts[0][k].by_sample_N for k in range(2))
    expected = float(of_samples @ of_samples) / (500 * 499)
    expected += sum(
        w**2 * float(p.by_real_M @ p.by_real_M) / (m * (m - 1)) for w, m, p in zip((0.6, 0.4), (60, 40), parts[0], strict=True)
    )
    assert ours.covariance(ours) == pytest.approx(expected)
    assert abs(ours.covariance(theirs)) <= math.sqrt(ours.covariance(ours) * theirs.covariance(theirs))
    alone = Distance.pooled(parts[0][:1])
    np.testing.assert_allclose(alone.by_real_M, parts[0][0].by_real_M)


def test_real_items_are_at_0_and_faults_are_far(digits, side, fitted) -> None:
    real = side.distance(drawn(digits.test.images))
    assert abs(real.value) < 3 * math.sqrt(real.covariance(real)) + side.floor
    far = {name: side.distance(drawn(images)).value for name, images in {
        "blurred": np.repeat(np.repeat(digits.test.images[:, ::2, ::2], 2, axis=1), 2, axis=2),
        "two classes": digits.test.images[digits.test.labels < 2],
    }.items()}  # fmt: skip
    assert min(far.values()) > 3 * abs(real.value)
    assert side.noise > max(far.values())


def test_later_looks_continue_and_a_slow_network_is_asked_a_part(digits) -> None:
    asked = []

    def network(items):
        asked.append(len(items))
        return items.reshape(len(items), -1)[:, ::8].astype(np.float32)

    side = UnseenSide.of(Unseen("slow", "a" * 64, [network], samples_most=150), digits.train, digits.validation, seed=0)
    asked.clear()
    for n in (100, 200, 230):
        found = side.distance(drawn(digits.test.images[:n]))
        assert len(found.by_sample_N) == min(n, 150)
        assert side.grows(n) == (n < 150)
    assert asked == [100, 50]


def test_features_of_real_items_are_kept_on_disk(digits, tmp_path) -> None:
    asked = []

    def network(items):
        asked.append(len(items))
        return items.reshape(len(items), -1)[:, ::8].astype(np.float32)

    slow = Unseen("slow", "a" * 64, [network], real_most=100, cache=tmp_path / "proof")
    sides = [UnseenSide.of(slow, digits.train, digits.validation, seed=0) for _ in range(2)]
    assert asked == [100, 100], "training and held-out items once"
    np.testing.assert_array_equal(sides[0].parts[0].features_MD, sides[1].parts[0].features_MD)
    UnseenSide.of(slow, digits.train, digits.validation, seed=1)
    assert len(asked) == 4, "another seed draws others"


def metric(low: float, high: float) -> Metric:
    return Metric(value=(low + high) / 2, low=low, high=high, n=9)


@pytest.mark.parametrize(
    ("ratios", "again"),
    [
        ([(metric(1.0, 1.2), 1.25, True), (metric(1.0, 1.2), 1.25, True)], False),
        ([(metric(1.0, 1.4), 1.25, True), (metric(1.0, 1.2), 1.25, True)], True),
        ([(metric(1.0, 1.2), 1.25, True), (metric(1.0, 1.4), 1.25, True)], True),
        ([(metric(1.0, 1.2), 1.25, True), (metric(1.0, 1.4), 1.25, False)], False),  # more samples would not be looked at
        ([(metric(1.3, 1.4), 1.25, True), (metric(1.0, 1.4), 1.25, True)], False),  # it fails whatever the other says
        ([(metric(1.0, 1.4), None, True), (metric(1.0, 1.4), None, True)], False),
        ([(metric(1.0, 1.4), None, True), (metric(1.0, 1.4), 1.25, True)], True),
    ],
)
def test_it_looks_again_while_either_straddles_and_none_is_beyond(ratios, again) -> None:
    assert look_again(ratios) == again


def test_a_proof_is_gated_on_both_and_other_scorecards_on_neither(digits, extractor, unseen, fitted) -> None:
    real = {"dataset": digits.dataset, "train": digits.train, "reference": digits.validation, "extractor": extractor}
    good, poor = fitted(8, seed=1), fitted(2, seed=2)
    pair = score_pair(Contender(poor), Contender(good), samples=500, looks=1, unseen=unseen, **real)
    assert (pair.candidate.protocol.heldout, pair.candidate.protocol.heldout_sha256) == (unseen.name, unseen.sha256)
    verdicts = {each.gate: each.verdict for each in gate(pair.candidate, champion=pair.champion).gates}
    assert verdicts["heldout_ratio_max"] == verdicts["distance_ratio_max"] == "fail"
    assert verdicts["heldout_noise_ratio_max"] == "pass"
    same = score_pair(Contender(good), Contender(good), samples=500, margins={"heldout_ratio_max": 1.25}, unseen=unseen, **real)
    assert same.candidate.metrics["heldout_ratio"].value == pytest.approx(1)
    assert same.candidate.protocol.samples == 500
    plain = score(good, samples=200, margins={"distance_ratio_max": 20.0}, **real)
    spread = Spread(*(plain.metrics[name].value for name in MEASURED["distance_ratio_max"]))
    told = {margin: told_apart(spread, margin=margin, alike=True, looks=1) for margin in (MARGIN, 20.0)}
    assert plain.metrics["ratio_told"].value == pytest.approx(told[20.0]), "by the margin of the brief"
    assert told[20.0] > told[MARGIN]
    assert not [name for name in plain.metrics if name.startswith("heldout")]
    assert plain.protocol.heldout is None


def test_a_lost_class_and_blur_are_refused_by_gates_of_their_own(digits, extractor, unseen, make_shelf) -> None:
    from scipy.ndimage import gaussian_filter

    real = {"dataset": digits.dataset, "train": digits.train, "reference": digits.validation, "extractor": extractor}
    kept = digits.train.images[digits.train.labels != 3]
    blurred = gaussian_filter(digits.train.images, sigma=(0, 0.6, 0.6, 0))
    champion, verdicts = Contender(make_shelf("torch:champion", digits.train.images[::2])), {}
    for name, images in {"lost": kept, "blurred": blurred, "whole": digits.train.images}.items():
        candidate = Contender(make_shelf(f"torch:{name:>06}", images))
        pair = score_pair(candidate, champion, samples=500, looks=1, unseen=unseen, **real)
        verdicts[name] = {each.gate: each.verdict for each in gate(pair.candidate, champion=pair.champion).gates}
    assert {name: each["class_ratio_min"] for name, each in verdicts.items()} == {
        "lost": "fail",
        "blurred": "pass",
        "whole": "pass",
    }
    assert {name: each["roughness_lost_max"] for name, each in verdicts.items()} == {
        "lost": "pass", "blurred": "fail", "whole": "pass",
    }  # fmt: skip
