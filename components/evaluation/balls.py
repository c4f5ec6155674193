"""Precision, recall, density and coverage of two sets of features, and in every resample of both sets.

N generated, M real, R resamples, K = NEIGHBOURS, B bytes that hold 1 + R bits, P pairs. A resample is a part of each set, drawn
without repeats (bootstrap.parts): the balls are those of the part, since half of what moves these figures from one draw to the
next are the balls, and items that repeat would stand in each other's as in no real sample.

Parts are halves, and for recall three quarters. Recall is of the samples' balls, and those of a few stragglers are as wide in
a small set as in a large one, where others shrink. Such a ball is in a part of share q with a chance of q, so parts, scaled to
whole sets, see q^2 of its variance: a quarter in halves, 0.56 in three quarters (docs/decisions/0016-statistics.md).

An item at distance d from the owner of a ball lies within that of its k-th neighbour when fewer than k of the owner's own set
are nearer than d. So one rank a pair, and which of the K nearest neighbours a part keeps, tell of all resamples at once: a
bit for each.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from components.evaluation.bootstrap import Bootstrap, Floats, Parts
from components.evaluation.manifold import COVERAGE_K, PRECISION_K, Manifold
from components.evaluation.neighbours import row_blocks, squared_distances

HALF, OF_RECALL = 0.5, 0.75
PAIRS = 2**17  # looked at together: 2^17 pairs of 200 bits as bytes are 26 MB

Bits = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Balls:
    """A set's manifold and which of its points each resample keeps; the first keeps all and gives the value itself."""

    manifold: Manifold
    keep_RN: Parts  # [1 + R, N]
    of_recall: "Balls | None" = None  # the same with larger parts

    @classmethod
    def of(cls, features_ND: npt.NDArray[np.floating], boot: Bootstrap, *, stream: str) -> "Balls":
        """Those of these features. Needs more than COVERAGE_K items."""
        n, manifold = len(features_ND), Manifold.of(features_ND)
        halves, fuller = (
            np.vstack([np.ones((1, n), bool), boot.parts(n, stream=stream, kept=kept)]) for kept in (HALF, OF_RECALL)
        )
        return cls(manifold, halves, of_recall=cls(manifold, fuller))

    @cached_property
    def kept(self) -> Bits:
        """Which resamples keep each point."""
        return np.packbits(self.keep_RN.T, axis=1)

    @cached_property
    def nearer(self) -> npt.NDArray[np.uint8]:
        """How many of a point's 0, 1, ... K - 1 nearest neighbours each resample keeps."""
        kept_NR, others_NK = np.ascontiguousarray(self.keep_RN.T), self.manifold.others_NK
        nearer = np.zeros((*others_NK.shape, len(self.keep_RN)), np.uint8)
        for k in range(1, others_NK.shape[1]):
            nearer[:, k] = nearer[:, k - 1] + kept_NR[others_NK[:, k - 1]]
        return nearer

    def holding(self, k: int) -> Bits:
        """[N, K, B]: whether the k-th ball of a point holds an item to which so many neighbours are nearer, and is kept."""
        held: Bits = np.packbits(self.nearer < k, axis=2) & self.kept[:, None]
        return held


@dataclass(frozen=True)
class Reached:
    """The four figures, each with its resamples: [1 + R]. Two artifacts beside the same real items can be subtracted."""

    precision: Floats
    recall: Floats
    density: Floats
    coverage: Floats
    covered_MB: Bits
    real: Balls

    def covered_of(self, chosen_M: npt.NDArray[np.bool_]) -> Floats:
        """The coverage of some of the real items alone: [1 + R]."""
        kept_R = self.real.keep_RN[:, chosen_M].sum(axis=1)
        covered_R: Floats = _counts(self.covered_MB[chosen_M], len(kept_R)) / np.maximum(kept_R, 1)
        return covered_R


def reached(generated: Balls, real: Balls) -> Reached:
    """Which items lie in whose balls.

    Give as many generated as real items: coverage and recall rise with the number of samples, whatever their quality.
    """
    precise_NB, covered_MB = (np.zeros_like(side.kept) for side in (generated, real))
    inside_R = np.zeros(len(real.keep_RN))
    of_precision, of_coverage = real.holding(PRECISION_K), real.holding(COVERAGE_K)
    for item_P, owner_P, rank_P in _near(generated, real):
        inside_PB = of_coverage[owner_P, rank_P] & generated.kept[item_P]
        inside_R += _counts(inside_PB, len(inside_R))
        _any(covered_MB, owner_P, inside_PB)
        _any(precise_NB, item_P, of_precision[owner_P, rank_P] & generated.kept[item_P])
    n_R, m_R = generated.keep_RN.sum(axis=1), real.keep_RN.sum(axis=1)
    return Reached(
        precision=_counts(precise_NB, len(n_R)) / n_R,
        recall=_recall(generated.of_recall or generated, real.of_recall or real),
        density=inside_R / (COVERAGE_K * n_R),
        coverage=_counts(covered_MB, len(m_R)) / m_R,
        covered_MB=covered_MB,
        real=real,
    )


def _recall(generated: Balls, real: Balls) -> Floats:
    """Recall, and in every resample as far from their mean as it would be in halves: [1 + R]."""
    recalled_MB, holding = np.zeros_like(real.kept), generated.holding(PRECISION_K)
    for item_P, owner_P, rank_P in _near(real, generated):
        _any(recalled_MB, item_P, holding[owner_P, rank_P] & real.kept[item_P])
    recall_R: Floats = _counts(recalled_MB, len(real.keep_RN)) / real.keep_RN.sum(axis=1)
    mean = recall_R[1:].mean()
    recall_R[1:] = mean + math.sqrt(OF_RECALL / (1 - OF_RECALL)) * (recall_R[1:] - mean)
    return recall_R


def _near(items: Balls, owners: Balls) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Pairs of an item and an owner whose ball may hold it in some resample, and how many neighbours of the owner are nearer."""
    points_ND, centres_MD, balls_MK = items.manifold.points_ND, owners.manifold.points_ND, owners.manifold.squares_NK
    for rows in row_blocks(len(points_ND), len(centres_MD)):
        squares = squared_distances(points_ND[rows], centres_MD)
        inside, owner = np.nonzero(squares <= balls_MK[:, -1])
        for at in range(0, len(inside), PAIRS):
            item_P, owner_P = inside[at : at + PAIRS], owner[at : at + PAIRS]
            squares_P = squares[item_P, owner_P]
            yield item_P + rows.start, owner_P, sum(balls_M[owner_P] < squares_P for balls_M in balls_MK.T)


def _any(seen_NB: Bits, of_P: Indices, bits_PB: Bits) -> None:
    """Set the bits of each item that are set in any of its pairs."""
    if len(of_P) == 0:
        return
    order = np.argsort(of_P, kind="stable")
    ordered = of_P[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    seen_NB[ordered[starts]] |= np.bitwise_or.reduceat(bits_PB[order], starts, axis=0)


def _counts(bits_NB: Bits, resamples: int) -> Floats:
    """How many items have the bit of each resample."""
    counts: Floats = np.unpackbits(bits_NB, axis=1, count=resamples).sum(axis=0, dtype=np.float64)
    return counts
