"""The feature extractor of a dataset version, and the judge of its captions: each trained once, and kept in the store for all.

Their seed is not the brief's: numbers of every brief on the same data compare, because one yardstick measures them all.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from components.core import store_keys
from components.core.protocols import CaptionedSplit
from components.core.records import Condition, Dataset, EmbeddingCondition, LocalDataset
from components.pipeline.backends import Backends
from components.pipeline.shared import trained_once

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor
    from components.evaluation.judge import Judge


def extractor_folder(dataset: Dataset, backends: Backends) -> Path:
    """Where it stands on this machine."""
    return backends.home.extractor(dataset.md5)


def load_extractor(dataset: LocalDataset, backends: Backends) -> "Extractor":
    """The extractor of a dataset version, trained when there is none yet."""
    from components.data.shards import open_split
    from components.evaluation.extractor import RECORD, VERSION, WEIGHTS, train_extractor

    dest = extractor_folder(dataset, backends)

    def train() -> "Extractor":
        split = open_split(dataset.path, "train")
        return train_extractor(split, classes=len(dataset.classes), dest=dest, dataset_md5=dataset.md5)

    return trained_once(train, dest, backends, key=store_keys.extractor(dataset.md5, VERSION), weights=WEIGHTS, card=RECORD)


def load_judge(train: CaptionedSplit, condition: Condition | None, dataset: LocalDataset, backends: Backends) -> "Judge | None":
    """The judge of a dataset's captions by the encoder of `condition`, trained when there is none yet; None where no text asks.

    `train`: the training split, opened with the embeddings of that encoder.
    """
    if not isinstance(condition, EmbeddingCondition):
        return None
    from components.evaluation.judge import RECORD, VERSION, WEIGHTS, train_judge

    text = condition.model_copy(update={"negative": False})
    name = hashlib.sha256(f"{text.encoder} {text.length} {text.features}".encode()).hexdigest()[:16]
    dest = extractor_folder(dataset, backends) / f"judge-{name}"
    return trained_once(
        lambda: train_judge(train, text, dest=dest, dataset_md5=dataset.md5),
        dest,
        backends,
        key=store_keys.judge(dataset.md5, name, VERSION),
        weights=WEIGHTS,
        card=RECORD,
    )
