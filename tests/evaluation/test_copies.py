"""Copies of training items, as they are and changed in ways that leave them the same; and items that are none."""

import numpy as np
import pytest
from specs import ArraySplit

from benchmarks.copies import CHANGES
from components.core.modality import find_modality
from components.evaluation.copies import BY_CHANCE, Copies, lower_tail, without_twins
from components.evaluation.gates import gate, thresholds
from components.evaluation.likeness import Held, distances, nearest_in_split, shortlist
from components.evaluation.proportions import Count, excess, share
from components.evaluation.score import score

CHANGED = {name: change for name, change in CHANGES.items() if name != "tinted"}  # digits are grey


@pytest.fixture(scope="module")
def known(digits) -> Copies:
    return Copies(digits.train, digits.validation.images, seed=0)


def flagged(known: Copies, items: np.ndarray) -> float:
    return float((known.closeness(known.neighbours(items)) <= known.bound).mean())


@pytest.mark.parametrize("change", list(CHANGED))
def test_a_changed_copy_is_a_copy(known, digits, change) -> None:
    """Before: 2 % of those shifted by a pixel, 36 % of those at 0.85 contrast."""
    assert flagged(known, CHANGED[change](digits.train.images[:300])) >= 0.95


def test_items_never_trained_on_are_none(known, digits) -> None:
    assert flagged(known, digits.test.images) <= 0.015
    assert float((known.held_out_closeness <= known.bound).mean()) <= 0.015


def test_the_short_list_loses_nothing(known, digits) -> None:
    """Against every training item: the nearest is as near, and what is flagged is the same."""
    queries = np.concatenate([change(digits.train.images[:40]) for change in CHANGED.values()])
    found, _ = nearest_in_split(queries, digits.train, k=50)
    image = find_modality("image")
    everything = np.broadcast_to(image.vectors(digits.train.images), (len(queries), len(digits.train), 36))
    table = np.sort(distances(image.variants(queries), everything), axis=1)[:, :50]
    assert (known.closeness(found) <= known.bound).mean() >= (known.closeness(table) <= known.bound).mean() - 0.002
    assert np.isclose(found[:, 0], table[:, 0], atol=1e-3).mean() > 0.99


def test_an_item_of_the_split_is_not_its_own_neighbour_but_its_twin_is(digits) -> None:
    images = np.concatenate([digits.train.images[:300], digits.train.images[:1]])
    own = np.array([0, 5, 300])
    distances_, places = nearest_in_split(images[own], ArraySplit(images, None), k=3, own=own)
    assert places[:, 0].tolist()[::2] == [300, 0]
    assert distances_[[0, 2], 0] == pytest.approx(0, abs=1e-3)
    assert (places != own[:, None]).all()
    assert distances_[1, 0] > 0.1


def test_chunks_and_blocks_change_nothing(digits, monkeypatch) -> None:
    queries = digits.test.images[:50]
    whole = nearest_in_split(queries, digits.train, k=5)
    monkeypatch.setattr("components.evaluation.likeness.CHUNK", 111)
    monkeypatch.setattr("components.evaluation.neighbours.CELLS", 20_000)
    parts = nearest_in_split(queries, digits.train, k=5)
    assert (whole[1] == parts[1]).all()
    assert whole[0] == pytest.approx(parts[0], abs=1e-5)


def test_few_items_give_what_they_have(digits) -> None:
    few = Held(digits.train.images[:4], digits.train.item)
    found, places = nearest_in_split(few.items, few, k=50, own=np.arange(4))
    assert found.shape == places.shape == (4, 3)
    sketches = find_modality("image").sketches(few.items)
    assert shortlist(sketches, few, count=50).shape == (4, 4)


