"""The scorecard against generators whose faults are known."""

from functools import partial

import numpy as np
import pytest

from components.core.asked_labels import labels_like
from components.core.errors import DataError, InputError, RunError
from components.core.records import ClassCondition
from components.evaluation.bootstrap import Bootstrap
from components.evaluation.chosen import noise_items
from components.evaluation.gates import gate
from components.evaluation.metrics import diversity
from components.evaluation.samples import CHUNK, SEEDS_FROM, Stock, draw_samples, sample_seeds
from components.evaluation.score import score
from components.evaluation.signal import FixedNoiseQuality
from components.evaluation.timed import untimed

N = 400
CLASSES = ClassCondition(classes=tuple("0123456789"))


@pytest.fixture(scope="module")
def scored(digits, extractor):
    return partial(score, dataset=digits.dataset, train=digits.train, reference=digits.validation, extractor=extractor, samples=N)


def verdicts(scorecard) -> dict[str, str]:
    report = gate(scorecard, champion=None)
    return {each.gate: each.verdict for each in report.gates} | {"": report.verdict}


def test_held_out_images_pass_every_gate(scored, digits, make_shelf) -> None:
    scorecard = scored(make_shelf("torch:real", digits.test.images), samples=len(digits.test))
    found = verdicts(scorecard)
    assert found["memorised_max"] != "fail", "two by chance of 230 may be 3.1 %: a proof draws 500 samples or more"
    assert {found[name] for name in found if name not in ("", "memorised_max")} == {"pass"}
    assert scorecard.metrics["fd"].low <= scorecard.metrics["fd_real"].high
    assert scorecard.metrics["kid"].low <= 0 <= scorecard.metrics["kid"].high
    assert scorecard.metrics["precision"].value > 0.85
    assert scorecard.metrics["diversity"].value == pytest.approx(1, abs=0.05)
    assert scorecard.metrics["memorised"].value <= 0.015
    assert scorecard.metrics["memorised"].low == 0


def test_a_good_generator_passes_every_gate(scored, fitted) -> None:
    assert set(verdicts(scored(fitted(20, seed=1))).values()) == {"pass"}


def test_noise_fails(scored, digits, make_shelf) -> None:
    scorecard = scored(make_shelf("torch:noise", noise_items(N, digits.dataset.item, seed=77)))
    found = verdicts(scorecard)
    assert found["fd_noise_ratio_max"] == "fail"
    assert found["coverage_min"] in ("fail", "undecided")
    assert found[""] == "fail"
    assert scorecard.metrics["fd_noise_ratio"].value == pytest.approx(1, abs=0.1)


def test_a_generator_of_one_class_is_caught_by_recall_coverage_and_diversity(scored, digits, make_shelf) -> None:
    threes = digits.train.images[digits.train.labels == 3]
    wobble = np.random.default_rng(0).integers(-8, 9, (N, 8, 8, 1))
    scorecard = scored(
        make_shelf("torch:threes", np.clip(threes[np.arange(N) % 100].astype(int) + wobble, 0, 255).astype(np.uint8))
    )
    found = verdicts(scorecard)
    assert found["coverage_min"] == found["fd_noise_ratio_max"] == "fail"
    assert found["recall_min"] != "pass"
    assert scorecard.metrics["recall"].high < 0.15
    assert scorecard.metrics["diversity"].high < 0.8
    assert scorecard.metrics["class_share_min"].value == 0
    assert scorecard.metrics["precision"].value > 0.8  # precision alone would have let it through


def test_a_generator_of_few_images_is_caught_by_duplicates(scored, digits, make_shelf) -> None:
    wobble = np.random.default_rng(0).integers(-3, 4, (N, 8, 8, 1))
    few = digits.test.images[np.arange(N) % 20].astype(int)
    scorecard = scored(make_shelf("torch:few", np.clip(few + wobble, 0, 255).astype(np.uint8)))
    assert verdicts(scorecard)["duplicates_max"] == "fail"
    assert scorecard.metrics["duplicates"].value > 0.95
    assert scorecard.metrics["memorised"].value < 0.06  # they are no training images, though one of the 20 may look like one


def test_a_generator_that_returns_training_images_is_caught(scored, digits, make_shelf) -> None:
    wobble = np.random.default_rng(0).integers(-8, 9, (N, 8, 8, 1))
    copies = np.clip(digits.train.images[:N].astype(int) + wobble, 0, 255).astype(np.uint8)
    scorecard = scored(make_shelf("torch:copies", copies))
    found = verdicts(scorecard)
    assert found["memorised_max"] == "fail"
    assert scorecard.metrics["memorised"].low > 0.9
    assert {found[name] for name in found if name not in ("", "memorised_max")} == {"pass"}  # nothing else sees it


def test_blur_is_not_taken_for_copying(scored, fitted) -> None:
    assert scored(fitted(2, seed=1)).metrics["memorised"].value == 0


