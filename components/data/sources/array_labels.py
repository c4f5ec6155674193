"""Labels in an npz: one whole number or text an image, [N], or a row with one 1 among 0, [N, K]. Pickles are never read.

N images, K classes.
"""

import math
import re
import zipfile
from collections.abc import Iterable
from typing import IO

import numpy as np
import numpy.typing as npt

from components.core.errors import DataError
from components.data.sources.label_values import GO_ON
from components.data.sources.names import shown

HELD = "[N] of whole numbers or text, or [N, K] with one 1 in each row"
NAMED = re.compile(r"(?:.*[-_.])?(?:labels?|targets?|class|cls|y)(?:[-_.].*)?", re.IGNORECASE)
ROWS = 4096  # looked at together
Array = npt.NDArray[np.generic]


def read_array_labels(archive: zipfile.ZipFile, count: int, *, where: str) -> list[str]:
    """The class of each image, from the array `labels`. Raises DataError for labels that cannot be read."""
    shape, dtype = _header(archive, "labels.npy")
    what = f"{where}: labels are {dtype} {list(shape)} for {count} images"
    if dtype.hasobject:
        raise DataError(f"{where}: labels holds Python objects", allowed=HELD, do=f"write labels.astype(str); {GO_ON}")
    if shape[:1] != (count,) or len(shape) > 2:
        raise DataError(what, allowed=HELD, do=f"write one label an image; {GO_ON}")
    classes = _classes(_read(archive, "labels.npy"))
    if classes is None:
        raise DataError(what, allowed=HELD, do=f"write one label an image; {GO_ON}")
    if "" in classes:
        raise DataError(f"{where}: label {classes.index('')} is empty", allowed=HELD, do=f"write one label an image; {GO_ON}")
    return classes


def check_others(archive: zipfile.ZipFile, names: Iterable[str], count: int, *, where: str) -> None:
    """Raises DataError for an array of one label an image, or of a name that says so, where none is called labels."""
    for name in names:
        if name.endswith(".npy") and _may_be_labels(archive, name, count):
            raise DataError(
                f"{where}: array {shown(name[:-4])!r} may be the labels of its {count} images; rename it labels, or leave it out",
                allowed=f"labels {HELD}",
                do=GO_ON,
            )


def _may_be_labels(archive: zipfile.ZipFile, name: str, count: int) -> bool:
    shape, dtype = _header(archive, name)
    if shape[:1] != (count,) or len(shape) > 2:
        return False
    if NAMED.fullmatch(name[:-4]) or dtype.hasobject or dtype.kind in "iuUSb":
        return True
    return dtype.kind == "f" and _classes(_read(archive, name)) is not None


def _classes(labels: Array) -> list[str] | None:
    """None for what is not one label an image."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        return _of_rows(labels)
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels).all() and (labels == np.rint(labels)).all()
        return [str(int(label)) for label in labels.tolist()] if whole else None
    if labels.dtype.kind == "S":
        return [shown(label.decode("utf-8", "surrogateescape")) for label in labels.tolist()]
    return [shown(str(label)) for label in labels.tolist()] if labels.dtype.kind in "iuU" else None


def _of_rows(labels: Array) -> list[str] | None:
    """The place of the one 1 in each row."""
    if labels.dtype.kind not in "iufb":
        return None
    places: list[str] = []
    for at in range(0, len(labels), ROWS):
        rows = labels[at : at + ROWS]
        ones = rows == 1
        if not ((ones | (rows == 0)).all() and (ones.sum(1) == 1).all()):
            return None
        places += map(str, ones.argmax(1).tolist())
    return places


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, Fortran order and kind of the array that begins here."""
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return reader(stream)


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    with archive.open(name) as stream:
        shape, _, dtype = read_header(stream)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > archive.getinfo(name).file_size:
        raise ValueError(f"{name.removesuffix('.npy')} are {list(shape)}, which does not fit the file")
    return shape, dtype


def _read(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(name) as stream:
        found: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return found
