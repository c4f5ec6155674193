"""Stored items and data units, each made of the other by what an item's Storage says (core/item.py).

N items, of `item.shape` in data units and of `item.stored_shape` stored.
"""

from typing import TYPE_CHECKING, Any

from components.core.item import ItemSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def to_units(stored: "npt.NDArray[Any]", item: ItemSpec) -> "npt.NDArray[np.float32]":
    """Stored items [N, *stored_shape] in data units, float32 [N, *shape]."""
    return levels_to_units(stored.transpose(0, *_back(item)), item)


def levels_to_units(x: "npt.NDArray[Any]", item: ItemSpec) -> "npt.NDArray[np.float32]":
    """What a graph makes, [N, *shape] in the numbers of the storage or in data units already, in data units."""
    import numpy as np

    if not _is_stored(x, item):
        return x.astype(np.float32, copy=False)
    storage = item.storage
    units: npt.NDArray[np.float32] = x.astype(np.float32) / np.float32(storage.scale) - np.float32(storage.offset)
    return units


def to_stored(x: "npt.NDArray[Any]", item: ItemSpec) -> "npt.NDArray[Any]":
    """What a graph or a sampler makes, [N, *shape], as it is stored, [N, *stored_shape]: whole numbers rounded half to even and
    kept in their range. What comes in the numbers of the storage only takes its order of axes."""
    import numpy as np

    storage = item.storage
    if not _is_stored(x, item):
        x = (x + storage.offset) * storage.scale
        if np.issubdtype(np.dtype(storage.dtype), np.integer):
            x = np.clip(np.rint(x), storage.low, storage.high)
        x = x.astype(storage.dtype)
    return np.ascontiguousarray(x.transpose(0, *(axis + 1 for axis in storage.axes)))


def _is_stored(x: "npt.NDArray[Any]", item: ItemSpec) -> bool:
    """Whole numbers can only be those of the storage; of floats, both forms are the same type."""
    return bool(x.dtype.kind in "iu" and x.dtype == item.storage.dtype)


def _back(item: ItemSpec) -> tuple[int, ...]:
    """The stored axis of each axis of `item.shape`, with the batch before them."""
    axes = item.storage.axes
    return tuple(axes.index(axis) + 1 for axis in range(len(axes)))