@pytest.mark.parametrize("repeats", [2, 60])
def test_data_that_repeats_itself_is_told_from_a_copier(digits, repeats) -> None:
    """A fifth of what is drawn is one of a few items, again and again, in training and among held-out items alike."""
    rng, images = np.random.default_rng(0), digits.train.images
    fresh, icons = images[:1000], images[1000 : 1000 + 300 // repeats]

    def drawn(n: int, pool: np.ndarray) -> np.ndarray:
        icon = rng.random(n) < 0.2
        return np.where(icon[:, None, None, None], icons[rng.integers(0, len(icons), n)], pool[rng.permutation(len(pool))[:n]])

    train = ArraySplit(np.concatenate([fresh, icons.repeat(repeats, axis=0)]), None)
    known = Copies(train, drawn(230, digits.validation.images), seed=0)
    held_out = Count.where(known.held_out_closeness <= known.bound)
    assert 0.12 < held_out.share < 0.3, "the data's own rate"
    assert 0.2 < known.bound < 0.45, "which does not draw the bound to 0"
    honest, copier = drawn(230, digits.test.images), CHANGES["shifted by a pixel"](fresh[:230])
    of_honest, of_copier = (
        excess(Count.where(known.closeness(known.neighbours(items)) <= known.bound), held_out, level=0.95)
        for items in (honest, copier)
    )
    assert of_honest.low == 0
    assert of_copier.low > 0.6


def test_items_all_alike_are_no_error(digits) -> None:
    alike = np.repeat(digits.train.images[:1], 80, axis=0)
    known = Copies(ArraySplit(alike, None), alike[:40], seed=0)
    assert np.isfinite(known.bound)
    flat = np.zeros_like(alike)
    assert np.isfinite(known.closeness(known.neighbours(flat))).all()
    assert np.isfinite(Copies(ArraySplit(flat, None), flat[:40], seed=0).held_out_closeness).all()


def test_the_bound_of_few_items_is_near_that_of_many(known) -> None:
    """With the 1 % quantile of 60 items (their smallest) one honest item in 40 was flagged, and one in 12 at times."""
    near = known.closeness(known.training_neighbours)
    rng = np.random.default_rng(0)
    rates = [(near <= lower_tail(without_twins(rng.choice(near, 60, replace=False)), BY_CHANCE)).mean() for _ in range(300)]
    assert np.median(rates) == pytest.approx(BY_CHANCE, abs=0.004)
    assert np.quantile(rates, 0.95) < 0.04


@pytest.mark.parametrize(("n", "m", "ours", "theirs"), [(500, 60, 0.01, 0.01), (2000, 360, 0.06, 0.01), (360, 360, 0.3, 0.2)])
def test_the_interval_of_a_difference_covers(n, m, ours, theirs) -> None:
    rng = np.random.default_rng(0)
    found = [excess(Count(int(a), n), Count(int(b), m), level=0.95) for a, b in rng.binomial([n, m], [ours, theirs], (1000, 2))]
    assert np.mean([each.low <= ours - theirs <= each.high for each in found]) >= 0.95


def test_an_interval_of_a_share_is_exact_at_its_ends() -> None:
    assert share(Count(0, 60), level=0.95).high == pytest.approx(1 - 0.025 ** (1 / 60))
    assert share(Count(60, 60), level=0.95).low == pytest.approx(0.025 ** (1 / 60))
    assert (excess(Count(9, 9), Count(9, 9), level=0.95).value, excess(Count(0, 9), Count(9, 9), level=0.95).high) == (0, 0)


@pytest.fixture(scope="module")
def verdict(digits, extractor):
    """Of the memorised gate and of the one on duplicates, for a sampler that hands out these images."""

    def judged(shelf, samples: int) -> dict[str, str]:
        reals = {"dataset": digits.dataset, "train": digits.train, "reference": digits.validation, "extractor": extractor}
        report = gate(score(shelf, samples=samples, **reals), champion=None)
        return {each.gate: each.verdict for each in report.gates if each.gate in ("memorised_max", "duplicates_max")}

    return judged


@pytest.mark.parametrize("samples", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_model_that_copies_one_in_twenty_does_not_pass_and_an_honest_one_does(digits, fitted, verdict, samples) -> None:
    honest = fitted(20, seed=1)
    assert verdict(honest, samples) == {"memorised_max": "pass", "duplicates_max": "pass"}
    images = honest.images.copy()
    images[::20] = CHANGES["shifted, mirrored, contrast 0.85"](digits.train.images[:100])
    assert verdict(type(honest)("torch:copier", images), samples)["memorised_max"] != "pass"
    images[::5] = CHANGES["shifted by a pixel"](digits.train.images[:400])
    assert verdict(type(honest)("torch:copier", images), samples)["memorised_max"] == "fail"


def test_twins_are_found_shifted_and_at_another_contrast(digits, fitted, verdict) -> None:
    images = fitted(20, seed=1).images.copy()
    images[1:1000:2] = images[0:1000:2]
    images[1:1000:4] = CHANGES["shifted by a pixel"](images[1:1000:4])
    images[3:1000:4] = CHANGES["contrast 0.85"](images[3:1000:4])
    order = np.random.default_rng(0).permutation(2000)
    assert verdict(type(fitted(20, seed=1))("torch:twins", images[order]), 1000)["duplicates_max"] == "fail"


@pytest.mark.parametrize(("n", "m"), [(360, 60), (500, 360), (1000, 360), (2000, 60), (2000, 2000)])
def test_the_threshold_tells_a_copier_from_an_honest_model(n, m) -> None:
    """One sample in twenty beyond chance hardly ever passes; what is flagged by chance alone nearly always does."""
    rng, threshold = np.random.default_rng(0), thresholds({})["memorised_max"]

    def passes(copied: float) -> float:
        rates = [copied + (1 - copied) * BY_CHANCE, BY_CHANCE]
        pairs, times = np.unique(rng.binomial([n, m], rates, (4000, 2)), axis=0, return_counts=True)
        highs = np.array([excess(Count(int(a), n), Count(int(b), m), level=0.95).high for a, b in pairs])
        return float(times[highs <= threshold].sum() / times.sum())

    assert passes(0.05) <= 0.002
    assert passes(0.0) >= 0.96
