"""The feature extractor of a dataset: trained here on its train split, pinned by the hash of its weights.

The networks are those of the items' modality (core/features.py). N items, D features, K classes. With labels it is a classifier
and its features are the layer below the logits; without, a denoising encoder. It is deterministic given data, seed and version on
one kind of machine. A folder holds `weights.safetensors` and `extractor.json`, which names the digest of the weights and is
written last: without it nothing counts as written.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from pydantic import model_validator
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn import functional

from components.core.arrays import Stored
from components.core.errors import DataError, RunError
from components.core.features import FEATURES, Features, Trunk, features_of
from components.core.files import sha256_of, write_whole
from components.core.item import AnyItem, ItemSpec, with_item
from components.core.protocols import ItemSplit
from components.core.record import Record

VERSION = 1
WEIGHTS, RECORD = "weights.safetensors", "extractor.json"
BATCH = 128
EPOCHS = 20
STEPS_LEAST = 200
LR_PEAK = 3e-3
NOISE = 0.3  # added to what the denoiser sees, in data units
STANDARD_ITEMS = 2000  # training images that set the scale of the features
INFER_BATCH = 512

Progress = Callable[[str, int, int], None]  # stage, done, total
Kind = Literal["classifier", "denoiser"]


class ExtractorRecord(Record):
    """extractor.json."""

    kind: Kind
    version: int
    dataset_md5: str
    seed: int
    item: AnyItem
    classes: int
    features: int
    steps: int
    weights_sha256: str

    @model_validator(mode="before")
    @classmethod
    def _of_images(cls, value: Any) -> Any:
        return with_item(value)

    @property
    def name(self) -> str:
        return f"genwright-{self.kind}-v{self.version}"


class Extractor:
    """Stored items in, features (and class probabilities, for a classifier) out."""

    def __init__(self, record: ExtractorRecord, network: nn.Module, *, device: str = "cpu") -> None:
        self.record = record
        self.networks: Features = features_of(record.item.modality)
        self.network = network.eval().requires_grad_(False).to(device)
        self.device = device

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> "Extractor":
        """Read an extractor. Raises RunError when it is missing, incomplete or its weights are not those it names."""
        record = ExtractorRecord.read(folder / "extractor.json")
        path = folder / "weights.safetensors"
        if not path.is_file() or sha256_of(path) != record.weights_sha256:
            raise RunError(f"{path}: missing or not the weights that extractor.json names", do="delete the folder and run again")
        network = _network(record.kind, record.item, record.classes, record.seed)
        network.load_state_dict(load_tensors(path.read_bytes()))
        return cls(record, network, device=device)

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def sha256(self) -> str:
        return self.record.weights_sha256

    @property
    def resizer(self) -> str:
        return self.networks.resizer(self.record.item)

    def features(self, items: Stored) -> npt.NDArray[np.float32]:
        """float32 [N, D] for stored items [N, *stored_shape]. Raises RunError for items of another shape."""
        return self._run(items, cast(Trunk, self.network.trunk).standard)

    def probabilities(self, items: Stored) -> npt.NDArray[np.float32] | None:
        """float32 [N, K], or None when the data has no labels."""
        if self.record.kind != "classifier":
            return None
        network = self.network
        return self._run(items, lambda x: functional.softmax(network(x), dim=1))

    def _run(self, items: Stored, compute: Callable[[Tensor], Tensor]) -> npt.NDArray[np.float32]:
        item = self.record.item
        if items.shape[1:] != item.stored_shape or items.dtype != item.storage.dtype:
            raise RunError(
                f"items of {items.dtype} {items.shape[1:]} given to an extractor",
                allowed=f"{item.storage.dtype} {item.stored_shape}",
            )
        with torch.inference_mode():
            parts = [
                compute(self.networks.to_tensor(items[at : at + INFER_BATCH], item).to(self.device)).float().cpu().numpy()
                for at in range(0, len(items), INFER_BATCH)
            ]
        return np.concatenate(parts) if parts else np.empty((0, FEATURES), np.float32)


def train_extractor(
    train: ItemSplit,
    *,
    classes: int,
    dest: Path,
    dataset_md5: str,
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Extractor:
    """Train the extractor of a dataset and write it to `dest`, or read it when it already stands there.

    What stands there is reused when it was made for the same data, seed and version and its weights have the digest that it
    names; otherwise it is made anew. `steps`: by default as many as its size asks for. `classes`
    counts even when a class has no image in this split.
    Raises DataError for a split that is too small.
    """
    kind: Kind = "denoiser" if train.labels is None else "classifier"
    if (found := _reusable(dest, kind=kind, dataset_md5=dataset_md5, seed=seed, device=device)) is not None:
        return found
    if len(train) < 2:
        raise DataError(f"the train split holds {len(train)} items", allowed="2 or more", do="add data")
    networks: Features = features_of(train.item.modality)
    network = _network(kind, train.item, classes, seed).to(device)
    if steps is None:
        steps = int(np.clip(EPOCHS * len(train) // BATCH, STEPS_LEAST, max(STEPS_LEAST, networks.most_steps(train.item))))
    _fit(network, train, steps=steps, seed=seed, device=device, progress=progress)
    weights = save_tensors({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()})
    write_whole(dest / WEIGHTS, weights)
    record = ExtractorRecord(
        kind=kind,
        version=VERSION,
        dataset_md5=dataset_md5,
        seed=seed,
        item=train.item,
        classes=classes,
        features=FEATURES,
        steps=steps,
        weights_sha256=sha256_of(dest / WEIGHTS),
    )
    record.write(dest / RECORD)
    return Extractor(record, network, device=device)


def _reusable(dest: Path, *, kind: Kind, dataset_md5: str, seed: int, device: str) -> Extractor | None:
    """The extractor in `dest` if it is the one wanted and whole."""
    try:
        found = Extractor.load(dest, device=device)
    except RunError:
        return None
    wanted = (kind, VERSION, dataset_md5, seed)
    return found if (found.record.kind, found.record.version, found.record.dataset_md5, found.record.seed) == wanted else None


def _network(kind: Kind, item: ItemSpec, classes: int, seed: int) -> nn.Module:
    """A network with weights drawn from `seed`, without touching the process's own random state."""
    networks: Features = features_of(item.modality)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return networks.classifier(item, classes) if kind == "classifier" else networks.denoiser(item)


