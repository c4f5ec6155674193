"""Contrast and roughness are what they say of items whose answer is known, and 1 for the data."""

import numpy as np
import pytest
from specs import image_item

from components.evaluation.metrics.texture import texture
from components.evaluation.score import score


def test_of_white_noise_the_ratio_is_von_neumanns_two_and_of_a_ramp_it_is_known() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (300, 16, 12, 3), dtype=np.uint8)
    s2, g2 = texture(noise, image_item(16, 12, 3)).mean(axis=0)
    assert g2 / s2 == pytest.approx(2, rel=0.02)
    assert s2 == pytest.approx((256**2 - 1) / 12, rel=0.02)
    ramp = np.broadcast_to(np.arange(8, dtype=np.uint8)[None, :, None, None] * 10, (2, 8, 8, 1))  # down alone: half of the steps
    assert texture(ramp, image_item(8, 8, 1)).tolist() == [[525.0, 50.0]] * 2


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    items = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), dtype=np.uint8)
    whole = texture(items, image_item(8, 8, 1))
    monkeypatch.setattr("components.evaluation.metrics.texture.BLOCK", 7)
    assert (texture(items, image_item(8, 8, 1)) == whole).all()


@pytest.fixture(scope="module")
def measured(digits, extractor, make_shelf):
    given = {"dataset": digits.dataset, "train": digits.train, "reference": digits.validation, "extractor": extractor}
    images = digits.test.images.astype(float)
    noise = np.random.default_rng(0).normal(0, 60, images.shape)

    def measure(name: str, images) -> dict:
        stored = np.clip(images.round(), 0, 255).astype(np.uint8)
        return score(make_shelf(f"planted:{name}", stored), samples=len(images), **given).metrics

    return {
        "none": measure("none", images),
        "fainter": measure("fainter", 0.7 * images),
        "noise": measure("noise", images + noise),
    }


def test_real_items_have_those_of_the_data(measured) -> None:
    for name in ("contrast", "roughness"):
        assert measured["none"][name].value == pytest.approx(1, abs=0.02)
        assert measured["none"][name].low < 1 < measured["none"][name].high


def test_a_factor_moves_contrast_alone_and_noise_moves_roughness(measured) -> None:
    assert measured["fainter"]["contrast"].value == pytest.approx(0.7, abs=0.02)
    assert measured["fainter"]["roughness"].value == pytest.approx(1, abs=0.03)
    assert measured["noise"]["roughness"].low > 1.1
