"""When two images are the same image: where one is the other moved a little, mirrored, lighter, darker or of another contrast.

N images, H, W pixels, C channels, V variants, D values of a vector, E of a sketch. Large images are first reduced to fewer than
2 SIDE pixels a side. A vector is a window inside of an image, averaged down, each channel less its mean and over its deviation:
two vectors are sqrt(2 - 2 r) apart, r the correlation of their windows, which is what the best gains and offsets leave. The
variants of an image are its windows beside the middle one, and those of its mirror images; of a reduced one by parts of its
pixels, too: a copy that was moved by fewer pixels than a block has would lie between two of them.

A sketch holds the magnitudes of its lowest frequencies, which a shift leaves as they are, and a mirror image swaps in pairs.
"""

import math
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

from components.core.arrays import Stored

SIDE = 32  # pixels a side of a reduced image, at least, where the image has them
SIDE_LEAST = 8  # what is smaller shows something else when it is moved by a pixel or loses its scale: it is itself alone
PARTS = 4  # of a pixel of a reduced image by which its variants are moved, where it has as many pixels
REACH = 16  # an image is moved by up to a sixteenth of its side, at least a pixel
VALUES_MAX = 1024  # of a vector
LEVEL = 255  # the highest
FLAT = 0.02  # of the range: a deviation below it counts as this, so that the noise of a flat image is not blown up
TAPER = 0.25  # of a side at each end fades out, so that what a shift brings in or takes away weighs little
CYCLES = 4.0  # of the highest frequency of a sketch, over the side

Floats = npt.NDArray[np.float32]


def vectors(items: Stored) -> Floats:
    """float32 [N, D], of length 1, or shorter where an image is nearly flat; pixels in [0, 1] where images are tiny."""
    small = _reduced(items)
    reach = _reach(small)
    if reach is None:
        return _plain(small)
    (rows, columns), size = _grid(small, reach)
    middle = small[:, reach[0] : reach[0] + rows * size, reach[1] : reach[1] + columns * size]
    return _unit(_sums(middle.astype(np.float32), size, every=size) / np.float32(size * size))


def variants(items: Stored) -> Floats:
    """The vectors of what is still each image: float32 [V, N, D]; the first are those of `vectors`."""
    small = _reduced(items)
    reach = _reach(small)
    if reach is None:
        return _plain(small)[None]
    (rows, columns), size = _grid(small, reach)
    found = []
    for down, across in _phases(items):
        moved = small if (down, across) == (0, 0) else _reduced(_begun_at(items, down, across))
        for pose in (moved, moved[:, :, ::-1]):
            means = _sums(pose.astype(np.float32, order="C"), size, every=1) / np.float32(size * size)
            for top, left in product(_starts(reach[0], moved=down > 0), _starts(reach[1], moved=across > 0)):
                found.append(_unit(means[:, top : top + rows * size : size, left : left + columns * size : size]))
    return np.stack(found)


def sketches(items: Stored) -> Floats:
    """float32 [N, E], nearly the same for all variants of an image."""
    small = _reduced(items)
    if _reach(small) is None:
        return _plain(small)
    grey = small[..., 0].astype(np.float32)
    for channel in range(1, small.shape[3]):
        grey += small[..., channel]
    rows, columns = (_waves(side) for side in grey.shape[1:])
    weights = np.outer(rows[0], columns[0])
    grey -= np.tensordot(grey, weights, axes=2)[:, None, None] / weights.sum()
    (cc, cs), (sc, ss) = (np.split(part, 2, axis=2) for part in np.split(rows[1] @ grey @ columns[1].T, 2, axis=1))
    one, other = np.hypot(cc - ss, cs + sc), np.hypot(cc + ss, cs - sc)  # at (ky, kx) and at (-ky, kx)
    pairs = np.concatenate([one + other, np.abs(one - other)], axis=1).reshape(len(items), -1)
    least = np.float32(FLAT * LEVEL * math.prod(small.shape[1:]))
    sketch: Floats = pairs / np.maximum(np.linalg.norm(pairs, axis=1, keepdims=True), least)
    return sketch


