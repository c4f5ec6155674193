"""How near items are to those of a split, whatever leaves an item the same: in two steps, in bounded memory.

N items, M items of the split, K on a shortlist, k neighbours, V variants, D values of a vector, E of a sketch. First the
sketches of all M are looked at, which hardly change with a variant; then the vectors of the nearest K, each against every
variant of the item. What a modality calls a vector, a variant and a sketch stands in core/modality.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.core.arrays import Stored
from components.core.modality import Modality, find_modality
from components.core.protocols import ItemSplit
from components.core.records import ItemSpec
from components.evaluation.neighbours import CELLS, Distances, Indices, Vectors, row_blocks

CHUNK = 4096  # items of a split that are searched at once
SHORTLIST = 100  # items of a split, at least, that are compared with every variant
VALUES = 1_500_000  # that are compared for an item: small items have a longer list, of less telling sketches


@dataclass
class Held:
    """Items in memory as a split without labels: an ItemSplit."""

    items: Stored
    item: ItemSpec
    labels: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def take(self, indices: Indices) -> Stored:
        """The items at `indices`."""
        chosen: Stored = self.items[indices]
        return chosen


def nearest_in_split(items: Stored, split: ItemSplit, *, k: int, own: Indices | None = None) -> tuple[Distances, Indices]:
    """The k nearest items of a split to each item, nearest first: distances [N, k] and indices into the split [N, k].

    A distance is that from the nearest variant of the item. `own`: where each item stands in the split itself; it is no neighbour
    of its own. Where the split has fewer, k is what it has.
    """
    modality = find_modality(split.item.modality)
    count = min(len(split) - (own is not None), max(k, SHORTLIST, VALUES // modality.variants(items[:1]).size))
    whole = len(split) - count <= 1  # is on the list: an item itself is left out afterwards
    listed_NK = None if whole else shortlist(described(modality.sketches, Held(items, split.item)), split, count=count, own=own)
    parts = [(np.empty((0, min(k, count))), np.empty((0, min(k, count)), np.int64))]
    for rows in row_blocks(len(items), count * modality.vectors(items[:1]).shape[1]):
        listed = np.arange(len(split))[None] if listed_NK is None else listed_NK[rows]
        far = _compared(items[rows], split, listed, modality)
        if listed_NK is None and own is not None:
            _leave_out(far, own[rows])
        parts.append(_nearest_first(far, listed, k=min(k, count)))
    distances_Nk, places_Nk = zip(*parts, strict=True)
    return np.concatenate(distances_Nk), np.concatenate(places_Nk)


def shortlist(sketches_NE: Vectors, split: ItemSplit, *, count: int, own: Indices | None = None) -> Indices:
    """The items of a split whose sketches are nearest to each of these, in no order: indices [N, K], K at most `count`."""
    modality, n = find_modality(split.item.modality), len(sketches_NE)
    count = min(count, len(split) - (own is not None))
    best: Vectors = np.empty((n, 0), np.float32)
    where: Indices = np.empty((n, 0), np.int64)
    for at in range(0, len(split), CHUNK):
        points_ME = described(modality.sketches, split, np.arange(at, min(at + CHUNK, len(split))))
        norms_M = np.einsum("me,me->m", points_ME, points_ME)
        kept = []
        for rows in row_blocks(n, len(points_ME)):
            squares = norms_M - 2 * (sketches_NE[rows] @ points_ME.T)  # less that of the query itself, which is the same for all
            if own is not None:
                _leave_out(squares, own[rows] - at)
            kept.append(_fewest(best[rows], where[rows], squares, at, count))
        best, where = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return where


def _leave_out(squares_BM: Vectors, own_B: Indices) -> None:
    inside = np.flatnonzero((own_B >= 0) & (own_B < squares_BM.shape[1]))
    squares_BM[inside, own_B[inside]] = np.inf


def _fewest(best: Vectors, where: Indices, squares: Vectors, at: int, count: int) -> tuple[Vectors, Indices]:
    """The smallest of those kept and those of a chunk that begins `at`."""
    picked = _smallest(squares, count)
    together = np.concatenate([best, np.take_along_axis(squares, picked, axis=1)], axis=1)
    indices = np.concatenate([where, picked + at], axis=1)
    chosen = _smallest(together, count)
    return np.take_along_axis(together, chosen, axis=1), np.take_along_axis(indices, chosen, axis=1)


def _smallest(values: Vectors, count: int) -> Indices:
    """Columns of the smallest in every row, in no order."""
    width = values.shape[1]
    return np.argpartition(values, count - 1, axis=1)[:, :count] if width > count else np.tile(np.arange(width), (len(values), 1))


def _compared(items: Stored, split: ItemSplit, listed_BK: Indices, modality: Modality) -> Distances:
    """How far the nearest variant of each item is from each on its list, or on the one list of all: [B, K]."""
    unique, places = np.unique(listed_BK, return_inverse=True)
    known_UD = described(modality.vectors, split, unique)
    variants_VBD = described(modality.variants, Held(items, split.item))
    return distances(variants_VBD, known_UD[places.reshape(listed_BK.shape)])


def _nearest_first(far_BK: Distances, listed_BK: Indices, *, k: int) -> tuple[Distances, Indices]:
    picked = _smallest(far_BK, k)
    found = np.take_along_axis(far_BK, picked, axis=1)
    order = np.argsort(found, axis=1, kind="stable")
    places = np.take_along_axis(np.broadcast_to(listed_BK, far_BK.shape), picked, axis=1)
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(places, order, axis=1)


def distances(variants_VND: Vectors, vectors_NKD: Vectors) -> Distances:
    """From the nearest variant of each item to each of K vectors, its own or, [1, K, D], the same for all: [N, K]."""
    table_NVK: Vectors = np.matmul(variants_VND.transpose(1, 0, 2), vectors_NKD.transpose(0, 2, 1))
    own_NV = np.einsum("vnd,vnd->nv", variants_VND, variants_VND)
    theirs_NK = np.einsum("nkd,nkd->nk", vectors_NKD, vectors_NKD)
    squares_NK = (own_NV[:, :, None] - 2 * table_NVK).min(axis=1) + theirs_NK
    found: Distances = np.sqrt(np.clip(squares_NK, 0, None).astype(np.float64))
    return found


def described(describe: Callable[[Stored], Vectors], split: ItemSplit, places: Indices | None = None) -> Vectors:
    """What describes these items of a split, or all of them, with few of them in memory at a time."""
    places = np.arange(len(split)) if places is None else places
    step = max(1, CELLS // math.prod(split.item.stored_shape))
    return np.concatenate([describe(split.take(places[at : at + step])) for at in range(0, len(places), step)], axis=-2)
