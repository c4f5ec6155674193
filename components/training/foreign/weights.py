"""The weights of a model that was made elsewhere: one file of safetensors, whole, that holds the weights of its network.

A pickle can run anything when it is read, so .bin and .pt files are never opened. The header of a safetensors file says the name,
type and shape of each weight; it is read without torch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from components.core.errors import BriefError, DataError
from components.core.files import sha256_of
from components.core.record import first_complaint
from components.core.records import Artifact, Checkpoint
from components.training.foreign.names import PREFIX, renamed

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "diffusion_pytorch_model.safetensors"
HALVES = "diffusion_pytorch_model.fp16.safetensors"  # what publishers write beside it or alone
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
HEADER_MAX = 100_000_000
Shapes = Mapping[str, tuple[int, ...]]


def find_weights(folder: Path, *, where: str) -> Path:
    """The file of the weights. Raises DataError where there is none that may be read."""
    for name in (WEIGHTS, HALVES):
        if (folder / name).is_file():
            return folder / name
    if index := next(folder.glob("*.safetensors.index.json"), None):
        raise DataError(f"{where}: its weights lie in several files ({index.name})", allowed=f"one {WEIGHTS}")
    if pickle := next((path for pattern in PICKLES for path in sorted(folder.glob(pattern))), None):
        what = f"{where}: its weights are a pickle ({pickle.name}), which can run any code when it is read"
        raise DataError(what, allowed="safetensors", do="save it again with diffusers: save_pretrained(FOLDER)")
    raise DataError(f"{where}: no weights in it", allowed=WEIGHTS)


def shapes_of(path: Path, *, where: str) -> Shapes:
    """The shape of each weight in a file, by the name that this version of diffusers has for it. Raises DataError for a file that
    is none of safetensors, or is not whole."""
    size = path.stat().st_size
    damaged = f"{where}: {path.name} is damaged or cut short"
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(HEADER_MAX, size - 8):
            raise DataError(f"{damaged}: {size:,} bytes are no safetensors file", do="fetch it again")
        header = file.read(length)
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise DataError(f"{damaged}: its header cannot be read", do="fetch it again") from error
    if size != 8 + length + end:
        raise DataError(f"{damaged}: it has {size:,} bytes, and its header tells of {8 + length + end:,}", do="fetch it again")
    return renamed(shapes)


def weights_artifact(path: Path) -> Artifact:
    """The file as an artifact: as it was published, byte for byte."""
    return Artifact(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size)


def check_weights(checkpoint: Checkpoint, path: Path, *, where: str) -> None:
    """Raises DataError unless the file has the weights of its network, each of its shape. Imports torch."""
    import torch

    from components.families import find

    found = shapes_of(path, where=where)
    cls = find(checkpoint.family, checkpoint.variant)
    try:
        with torch.device("meta"):
            made = cls(cls.recorded(checkpoint.config), checkpoint.spec)
    except ValidationError as error:
        raise DataError(f"{where}: its configs cannot be: {first_complaint(error)}") from error
    except BriefError as error:
        raise DataError(f"{where}: {error}") from error
    wanted = {name.removeprefix(PREFIX): tuple(value.shape) for name, value in made.state_dict().items()}
    if missing := sorted(wanted.keys() - found.keys()):
        raise DataError(f"{where}: {path.name} lacks {_some(missing)} of its network", do="save it again with diffusers")
    if unexpected := sorted(found.keys() - wanted.keys()):
        raise DataError(
            f"{where}: {path.name} holds {_some(unexpected)}, of which its network has none", do="mend its config.json"
        )
    if other := sorted(name for name, shape in wanted.items() if found[name] != shape):
        name = other[0]
        raise DataError(
            f"{where}: {path.name}: {name} is {list(found[name])}, and its config.json makes it {list(wanted[name])}",
            do="mend its config.json",
        )


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more weights"


def named_as_ours(weights: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Weights of a published file by the names that the family here has for them, in single precision."""
    return {PREFIX + name: value.float() for name, value in renamed(weights).items()}
