"""Drawing from a sampler: which seeds and classes, and how long it takes.

N samples, K classes. A conditional sampler is asked for the classes as often as the reference has them, so that it is held
against what it was asked for. Evaluation's seeds begin at 2^40 + seed * 2^20, far from the small seeds that people, previews and
training's fixed noise use, so that no sample picked during training is judged again here.
"""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.core.asked_labels import labels_like
from components.core.errors import InputError, RunError
from components.core.protocols import ItemSampler, Stored
from components.evaluation.bootstrap import Floats
from components.runtime.progress import Report

Classes = npt.NDArray[np.int64]  # [K], how many items of each class there are

SEEDS_FROM = 2**40
SEEDS_EACH = 2**20
CHUNK = 64  # samples timed together, and between two reports of progress


@dataclass(frozen=True)
class Drawn:
    """Stored of one sampler, the classes asked of it, and how fast they came."""

    subject: str
    images: Stored
    labels_N: npt.NDArray[np.int64] | None
    items_per_s: Floats  # one figure a chunk

    def first(self, n: int) -> "Drawn":
        """The first n of them."""
        labels_N = None if self.labels_N is None else self.labels_N[:n]
        return Drawn(self.subject, self.images[:n], labels_N, self.items_per_s)


def sample_seeds(seed: int, n: int) -> list[int]:
    """The seeds of the n samples of a protocol with this seed. Raises InputError for more than 2^20 samples."""
    if not (0 <= seed < 2**32 and 0 < n <= SEEDS_EACH):
        raise InputError(f"seed {seed} and {n} samples given", allowed=f"seed 0 to 2^32 - 1, samples 1 to {SEEDS_EACH}")
    first = SEEDS_FROM + seed * SEEDS_EACH
    return list(range(first, first + n))


def draw_samples(
    sampler: ItemSampler,
    *,
    seed: int,
    samples: int,
    counts_K: Classes | None = None,
    have: Drawn | None = None,
    progress: Report | None = None,
) -> Drawn:
    """The samples of a protocol. A conditional sampler is asked for classes in the proportions of `counts_K`.

    What was drawn before with fewer samples (`have`) is kept and continued: sample k does not depend on how many there are.
    """
    seeds = sample_seeds(seed, samples)
    labels_N = None if counts_K is None else labels_like(counts_K, samples, seed=seed)
    images, speeds = ([have.images], [*have.items_per_s]) if have else ([], [])
    for at in range(len(have.images) if have else 0, samples, CHUNK):
        chunk = seeds[at : at + CHUNK]
        started = time.perf_counter()
        images.append(sampler(chunk, None if labels_N is None else labels_N[at : at + CHUNK].tolist()))
        if len(images[-1]) != len(chunk):
            raise RunError(f"{sampler.subject[:17]}: {len(chunk)} samples asked, {len(images[-1])} given")
        if len(chunk) == min(CHUNK, samples):
            speeds.append(len(chunk) / max(time.perf_counter() - started, 1e-9))
        if progress is not None:
            progress("samples", at + len(chunk), samples)
    return Drawn(sampler.subject, np.concatenate(images), labels_N, np.array(speeds))


class Stock:
    """The samples of an artifact beside which several are measured: drawn once, and continued where more are wanted."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, bytes | None], Drawn] = {}

    def draw(
        self,
        sampler: ItemSampler,
        *,
        seed: int,
        samples: int,
        counts_K: Classes | None = None,
        progress: Report | None = None,
    ) -> Drawn:
        """Those of `draw_samples`; speeds are of all that were drawn. Holds what was drawn last, and nothing before it."""
        key = (sampler.subject, seed, None if counts_K is None else counts_K.tobytes())
        have = self._kept.get(key)
        if have is None or len(have.images) < samples:
            have = draw_samples(sampler, seed=seed, samples=samples, counts_K=counts_K, have=have, progress=progress)
            self._kept = {key: have}
        return have.first(samples)