def test_more_samples_alone_do_not_raise_coverage(scored, fitted) -> None:
    few, many = (scored(fitted(4, seed=2), samples=n).metrics for n in (230, 1840))
    for name in ("coverage", "recall", "precision"):
        assert many[name].value == few[name].value  # the same 230 of each are compared
    assert many["fd"].n == 1840


def test_the_order_of_a_split_does_not_change_its_diversity(extractor, digits, monkeypatch) -> None:
    monkeypatch.setattr(diversity, "PAIRS_MAX", 250)
    mixed = extractor.features(digits.train.images)
    ordered = mixed[np.argsort(digits.train.labels, kind="stable")]  # as folders give it: the first 250 are of two classes
    boot = Bootstrap(seed=0)
    assert diversity.pairwise_diversity(mixed, ordered, boot).value == pytest.approx(1, abs=0.05)
    assert diversity.pairwise_diversity(ordered, mixed, boot).value == pytest.approx(1, abs=0.05)


def test_more_rank_is_a_smaller_distance(scored, fitted) -> None:
    distances = [scored(fitted(rank, seed=2)).metrics["fd"].value for rank in (1, 4, 20)]
    assert distances == sorted(distances, reverse=True)


def test_the_same_artifact_and_protocol_give_the_same_card_and_chunks_change_nothing(scored, fitted, monkeypatch) -> None:
    first = scored(fitted(8, seed=3))
    monkeypatch.setattr("components.evaluation.samples.CHUNK", 37)
    second = scored(fitted(8, seed=3))
    assert first.protocol == second.protocol
    assert untimed(first) == untimed(second)
    assert untimed(scored(fitted(8, seed=3), seed=1)).metrics != untimed(first).metrics


def test_every_metric_has_an_interval_around_its_value_and_a_count(scored, fitted, extractor) -> None:
    scorecard = scored(fitted(8, seed=3), timed=fitted(8, seed=3))
    speed = scorecard.metrics["throughput_per_s"]
    assert speed.n == N // CHUNK
    assert speed.low < speed.value < speed.high, "as many timings as chunks"
    for name, metric in scorecard.metrics.items():
        assert metric.low <= metric.value <= metric.high, name
        assert metric.n > 0, name
    assert {"fd", "kid", "precision", "recall", "density", "coverage", "diversity", "duplicates", "memorised"} <= set(
        scorecard.metrics
    )
    assert {"fd_noise", "fd_real", "confident_share", "class_share_min", "latency_p95_ms"} <= set(scorecard.metrics)
    assert scorecard.metrics["latency_p95_ms"].n >= 20
    assert scorecard.protocol.extractor_sha256 == extractor.sha256
    assert (scorecard.protocol.samples, scorecard.protocol.reference_count, scorecard.protocol.reference_split) == (
        N,
        230,
        "validation",
    )
    assert type(scorecard).model_validate_json(scorecard.model_dump_json()) == scorecard


def obedient(split, *, subject="torch:obedient"):
    """A perfect conditional generator: real images of the class asked for."""

    def draw(seeds, labels=None):
        rows = [np.flatnonzero(split.labels == label) for label in labels]
        return split.images[[own[seed % len(own)] for own, seed in zip(rows, seeds, strict=True)]]

    draw.subject = subject
    return draw


def test_a_conditional_generator_is_asked_for_every_class_and_judged_by_it(scored, digits) -> None:
    scorecard = scored(obedient(digits.test), condition=CLASSES)
    assert scorecard.metrics["label_agreement"].value > 0.95
    assert scorecard.metrics["class_share_min"].value > 0.06
    assert [*scorecard.by_class] == [*digits.dataset.classes]
    assert all(figures["label_agreement"].value > 0.8 for figures in scorecard.by_class.values())


@pytest.fixture(scope="module")
def imbalanced(digits, make_split):
    """The digits with three classes at 25 to 30 % and seven at 1 to 4 %: to train on, to compare with, and to draw from."""
    images, labels = (np.concatenate([getattr(split, name) for split in (digits.train, digits.validation, digits.test)])
                      for name in ("images", "labels"))  # fmt: skip
    of_class = [np.flatnonzero(labels == label) for label in range(10)]
    kept = [own if label < 3 else own[: 5 + 3 * label] for label, own in enumerate(of_class)]
    thirds = [np.concatenate([own[third::3] for own in kept]) for third in range(3)]
    return [make_split(images[third], labels[third]) for third in thirds]


def test_a_perfect_conditional_model_of_imbalanced_data_scores_as_real_images_do(scored, imbalanced) -> None:
    train, reference, stock = imbalanced
    scorecard = scored(obedient(stock), condition=CLASSES, train=train, reference=reference, samples=len(stock))
    fd, real = scorecard.metrics["fd"].value, scorecard.metrics["fd_real"].value
    assert fd < 1.25 * real, f"{fd / real:.2f} times as far as real images"


