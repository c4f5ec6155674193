"""The weights of a model that was made elsewhere: a file of safetensors for each part that has any, whole.

A pickle can run anything when it is read, so .bin and .pt files are never opened. The header of a safetensors file says the name,
type and shape of each weight; it is read without torch.
"""

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from components.core.errors import BriefError, DataError
from components.core.files import sha256_of
from components.core.record import first_complaint
from components.core.records import Artifact, Checkpoint
from components.training.foreign.joined import JOINED, joined_artifact, write_joined
from components.training.foreign.names import NONE, STEERED, ours, renamed

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "diffusion_pytorch_model.safetensors"
HALVES = "diffusion_pytorch_model.fp16.safetensors"  # what publishers write beside it or alone
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
HEADER_MAX = 100_000_000
BYTES_OF = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # of a number, by its type; weights of other types are none to learn on
Shapes = Mapping[str, tuple[int, ...]]
Files = Mapping[str, Path]  # by the part of the pipeline that each is of


def find_weights(folder: Path, *, where: str, names: Sequence[str] = (WEIGHTS, HALVES)) -> Path:
    """The file of a part's weights, the first of some names. Raises DataError where there is none that may be read."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if index := next(folder.glob("*.safetensors.index.json"), None):
        raise DataError(f"{where}: its weights lie in several files ({index.name})", allowed=f"one {names[0]}")
    if pickle := next((path for pattern in PICKLES for path in sorted(folder.glob(pattern))), None):
        what = f"{where}: its weights are a pickle ({pickle.name}), which can run any code when it is read"
        raise DataError(what, allowed="safetensors", do="save it again with diffusers: save_pretrained(FOLDER)")
    raise DataError(f"{where}: no weights in its {folder.name}", allowed=names[0])


def shapes_of(files: Files, *, where: str) -> Shapes:
    """The shape of each weight, by the name that this version of diffusers has for it; of several parts after that of its part.
    Raises DataError for a file that is none of safetensors, or is not whole."""
    found = {part: _shapes(path, where=where) for part, path in files.items()}
    if len(found) == 1:
        return next(iter(found.values()))
    return {f"{part}.{name}": shape for part, shapes in found.items() for name, shape in shapes.items()}


def _shapes(path: Path, *, where: str) -> Shapes:
    size = path.stat().st_size
    damaged = f"{where}: {path.name} is damaged or cut short"
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(HEADER_MAX, size - 8):
            raise DataError(f"{damaged}: {size:,} bytes are no safetensors file", do="fetch it again")
        header = file.read(length)
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
        types = {name: str(entry["dtype"]) for name, entry in entries.items()}
        places = {name: tuple(map(int, entry["data_offsets"])) for name, entry in entries.items()}
        end = max((at[1] for at in places.values()), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise DataError(f"{damaged}: its header cannot be read", do="fetch it again") from error
    if size != 8 + length + end:
        raise DataError(f"{damaged}: it has {size:,} bytes, and its header tells of {8 + length + end:,}", do="fetch it again")
    if odd := next((name for name, kind in types.items() if kind not in BYTES_OF), None):
        what = f"{where}: {path.name}: {odd} is of type {types[odd]}"
        raise DataError(what, allowed=", ".join(BYTES_OF), do="save it again with diffusers: save_pretrained(FOLDER)")
    expected = 0
    for name, (begin, until) in sorted(places.items(), key=lambda each: each[1]):
        if begin != expected or until - begin != BYTES_OF[types[name]] * prod(shapes[name]):
            raise DataError(f"{damaged}: {name} does not lie where its header says", do="fetch it again")
        expected = until
    return renamed(shapes)


def weights_artifact(files: Files) -> Artifact:
    """The weights as an artifact: of one part the file as it was published, byte for byte; of several their bytes in one file."""
    if len(files) > 1:
        return joined_artifact(files)
    (path,) = files.values()
    return Artifact(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size)


def as_one(files: Files, folder: Path) -> Path:
    """The file that is this artifact; one that has to be written comes into the folder."""
    return next(iter(files.values())) if len(files) == 1 else write_joined(files, folder)


def check_weights(checkpoint: Checkpoint, files: Files, *, where: str) -> None:
    """Raises DataError unless the files have the weights of their networks, each of its shape and finite. Imports torch."""
    import torch

    from components.families import find

    shapes = shapes_of(files, where=where)
    named = ours(shapes, joined=len(files) > 1)
    found = {named[name]: shape for name, shape in shapes.items()}
    file = " and ".join(f"{part}/{path.name}" for part, path in files.items() if part != NONE)
    cls = find(checkpoint.family, checkpoint.variant)
    try:
        with torch.device("meta"):
            made = cls(cls.recorded(checkpoint.config), checkpoint.spec)
    except ValidationError as error:
        raise DataError(f"{where}: its configs cannot be: {first_complaint(error)}") from error
    except BriefError as error:
        raise DataError(f"{where}: {error}") from error
    wanted = {name: tuple(value.shape) for name, value in made.state_dict().items()}
    if missing := sorted(wanted.keys() - found.keys()):
        raise DataError(f"{where}: {file} lacks {_some(missing)} of its network", do="save it again with diffusers")
    if unexpected := sorted(found.keys() - wanted.keys()):
        raise DataError(f"{where}: {file} holds {_some(unexpected)}, of which its network has none", do="mend its config.json")
    if other := sorted(name for name, shape in wanted.items() if found[name] != shape):
        name = other[0]
        raise DataError(
            f"{where}: {file}: {_theirs(name)} is {list(found[name])}, and its config.json makes it {list(wanted[name])}",
            do="mend its config.json",
        )
    for part, path in files.items():
        _check_finite(path, named=f"{where}: {part}/{path.name}")


def _check_finite(path: Path, *, named: str) -> None:
    """Numbers that are not would end the training at its first step, or be served."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            weight = file.get_tensor(name)
            if odd := int((~weight.isfinite()).sum()):
                raise DataError(
                    f"{named}: {name} holds {odd:,} of {weight.numel():,} numbers that are NaN or infinite",
                    do="fetch it again, or take weights of before its training broke",
                )


def _some(names: list[str]) -> str:
    first = _theirs(names[0])
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more weights"


def _theirs(name: str) -> str:
    """Without the prefix that it has here."""
    own = name.partition(".net.")[2] or name
    return own.partition(".")[2] if own.startswith(tuple(f"{part}." for part in STEERED)) else own


def named_as_ours(weights: "dict[str, Tensor]", *, file: str = WEIGHTS) -> "dict[str, Tensor]":
    """Weights of a published file by the names that the family here has for them, in single precision."""
    known = renamed(weights)
    named = ours(known, joined=file == JOINED)
    return {named[name]: value.float() for name, value in known.items()}
