"""The collapse detector on Stacked MNIST: three digits in the colour channels of an image, 1,000 modes (Metz et al. 2017,
arXiv:1611.02163, section 3.3)."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from components.core.arrays import Stored
from components.data.archives import raw_files
from components.data.sources.mnist import ARCHIVES, idx
from components.evaluation.extractor import train_extractor
from components.evaluation.signal import FixedNoiseQuality

Digits = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]  # images [N, H, W] and labels [N]

MIRROR = os.environ.get("GENWRIGHT_DATA_MIRROR")
MODES = 1000
TRAIN, HELD_OUT = 20_000, 50_000  # images stacked to train on; digits below this number are not those that are read

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not MIRROR, reason="GENWRIGHT_DATA_MIRROR names no mirror"),
]


class Stacked:
    """Stacks of digits by mode: mode 217 is a 2 in red, a 1 in green, a 7 in blue."""

    def __init__(self, digits_NHW: npt.NDArray[np.uint8], labels_N: npt.NDArray[np.uint8]) -> None:
        self.digits_NHW = digits_NHW
        self.of_digit = [np.flatnonzero(labels_N == digit) for digit in range(10)]

    def __call__(self, modes_N: npt.NDArray[np.int64], *, seed: int) -> Stored:
        rng = np.random.default_rng(seed)
        wanted_N3 = np.stack([modes_N // 100, modes_N // 10 % 10, modes_N % 10], axis=1)
        picked_N3 = [[rng.choice(self.of_digit[digit]) for digit in wanted] for wanted in wanted_N3]
        return np.ascontiguousarray(self.digits_NHW[np.array(picked_N3)].transpose(0, 2, 3, 1))


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    files = raw_files("mnist", ARCHIVES, cache=tmp_path_factory.mktemp("cache"), mirror=str(Path(str(MIRROR)).absolute()))
    return idx(files["train-images-idx3-ubyte"]), idx(files["train-labels-idx1-ubyte"])


@pytest.fixture(scope="module")
def signal(mnist: Digits, make_split: Any, tmp_path_factory: pytest.TempPathFactory) -> FixedNoiseQuality:
    modes_N = np.random.default_rng(0).integers(MODES, size=TRAIN)
    images = Stacked(mnist[0][:HELD_OUT], mnist[1][:HELD_OUT])(modes_N, seed=1)
    split = make_split(images, modes_N)
    extractor = train_extractor(split, classes=MODES, dest=tmp_path_factory.mktemp("extractor"), dataset_md5="stacked")
    return FixedNoiseQuality.of(extractor, split)


@pytest.fixture(scope="module")
def held_out(mnist: Digits) -> Stacked:
    return Stacked(mnist[0][HELD_OUT:], mnist[1][HELD_OUT:])


def modes(n: int, *, seed: int) -> npt.NDArray[np.int64]:
    """256 draws of n of the modes."""
    rng = np.random.default_rng(seed)
    return rng.choice(rng.permutation(MODES)[:n], 256)


@pytest.mark.parametrize("seed", range(3))
def test_all_modes_are_no_collapse(signal: FixedNoiseQuality, held_out: Stacked, seed: int) -> None:
    reading = signal(held_out(modes(MODES, seed=seed), seed=seed))
    assert reading.collapse == ""
    assert reading.classes == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [100, 30, 10, 3, 1])
def test_lost_modes_are_a_collapse_though_every_image_is_real(
    signal: FixedNoiseQuality, held_out: Stacked, n: int, seed: int
) -> None:
    reading = signal(held_out(modes(n, seed=seed), seed=seed))
    assert reading.precision > 0.3
    assert reading.collapse