def _fit(network: nn.Module, train: ItemSplit, *, steps: int, seed: int, device: str, progress: Progress | None) -> None:
    """AdamW with a one-cycle rate (Smith 2018, arXiv 1803.09820), float32 throughout."""
    rng = np.random.default_rng([seed, 1])
    optimiser = torch.optim.AdamW(network.parameters(), lr=LR_PEAK, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    order: list[int] = []
    size = min(BATCH, len(train))
    network.train()
    for step in range(steps):
        if len(order) < size:
            order = rng.permutation(len(train)).tolist()
        picked, order = np.sort(np.array(order[:size], np.int64)), order[size:]  # sorted: one pass over the disk
        loss = _loss(network, train, picked, rng, device)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress("extractor", step + 1, steps)
    network.eval()
    with torch.no_grad():
        seen = train.take(np.sort(rng.permutation(len(train))[:STANDARD_ITEMS]))
        trunk, to_tensor = cast(Trunk, network.trunk), features_of(train.item.modality).to_tensor
        trunk.standardise(torch.cat([trunk(to_tensor(part, train.item).to(device)) for part in np.array_split(seen, 8)]))


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def _loss(network: nn.Module, train: ItemSplit, picked: npt.NDArray[np.int64], rng: np.random.Generator, device: str) -> Tensor:
    networks: Features = features_of(train.item.modality)
    clean = networks.moved(networks.to_tensor(train.take(picked), train.item), rng)
    if train.labels is not None:
        labels_B = torch.from_numpy(train.labels[picked]).to(device)
        return functional.cross_entropy(network(clean.to(device)), labels_B)
    noise = torch.from_numpy(rng.standard_normal(tuple(clean.shape), dtype=np.float32))
    return functional.mse_loss(network((clean + NOISE * noise).to(device)), clean.to(device))
