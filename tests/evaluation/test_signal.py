"""What is read during training: collapse is told from poor quality."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from specs import image_data

from components.core.errors import TrainingFailed
from components.core.records import LocalDataset
from components.evaluation.chosen import noise_items
from components.evaluation.signal import FixedNoiseQuality
from components.training.plan import TrainPlan
from components.training.start import build
from components.training.trainer import Trainer
from components.training.untracked import Untracked

N = 200
COLLAPSING = {"width": 16, "latent": 16, "lr_peak": 5e-3, "discriminator_rate": 0.02, "ema_decay": 0.9, "batch_deviation": False}


@pytest.fixture(scope="module")
def signal(extractor, digits) -> FixedNoiseQuality:
    return FixedNoiseQuality.of(extractor, digits.train)


def of_classes(digits, *classes: int):
    """N real, held-out images of these classes, each moved by a little noise so that none is there twice."""
    chosen = digits.test.images[np.isin(digits.test.labels, classes)]
    wobble = np.random.default_rng(0).integers(-8, 9, (N, 8, 8, 1))
    return np.clip(chosen[np.arange(N) % len(chosen)].astype(int) + wobble, 0, 255).astype(np.uint8)


def test_held_out_images_read_as_the_data(signal, digits) -> None:
    reading = signal(digits.test.images[:N])
    assert reading.collapse == ""
    assert reading.diversity == pytest.approx(1, abs=0.1)
    assert reading.precision == pytest.approx(1, abs=0.1)
    assert reading.coverage == pytest.approx(1, abs=0.25)


def test_a_split_in_the_order_of_its_classes_reads_the_same(extractor, digits, make_split) -> None:
    """As folders give it: what is held out of the reference to be measured is of all classes."""
    order = np.argsort(digits.train.labels, kind="stable")
    reading = FixedNoiseQuality.of(extractor, make_split(digits.train.images[order], digits.train.labels[order]))(
        digits.test.images[:N]
    )
    assert reading.collapse == ""
    assert (reading.diversity, reading.precision, reading.coverage) == pytest.approx((1, 1, 1), abs=0.25)


@pytest.mark.parametrize("classes", [(3,), (0, 1, 6), (2, 7)])
def test_lost_classes_are_a_collapse_though_each_image_looks_real(signal, digits, classes) -> None:
    reading = signal(of_classes(digits, *classes))
    assert reading.precision > 0.8
    assert reading.collapse


def test_one_image_over_and_over_is_a_collapse(signal, digits) -> None:
    reading = signal(np.repeat(digits.test.images[:1], N, axis=0))
    assert reading.diversity < 0.05
    assert "as diverse as the data" in reading.collapse


def test_poor_images_of_all_classes_are_no_collapse(signal, digits, fitted) -> None:
    blurred = gaussian_filter(digits.test.images[:N].astype(float), (0, 0.6, 0.6, 0)).astype(np.uint8)
    noisy = digits.test.images[:N].astype(int) + np.random.default_rng(1).normal(0, 40, (N, 8, 8, 1)).astype(int)
    for images in (blurred, np.clip(noisy, 0, 255).astype(np.uint8), fitted(20, seed=1).images[:N], fitted(8, seed=1).images[:N]):
        assert signal(images).collapse == ""


def test_an_untrained_model_is_not_accused(signal, digits) -> None:
    reading = signal(noise_items(N, digits.dataset.item, seed=3))
    assert reading.precision < 0.1
    assert reading.collapse == ""


@pytest.mark.parametrize("n", [2, 5, 64, 2000])
def test_any_number_of_images_is_read(signal, digits, n) -> None:
    images = digits.train.images[np.arange(n) % len(digits.train.images)]
    assert np.isfinite(signal(images).distance)


@pytest.mark.slow
def test_a_gan_whose_critic_hardly_learns_collapses_and_is_stopped(extractor, digits, tmp_path: Path) -> None:
    """G finds the one image that pleases a critic that stands still; nothing here is faked but the choice of rates."""
    plan = TrainPlan(
        family="gan",
        variant="dcgan",
        config=COLLAPSING | {"on_collapse": "stop"},
        spec=image_data(channels=1, height=8, width=8),
        dataset=LocalDataset(path="", **digits.dataset.model_dump()),
        folder=str(tmp_path / "run"),
        run_id="run",
        items_seen=120 * 128,
        threads=1,
    )
    quality = FixedNoiseQuality.of(extractor, digits.train)
    with pytest.raises(TrainingFailed, match=r"the samples of step \d+ have collapsed: .* as diverse as the data"):
        Trainer(build(plan), plan, split=digits.train, quality=quality, tracker=Untracked()).run()
