"""Drawing from a sampler: which seeds and conditions, and how long it takes.

N samples. A conditional sampler is asked as the reference's items are, so that it is held against what it was asked for.
Evaluation's seeds begin at 2^40 + seed * 2^20, far from the small seeds that people, previews and training's fixed noise use, so
that no sample picked during training is judged again here.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.core.arrays import Stored
from components.core.errors import InputError, RunError
from components.core.protocols import ItemSampler, ItemSplit
from components.core.records import Condition
from components.evaluation.bootstrap import Floats
from components.runtime.progress import Report

Rows = npt.NDArray[Any]  # [N, *shape] of a condition

SEEDS_FROM = 2**40
SEEDS_EACH = 2**20
CHUNK = 64  # samples timed together, and between two reports of progress


@dataclass(frozen=True)
class Drawn:
    """Stored of one sampler, what was asked of it, and how fast they came."""

    subject: str
    images: Stored
    asked_N: Rows | None  # [N, *shape] of the sampler's condition
    items_per_s: Floats  # one figure a chunk

    @property
    def labels_N(self) -> npt.NDArray[np.int64] | None:  # noqa: N802 (the suffix is the shape)
        """The classes that were asked for; None of a sampler that takes none. One number an item can only be a class."""
        return self.asked_N if self.asked_N is not None and self.asked_N.ndim == 1 else None

    def first(self, n: int) -> "Drawn":
        """The first n of them."""
        asked_N = None if self.asked_N is None else self.asked_N[:n]
        return Drawn(self.subject, self.images[:n], asked_N, self.items_per_s)


def sample_seeds(seed: int, n: int) -> list[int]:
    """The seeds of the n samples of a protocol with this seed. Raises InputError for more than 2^20 samples."""
    if not (0 <= seed < 2**32 and 0 < n <= SEEDS_EACH):
        raise InputError(f"seed {seed} and {n} samples given", allowed=f"seed 0 to 2^32 - 1, samples 1 to {SEEDS_EACH}")
    first = SEEDS_FROM + seed * SEEDS_EACH
    return list(range(first, first + n))


def asked_seeds(seed: int, n: int) -> list[int]:
    """Seeds of n further samples of a protocol with this seed: of the upper half of its own, which no proof reaches."""
    first = SEEDS_FROM + seed * SEEDS_EACH + SEEDS_EACH // 2
    return list(range(first, first + n))


def asked_like(reference: ItemSplit, condition: Condition | None, n: int, *, seed: int) -> Rows | None:
    """What n samples of a sampler of this condition are asked for, as the reference's items are; None of one that takes none.

    Row k does not depend on n. Raises DataError where the data does not say.
    """
    return None if condition is None else condition.like(reference, n, seed=seed)


def draw_samples(
    sampler: ItemSampler,
    *,
    seed: int,
    samples: int,
    asked_N: Rows | None = None,
    have: Drawn | None = None,
    progress: Report | None = None,
) -> Drawn:
    """The samples of a protocol. `asked_N`: what each is asked for (asked_like); None of a sampler that takes no condition.

    What was drawn before with fewer samples (`have`) is kept and continued: sample k does not depend on how many there are.
    """
    seeds = sample_seeds(seed, samples)
    images, speeds = ([have.images], [*have.items_per_s]) if have else ([], [])
    for at in range(len(have.images) if have else 0, samples, CHUNK):
        chunk = seeds[at : at + CHUNK]
        started = time.perf_counter()
        images.append(sampler(chunk, None if asked_N is None else asked_N[at : at + CHUNK]))
        if len(images[-1]) != len(chunk):
            raise RunError(f"{sampler.subject[:17]}: {len(chunk)} samples asked, {len(images[-1])} given")
        if len(chunk) == min(CHUNK, samples):
            speeds.append(len(chunk) / max(time.perf_counter() - started, 1e-9))
        if progress is not None:
            progress("samples", at + len(chunk), samples)
    return Drawn(sampler.subject, np.concatenate(images), asked_N, np.array(speeds))


class Stock:
    """The samples of an artifact beside which several are measured: drawn once, and continued where more are wanted."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], Drawn] = {}

    def draw(
        self, sampler: ItemSampler, *, seed: int, samples: int, asked_N: Rows | None = None, progress: Report | None = None
    ) -> Drawn:
        """Those of `draw_samples`; speeds are of all that were drawn. Holds what was drawn last, and nothing before it."""
        key = (sampler.subject, seed)
        have = self._kept.get(key)
        if have is not None and not _asked_alike(have.asked_N, asked_N):
            have = None
        if have is None or len(have.images) < samples:
            have = draw_samples(sampler, seed=seed, samples=samples, asked_N=asked_N, have=have, progress=progress)
            self._kept = {key: have}
        return have.first(samples)


def _asked_alike(one: Rows | None, other: Rows | None) -> bool:
    """Whether both ask for the same, as far as the shorter goes."""
    if one is None or other is None:
        return one is other
    n = min(len(one), len(other))
    return np.array_equal(one[:n], other[:n])
