"""The best weights of a training: written as safetensors with the record that names them, and made a model again."""

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from components.core.errors import RunError
from components.core.files import sha256_of, write_whole
from components.core.records import Artifact, Checkpoint
from components.training.folder import CHECKPOINT, WEIGHTS, best_weights, weights_path
from components.training.foreign.weights import named_as_ours
from components.training.kept import Kept

if TYPE_CHECKING:
    from components.core.family import Family


class HasFolder(Protocol):
    """The plan of a training, as far as it is asked here: plan.py imports the starts, and these this module."""

    @property
    def folder(self) -> str: ...


def save_checkpoint(folder: Path, kept: Kept, record: dict[str, Any]) -> Checkpoint:
    """Write the weights, and the files beside them, to a folder named by the weights' digest, then the record that names it, then
    remove what was there before.

    Killed in between, the record still names the weights it was written for.
    """
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in kept.weights.items()})
    artifact = _artifact(WEIGHTS, data)
    path = weights_path(folder, artifact)
    write_whole(path, data)
    for name, content in kept.files.items():
        write_whole(path.with_name(name), content)
    checkpoint = Checkpoint(weights=artifact, adapter=tuple(map(_artifact, kept.files, kept.files.values())), **record)
    checkpoint.write(folder / CHECKPOINT)
    for other in folder.iterdir():
        if other.is_dir() and other != path.parent:
            shutil.rmtree(other, ignore_errors=True)
    return checkpoint


def _artifact(name: str, data: bytes) -> Artifact:
    return Artifact(name=name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def load_weights(weights: Artifact, path: Path) -> dict[str, Tensor]:
    """The weights at `path`, verified. Raises RunError when they are not those that were written."""
    if not path.exists() or sha256_of(path) != weights.sha256:
        raise RunError(f"{path}: missing or changed since training", do="run produce again to train it anew")
    with safe_open(path, framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    return found if weights.name == WEIGHTS else named_as_ours(found, file=weights.name)  # of a model made elsewhere


def restore(checkpoint: Checkpoint, weights: Path) -> "Family":
    """A family with the weights of a checkpoint, which lie at `weights`, verified, in evaluation mode."""
    from components.families import find

    cls = find(checkpoint.family, checkpoint.variant)
    family = cls(cls.recorded(checkpoint.config), checkpoint.spec)
    family.load_state_dict(load_weights(checkpoint.weights, weights))
    return family.eval()


def restore_best(plan: HasFolder, best: Checkpoint) -> "Family":
    """The same, of what a training of this plan left in its folder."""
    return restore(best, best_weights(Path(plan.folder), best.weights))
