"""The folder of a training: what stands in it. Its names are spelt here and nowhere else. Imports nothing heavy.

state.safetensors                   all that the next step depends on, while it trains
work.json                           how much it does (work.py)
drawing.json                        how many items it draws at once (drawing.py)
best/checkpoint.json                the record of the best weights so far
best/DIGEST/weights.safetensors     these weights, in a folder named by the first digits of their SHA-256
best/DIGEST/adapter_*               of LoRA: the adapter that is merged in them, as peft reads it
paused.json                         the record of the best weights when it paused last, as its plan asked (plan.py)
finished.json                       the record of the weights that it ended with
why.txt                             why it ended before its end, in one line
progress.json                       how far it is, for who shows that elsewhere (how_far.py)
"""

from pathlib import Path

from components.core.records import Artifact, Checkpoint

STATE, WORK, DRAWING, FINISHED = "state.safetensors", "work.json", "drawing.json", "finished.json"
PAUSED = "paused.json"
WHY, PROGRESS = "why.txt", "progress.json"
BEST, CHECKPOINT, WEIGHTS = "best", "checkpoint.json", "weights.safetensors"
SAVED = (
    STATE,
    WORK,
    DRAWING,
    f"{BEST}/{CHECKPOINT}",
    f"{BEST}/*/{WEIGHTS}",
    f"{BEST}/*/adapter_*",
)  # what another machine goes on with


def kept_files(folder: Path, kept: Checkpoint) -> tuple[Path, ...]:
    """Where a training in `folder` keeps its best weights, and the files beside them."""
    weights = best_weights(folder, kept.weights)
    return (weights, *(weights.with_name(file.name) for file in kept.adapter))


def best_weights(folder: Path, weights: Artifact) -> Path:
    """Where a training in `folder` keeps its best weights."""
    return weights_path(folder / BEST, weights)


def weights_path(best: Path, weights: Artifact) -> Path:
    """The same below its folder `best`."""
    return best / weights.sha256[:16] / weights.name
