"""Files of safetensors as one, without torch: the published bytes of each weight, under the name of its part and its own.

A pipeline that draws codes has the weights of its network in one file and those of its autoencoder in another; a checkpoint is
one file. The same files give the same bytes, so that its digest names them.
"""

import json
import math
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple

from components.core.records import Artifact

JOINED = "pipeline.safetensors"
CHUNK = 1 << 24


class _Weight(NamedTuple):
    """Where a weight lies: in a file, from so many bytes on."""

    name: str
    kind: str
    shape: list[int]
    file: Path
    at: int
    size: int


def joined_artifact(files: Mapping[str, Path]) -> Artifact:
    """What `write_joined` would write."""
    digest, size = sha256(), 0
    for piece in _pieces(files):
        digest.update(piece)
        size += len(piece)
    return Artifact(name=JOINED, sha256=digest.hexdigest(), size_bytes=size)


def write_joined(files: Mapping[str, Path], folder: Path) -> Path:
    """The files, by the part that each is of, as one in a folder."""
    path = folder / JOINED
    with path.open("wb") as file:
        for piece in _pieces(files):
            file.write(piece)
    return path


def _pieces(files: Mapping[str, Path]) -> Iterator[bytes]:
    """The header, then each weight: those of the longest numbers first, as readers want them aligned, then by name."""
    found = sorted(_weights(files), key=lambda each: (-_width(each), each.name))
    header, end = {}, 0
    for each in found:
        header[each.name] = {"dtype": each.kind, "shape": each.shape, "data_offsets": [end, end + each.size]}
        end += each.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    opened: dict[Path, BinaryIO] = {}
    try:
        for each in found:
            if each.file not in opened:
                opened[each.file] = each.file.open("rb")
            file = opened[each.file]
            file.seek(each.at)
            for start in range(0, each.size, CHUNK):
                yield file.read(min(CHUNK, each.size - start))
    finally:
        for file in opened.values():
            file.close()


def _weights(files: Mapping[str, Path]) -> Iterator[_Weight]:
    """Those of files that `shapes_of` found to be whole."""
    for part, path in files.items():
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(length))
        for name, entry in entries.items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                yield _Weight(f"{part}.{name}", entry["dtype"], entry["shape"], path, 8 + length + start, end - start)


def _width(weight: _Weight) -> int:
    """Bytes a number."""
    return weight.size // max(1, math.prod(weight.shape))