def _reduced(items: Stored) -> Stored:
    """Averaged over blocks until the longer side has fewer than 2 SIDE pixels, of 0 to 255: [N, H, W, C]."""
    size = max(1, max(items.shape[1:3]) // SIDE)
    if size == 1:
        return items
    height, width = items.shape[1:3]
    padded = np.pad(items, ((0, 0), (0, -height % size), (0, -width % size), (0, 0)), mode="edge")
    return _sums(padded, size, every=size) / np.float32(size * size)


def _sums(items: Stored, size: int, *, every: int) -> Floats:
    """Over blocks of size x size pixels, one beginning at every so many pixels: [N, rows, columns, C]."""
    total = items
    for axis in (1, 2):
        ends = total.shape[axis] - size + 1
        whole = (slice(None),) * axis
        summed = total[(*whole, slice(0, ends, every))].astype(np.float32)
        for at in range(1, size):
            summed += total[(*whole, slice(at, at + ends, every))]
        total = summed
    return total


def _plain(small: Stored) -> Floats:
    values: Floats = small.reshape(len(small), -1).astype(np.float32) / np.float32(LEVEL)
    return values


def _reach(small: Stored) -> tuple[int, int] | None:
    """Pixels that an image is moved by at most, down and across; None where it is too small to be moved."""
    sides = small.shape[1:3]
    if min(sides) < SIDE_LEAST:
        return None
    down, across = (max(1, round(side / REACH)) for side in sides)
    return down, across


def _phases(items: Stored) -> list[tuple[int, int]]:
    """Where the blocks of a reduction may begin, in pixels down and across: at any of the first few, by parts of a block."""
    size = max(1, max(items.shape[1:3]) // SIDE)
    begins = sorted({part * size // PARTS for part in range(PARTS)})
    return [*product(begins, repeat=2)]


def _begun_at(items: Stored, down: int, across: int) -> Stored:
    """Without so many rows and columns; the last ones are repeated in their place."""
    return np.pad(items[:, down:, across:], ((0, 0), (0, down), (0, across), (0, 0)), mode="edge")


def _starts(reach: int, *, moved: bool) -> list[int]:
    """Where a window may begin that is moved by up to the reach: the middle first. `moved`: by a part of a pixel already."""
    return sorted(range(2 * reach + (not moved)), key=lambda start: abs(start - reach))


def _grid(small: Stored, reach: tuple[int, int]) -> tuple[tuple[int, int], int]:
    """Of the window that leaves out the reach on each side: how many blocks, down and across, and of how many pixels a side, so
    that at most VALUES_MAX values are left."""
    height, width = (side - 2 * each for side, each in zip(small.shape[1:3], reach, strict=True))
    size = 1
    while (height // size) * (width // size) * small.shape[3] > VALUES_MAX:
        size += 1
    return (height // size, width // size), size


def _unit(windows: Floats) -> Floats:
    """Each channel less its mean and over its deviation, all over their norm: [N, D]."""
    n, rows, columns, channels = windows.shape
    pixels = windows.reshape(n, rows * columns, channels)
    share = np.full(rows * columns, 1 / (rows * columns), np.float32)  # a product is faster than a mean along a middle axis
    values: Floats = pixels - (share @ pixels)[:, None]
    deviations = np.sqrt(share @ (values * values))
    values /= np.maximum(deviations, FLAT * LEVEL)[:, None] * np.float32(math.sqrt(values[0].size))
    return values.reshape(n, -1)


@cache
def _waves(side: int) -> tuple[Floats, Floats]:
    """The taper, [side], and tapered cosines, then sines, of 0, 1/2, 1, ... CYCLES over the side: [2 F, side]."""
    edge = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)) / (side + 1)
    taper = np.where(edge < TAPER, (1 - np.cos(np.pi * edge / TAPER)) / 2, 1.0)
    phases = 2 * np.pi * np.outer(np.arange(0, CYCLES + 0.25, 0.5), np.arange(side)) / side
    waves = np.concatenate([np.cos(phases), np.sin(phases)]) * taper
    return taper.astype(np.float32), waves.astype(np.float32)
