"""The networks that judge a dataset version: its extractor, the judge of its captions, and those that only its proofs use. Each
is trained once, and kept in the store for all.

Their seed is not the brief's: numbers of every brief on the same data compare, because one yardstick measures them all.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core import store_keys
from components.core.protocols import CaptionedSplit, ItemSplit
from components.core.records import Artifact, Condition, Dataset, EmbeddingCondition, LocalDataset
from components.pipeline.backends import Backends
from components.pipeline.shared import trained_once

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor
    from components.evaluation.judge import Judge
    from components.evaluation.unseen import Unseen


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


def load_unseen(
    given: Artifact | None, reference: ItemSplit, dataset: LocalDataset, backends: Backends, *, device: str
) -> "Unseen":
    """What only proofs of a dataset version judge by: the network of a brief (`given`), one that its modality names, or two that
    are trained on halves of the held-out items, when there are none yet.

    Nothing but a proof may call it (tests/evaluation/test_unseen.py).
    """
    from components.core.features import features_of
    from components.evaluation.extractor import RECORD, VERSION, WEIGHTS, Extractor, train_extractor
    from components.evaluation.unseen import HALVES, SEEDS, Unseen, learnt_by, steps_of

    networks, folder = features_of(dataset.item.modality), extractor_folder(dataset, backends)
    network = networks.pretrained(dataset.item) if given is None else None
    if given is not None:
        network = networks.given(backends.workspace.open(given), given.sha256)
    if network is not None:
        return Unseen.pretrained(network, device=device, cache=folder / "proof")

    def trained(part: int) -> Extractor:
        learnt, dest = learnt_by(reference, part), folder / f"proof-{part}"
        own: dict[str, Any] = {"dataset_md5": dataset.md5, "classes": len(dataset.classes), "seed": SEEDS[part]}
        steps = steps_of(len(learnt), networks.most_steps(learnt.item))
        return trained_once(
            lambda: train_extractor(learnt, dest=dest, steps=steps, **own),
            dest,
            backends,
            key=store_keys.proof_network(dataset.md5, part, VERSION),
            weights=WEIGHTS,
            card=RECORD,
        )

    return Unseen.trained([trained(part) for part in range(HALVES)])
