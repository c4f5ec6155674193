"""Nearest neighbours among vectors, in bounded memory.

N queries, M points, D dimensions, k neighbours. No table larger than CELLS is ever held.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

CELLS = 8_000_000  # entries of one block of distances

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Distances = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def squared_distances(a_ND: Vectors, b_MD: Vectors) -> Vectors:
    """|a - b|^2 for every pair, [N, M], never negative."""
    norms = (a_ND**2).sum(axis=1)[:, None] + (b_MD**2).sum(axis=1)[None]
    squares: Vectors = np.clip(norms - 2 * (a_ND @ b_MD.T), 0, None)
    return squares


def row_blocks(n: int, m: int) -> Iterator[slice]:
    """Slices of n rows such that a block times m columns stays below CELLS."""
    step = max(1, CELLS // max(1, m))
    return (slice(at, min(at + step, n)) for at in range(0, n, step))


def nearest(queries_ND: Vectors, points: Iterable[Vectors], *, k: int, skip_self: bool = False) -> tuple[Distances, Indices]:
    """The k nearest points of every query, nearest first: Euclidean distances [N, k] and indices [N, k].

    `points` come in chunks and are numbered through. With `skip_self` point i is no neighbour of query i. The first
    distance is computed from the difference itself, so a copy is at exactly 0 also in single precision.
    """
    n = len(queries_ND)
    best = np.full((n, k), np.inf)
    where = np.full((n, k), -1, np.int64)
    offset = 0
    for chunk in points:
        for rows in row_blocks(n, len(chunk)):
            squares = squared_distances(queries_ND[rows], chunk).astype(np.float64, copy=False)
            if skip_self:
                own = np.arange(rows.start, rows.stop) - offset
                inside = (own >= 0) & (own < len(chunk))
                squares[np.flatnonzero(inside), own[inside]] = np.inf
            found, picked = _smallest(squares, k, queries_ND[rows], chunk)
            together = np.concatenate([best[rows], found], axis=1)
            indices = np.concatenate([where[rows], picked + offset], axis=1)
            order = np.argsort(together, axis=1, kind="stable")[:, :k]
            best[rows] = np.take_along_axis(together, order, axis=1)
            where[rows] = np.take_along_axis(indices, order, axis=1)
        offset += len(chunk)
    return np.sqrt(best), where


def _smallest(squares: Distances, k: int, queries_ND: Vectors, points_MD: Vectors) -> tuple[Distances, Indices]:
    """The k smallest entries of every row and their columns, the smallest recomputed from the vectors themselves."""
    picked = np.argpartition(squares, min(k, squares.shape[1]) - 1, axis=1)[:, :k]
    found = np.take_along_axis(squares, picked, axis=1)
    lines, first = np.arange(len(found)), found.argmin(axis=1)
    exact = ((queries_ND - points_MD[picked[lines, first]]).astype(np.float64) ** 2).sum(axis=1)
    found[lines, first] = np.where(np.isinf(found[lines, first]), np.inf, exact)  # a point is not its own neighbour
    return found, picked
