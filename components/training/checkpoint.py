"""The best weights of a training: written as safetensors with the record that names them, and made a model again."""

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from components.core.errors import RunError
from components.core.files import sha256_of, write_whole
from components.core.records import Artifact, Checkpoint
from components.training.plan import TrainPlan

if TYPE_CHECKING:
    from components.core.family import Family

WEIGHTS = "weights.safetensors"


def save_checkpoint(folder: Path, weights: dict[str, Tensor], record: dict[str, Any]) -> Checkpoint:
    """Write the weights to a folder named by their digest, then the record that names it, then remove what was there before.

    Killed in between, the record still names the weights it was written for.
    """
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    artifact = Artifact(name=WEIGHTS, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    path = weights_path(folder, artifact)
    write_whole(path, data)
    checkpoint = Checkpoint(weights=artifact, **record)
    checkpoint.write(folder / "checkpoint.json")
    for other in folder.iterdir():
        if other.is_dir() and other != path.parent:
            shutil.rmtree(other, ignore_errors=True)
    return checkpoint


def weights_path(folder: Path, weights: Artifact) -> Path:
    """Where `save_checkpoint` puts them below its folder."""
    return folder / weights.sha256[:16] / weights.name


def load_weights(weights: Artifact, path: Path) -> dict[str, Tensor]:
    """The weights at `path`, verified. Raises RunError when they are not those that were written."""
    if not path.exists() or sha256_of(path) != weights.sha256:
        raise RunError(f"{path}: missing or changed since training", do="run produce again to train it anew")
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def restore(checkpoint: Checkpoint, weights: Path) -> "Family":
    """A family with the weights of a checkpoint, which lie at `weights`, verified, in evaluation mode."""
    from components.families import find

    cls = find(checkpoint.family, checkpoint.variant)
    family = cls(cls.recorded(checkpoint.config), checkpoint.spec)
    family.load_state_dict(load_weights(checkpoint.weights, weights))
    return family.eval()


def restore_best(plan: TrainPlan, best: Checkpoint) -> "Family":
    """The same, of what a training of this plan left in its folder."""
    return restore(best, weights_path(Path(plan.folder) / "best", best.weights))
