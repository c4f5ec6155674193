"""Scores are high for what is not like the data, and the area under the curve is what its definition says."""

from typing import Any

import numpy as np
import pytest

from components.core.errors import InputError
from components.evaluation.bootstrap import Bootstrap
from components.latent.anomaly import auc, compare, ranked, remarks, score
from components.latent.space import BATCH, Items, LatentSpace

BOOT = Bootstrap(seed=0)


@pytest.fixture(scope="module")
def noise() -> Items:
    return Items(np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8))


def test_noise_is_stranger_than_digits(autoencoder: LatentSpace, noise: Items, held_out: Items, train: Items) -> None:
    scores, known, trained = (score(autoencoder.family, items)["reconstruction"] for items in (noise, held_out, train))
    told = compare(scores, known, normal_M=trained[:200], boot=BOOT)
    assert told.auc.value > 0.99
    assert told.auc.low > 0.9
    assert told.unusual_share > 0.95
    assert min(told.quantiles) > 0.9
    digits = compare(known[::2], known[1::2], normal_M=known[1::2], boot=BOOT)
    assert digits.auc.low < 0.5 < digits.auc.high
    assert 0 < digits.unusual_share < 0.15


def test_errors_are_told_in_grey_levels(rotation: LatentSpace, autoencoder: LatentSpace, held_out: Items) -> None:
    exact = score(rotation.family, held_out)
    assert exact["reconstruction"].max() == 0
    assert "says nothing" in remarks(exact)[0]
    errors = score(autoencoder.family, held_out)
    back = autoencoder.rebuild(held_out).astype(np.float64)
    assert errors["reconstruction"] == pytest.approx(np.sqrt(((back - held_out.images) ** 2).mean((1, 2, 3))))
    assert remarks(errors) == []


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("vae/gaussian", {"reconstruction", "bits_per_dim"}),
        ("vae/vq", {"reconstruction"}),
        ("flow/realnvp", {"reconstruction", "bits_per_dim"}),
        ("autoregressive/pixelcnn", {"bits_per_dim"}),
    ],
)
def test_a_score_is_what_the_card_allows(build: Any, held_out: Items, name: str, scores: set[str]) -> None:
    some = Items(held_out.images[:6])
    found = score(build(name), some)
    assert set(found) == scores
    assert all(values.shape == (6,) and np.isfinite(values).all() for values in found.values())
    picture, rows, columns = ranked(build(name), some, found[max(found)], columns=3)
    assert (len(picture), columns) == (12 if "reconstruction" in scores else 6, 3)
    assert len(picture) == len(rows) * columns


def test_an_image_meets_another_noise_in_another_batch(build: Any, held_out: Items) -> None:
    scores = score(build("flow/realnvp"), Items(held_out.images[:1].repeat(BATCH + 1, axis=0)))["bits_per_dim"]
    assert scores[BATCH] != scores[0]


def test_a_model_that_allows_none_is_refused(build: Any, held_out: Items) -> None:
    with pytest.raises(InputError, match="gan/dcgan can neither rebuild an image nor tell its likelihood"):
        score(build("gan/dcgan"), held_out)


def test_the_picture_begins_with_the_highest_and_ends_with_the_lowest(rotation: LatentSpace, held_out: Items) -> None:
    values = np.random.default_rng(1).permutation(len(held_out)).astype(np.float64)
    picture, rows, columns = ranked(rotation.family, held_out, values, columns=4)
    order = np.argsort(-values)
    assert columns == 4
    assert rows == ["highest scores", "as rebuilt", "lowest scores", "as rebuilt"]
    assert np.array_equal(picture[:4], held_out.images[order[:4]])
    assert np.array_equal(picture[8:12], held_out.images[order[-4:]])
    few, _, columns = ranked(rotation.family, Items(held_out.images[:3]), values[:3], columns=4)
    assert (few.shape[0], columns) == (6, 3)


@pytest.mark.parametrize(
    ("strange", "normal", "area"),
    [([0.4, 0.8], [0.1, 0.35], 1.0), ([0.35, 0.8], [0.1, 0.4], 0.75), ([1.0, 1.0], [1.0], 0.5), ([0.0], [1.0, 2.0], 0.0)],
)
def test_the_area_is_the_share_of_pairs_in_order(strange: list[float], normal: list[float], area: float) -> None:
    assert auc(np.array(strange), np.array(normal), BOOT).value == area


def test_the_interval_of_the_area_covers_the_truth() -> None:
    """Of N(1, 1) above N(0, 1) the area is Phi(1 / sqrt 2) = 0.7602; 95% intervals should hold it in about 19 of 20 draws."""
    rng = np.random.default_rng(0)
    held = [auc(rng.normal(1, 1, 80), rng.normal(0, 1, 120), Bootstrap(seed=seed)) for seed in range(60)]
    assert sum(each.low <= 0.7602 <= each.high for each in held) >= 52
    assert np.mean([each.high - each.low for each in held]) < 0.2


def test_sets_that_are_apart_have_an_interval_by_their_number() -> None:
    few, many = (auc(np.arange(n) + 10.0, np.arange(5.0), BOOT) for n in (2, 5))
    assert few.value == few.high == many.value == 1
    assert few.low < many.low < 1