def test_a_lost_small_class_is_seen_by_class(scored, imbalanced, make_shelf) -> None:
    train, reference, stock = imbalanced
    kept = stock.images[stock.labels != 9]
    scorecard = scored(make_shelf("torch:lost", kept), train=train, reference=reference, samples=len(kept))
    covered = {name: figures["coverage"] for name, figures in scorecard.by_class.items() if "coverage" in figures}
    assert covered["9"].value < 0.5 < min(each.value for name, each in covered.items() if name != "9")
    assert scorecard.by_class["9"]["share"].high < scorecard.by_class["9"]["share_real"].value
    assert scorecard.metrics["coverage"].value > 0.85, "over all classes it is hardly seen"


def test_samples_of_two_looks_and_two_sides_are_asked_for_the_same_classes(imbalanced) -> None:
    counts_K = np.bincount(imbalanced[1].labels, minlength=10)
    asked = []

    def told(seeds, labels=None):
        asked.extend(labels)
        return obedient(imbalanced[2])(seeds, labels)

    told.subject = "torch:told"
    stock = Stock()
    first, second = (stock.draw(told, seed=5, samples=n, asked_N=labels_like(counts_K, n, seed=5)) for n in (100, 200))
    assert asked == labels_like(counts_K, 200, seed=5).tolist()
    assert (second.labels_N[:100] == first.labels_N).all()
    stock.draw(told, seed=5, samples=50, asked_N=labels_like(counts_K[::-1], 50, seed=5))
    assert asked[200:] == labels_like(counts_K[::-1], 50, seed=5).tolist(), "another reference asks anew"


def test_seeds_of_two_protocols_never_meet_and_keep_away_from_small_ones() -> None:
    a, b = sample_seeds(0, 5000), sample_seeds(1, 5000)
    assert not set(a) & set(b)
    assert min(a) >= SEEDS_FROM
    assert sample_seeds(0, 10) == a[:10]
    assert max(sample_seeds(2**32 - 1, 10)) < 2**63
    with pytest.raises(InputError, match="samples 1 to"):
        sample_seeds(0, 2**20 + 1)


def test_drawing_on_equals_drawing_at_once(fitted) -> None:
    sampler = fitted(4, seed=5)
    half = draw_samples(sampler, seed=0, samples=300)
    assert (
        draw_samples(sampler, seed=0, samples=700, have=half).images == draw_samples(sampler, seed=0, samples=700).images
    ).all()


def test_a_stock_draws_what_it_lacks_and_no_more(fitted) -> None:
    sampler, asked = fitted(4, seed=5), []

    def counted(seeds, labels=None):
        asked.extend(seeds)
        return sampler(seeds, labels)

    counted.subject = sampler.subject
    stock = Stock()
    few, many, again = (stock.draw(counted, seed=0, samples=n) for n in (200, 300, 200))
    assert asked == sample_seeds(0, 300)
    assert (many.images == draw_samples(sampler, seed=0, samples=300).images).all()
    assert (few.images == many.images[:200]).all()
    assert (again.images == few.images).all()
    stock.draw(counted, seed=1, samples=50)
    assert asked[300:] == sample_seeds(1, 50)


def test_a_sampler_that_gives_too_few_images_is_an_error(make_shelf, digits) -> None:
    class Short(make_shelf):
        def __call__(self, seeds, labels=None):
            return super().__call__(seeds, labels)[1:]

    with pytest.raises(RunError, match=f"{CHUNK} samples asked, {CHUNK - 1} given"):
        draw_samples(Short("torch:short", digits.test.images), seed=0, samples=100)


@pytest.mark.parametrize("what", ["train", "reference", "samples"])
def test_too_few_to_measure_is_one_line(scored, fitted, digits, make_split, what) -> None:
    few = 5 if what == "samples" else make_split(digits.train.images[:5], digits.train.labels[:5])
    with pytest.raises(DataError, match="allowed: 32 or more"):
        scored(fitted(8, seed=3), **{what: few})


def test_a_model_asked_by_class_on_data_without_classes_is_refused(scored, fitted, digits, make_split) -> None:
    bare = make_split(digits.validation.images, None)
    with pytest.raises(DataError, match="asked by class, and data without classes"):
        scored(fitted(8, seed=3), condition=CLASSES, reference=bare)


def test_the_quality_signal_orders_generators(extractor, digits, fitted) -> None:
    signal = FixedNoiseQuality.of(extractor, digits.validation)
    noise = noise_items(256, digits.dataset.item, seed=1)
    values = [
        signal(images[:256]).distance
        for images in (digits.test.images, fitted(8, seed=1).images, fitted(1, seed=1).images, noise)
    ]
    assert values == sorted(values)
    assert values[0] < values[-1] / 4
