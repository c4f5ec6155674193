"""The feature extractor of a dataset: trained here on its train split, pinned by the hash of its weights.

N images, D features, K classes. With labels it is a classifier and its features are the layer below the logits; without, a
denoising encoder. It is deterministic given data, seed and version on one kind of machine. A folder holds `weights.safetensors`
and `extractor.json`, which names the digest of the weights and is written last: without it nothing counts as written.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.nn import functional

from components.core.errors import DataError, RunError
from components.core.files import sha256_of, write_whole
from components.core.protocols import Images, ImageSplit
from components.core.record import Record
from components.evaluation.network import FEATURES, Classifier, Denoiser, resizer, shifted, to_tensor

VERSION = 1
WEIGHTS, CARD = "weights.safetensors", "extractor.json"
BATCH = 128
EPOCHS = 20
STEPS = (200, 700)  # at least and at most; half the most for images above LARGE pixels a side, where a step costs four times
LARGE = 32
LR_PEAK = 3e-3
NOISE = 0.3  # added to what the denoiser sees, in data units
STANDARD_ITEMS = 2000  # training images that set the scale of the features
INFER_BATCH = 512

Progress = Callable[[str, int, int], None]  # stage, done, total
Kind = Literal["classifier", "denoiser"]


class ExtractorCard(Record):
    """extractor.json."""

    kind: Kind
    version: int
    dataset_md5: str
    seed: int
    shape: tuple[int, int, int]  # height, width, channels
    classes: int
    features: int
    steps: int
    weights_sha256: str

    @property
    def name(self) -> str:
        return f"genwright-{self.kind}-v{self.version}"


class Extractor:
    """Images in, features (and class probabilities, for a classifier) out."""

    def __init__(self, card: ExtractorCard, network: Classifier | Denoiser, *, device: str = "cpu") -> None:
        self.card = card
        self.network = network.eval().requires_grad_(False).to(device)
        self.device = device

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> "Extractor":
        """Read an extractor. Raises RunError when it is missing, incomplete or its weights are not those it names."""
        card = ExtractorCard.read(folder / "extractor.json")
        path = folder / "weights.safetensors"
        if not path.is_file() or sha256_of(path) != card.weights_sha256:
            raise RunError(f"{path}: missing or not the weights that extractor.json names", do="delete the folder and run again")
        network = _network(card.kind, card.shape, card.classes, card.seed)
        network.load_state_dict(load_tensors(path.read_bytes()))
        return cls(card, network, device=device)

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def sha256(self) -> str:
        return self.card.weights_sha256

    @property
    def resizer(self) -> str:
        return resizer(*self.card.shape[:2])

    def features(self, images: Images) -> npt.NDArray[np.float32]:
        """float32 [N, D] for uint8 images [N, H, W, C]. Raises RunError for images of another shape."""
        return self._run(images, self.network.trunk.standard)

    def probabilities(self, images: Images) -> npt.NDArray[np.float32] | None:
        """float32 [N, K], or None when the data has no labels."""
        if not isinstance(self.network, Classifier):
            return None
        network = self.network
        return self._run(images, lambda x: functional.softmax(network(x), dim=1))

    def _run(self, images: Images, compute: Callable[[Tensor], Tensor]) -> npt.NDArray[np.float32]:
        if images.shape[1:] != self.card.shape or images.dtype != np.uint8:
            raise RunError(
                f"images of {images.dtype} {images.shape[1:]} given to an extractor", allowed=f"uint8 {self.card.shape}"
            )
        with torch.inference_mode():
            parts = [
                compute(to_tensor(images[at : at + INFER_BATCH]).to(self.device)).float().cpu().numpy()
                for at in range(0, len(images), INFER_BATCH)
            ]
        return np.concatenate(parts) if parts else np.empty((0, FEATURES), np.float32)


def train_extractor(
    train: ImageSplit,
    *,
    classes: int,
    dest: Path,
    dataset_md5: str,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Extractor:
    """Train the extractor of a dataset and write it to `dest`, or read it when it already stands there.

    What stands there is reused when it was made for the same data, seed and version and its weights have the digest that it
    names; otherwise it is made anew. `classes` counts even when a class has no image in this split.
    Raises DataError for a split that is too small.
    """
    kind: Kind = "denoiser" if train.labels is None else "classifier"
    if (standing := _standing(dest, kind=kind, dataset_md5=dataset_md5, seed=seed, device=device)) is not None:
        return standing
    if len(train) < 2:
        raise DataError(f"the train split holds {len(train)} images", allowed="2 or more", do="add images")
    height, width, channels = train.take(np.zeros(1, np.int64)).shape[1:]
    network = _network(kind, (height, width, channels), classes, seed).to(device)
    least, most = STEPS if max(height, width) <= LARGE else (STEPS[0], max(STEPS[0], STEPS[1] // 2))
    steps = int(np.clip(EPOCHS * len(train) // BATCH, least, most))
    _fit(network, train, steps=steps, seed=seed, device=device, progress=progress)
    weights = save_tensors({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()})
    write_whole(dest / WEIGHTS, weights)
    card = ExtractorCard(
        kind=kind,
        version=VERSION,
        dataset_md5=dataset_md5,
        seed=seed,
        shape=(height, width, channels),
        classes=classes,
        features=FEATURES,
        steps=steps,
        weights_sha256=sha256_of(dest / WEIGHTS),
    )
    card.write(dest / CARD)
    return Extractor(card, network, device=device)


def _standing(dest: Path, *, kind: Kind, dataset_md5: str, seed: int, device: str) -> Extractor | None:
    """The extractor in `dest` if it is the one wanted and whole."""
    try:
        found = Extractor.load(dest, device=device)
    except RunError:
        return None
    wanted = (kind, VERSION, dataset_md5, seed)
    return found if (found.card.kind, found.card.version, found.card.dataset_md5, found.card.seed) == wanted else None


def _network(kind: Kind, shape: tuple[int, int, int], classes: int, seed: int) -> Classifier | Denoiser:
    """A network with weights drawn from `seed`, without touching the process's own random state."""
    probe = to_tensor(np.zeros((1, *shape), np.uint8))
    channels, height, width = probe.shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(channels, height, width, classes) if kind == "classifier" else Denoiser(channels, height, width)


def _fit(
    network: Classifier | Denoiser, train: ImageSplit, *, steps: int, seed: int, device: str, progress: Progress | None
) -> None:
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
        network.trunk.standardise(torch.cat([network.trunk(to_tensor(part).to(device)) for part in np.array_split(seen, 8)]))


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def _loss(
    network: Classifier | Denoiser, train: ImageSplit, picked: npt.NDArray[np.int64], rng: np.random.Generator, device: str
) -> Tensor:
    clean_BCHW = shifted(to_tensor(train.take(picked)), rng)
    if train.labels is not None:
        labels_B = torch.from_numpy(train.labels[picked]).to(device)
        return functional.cross_entropy(network(clean_BCHW.to(device)), labels_B)
    noise = torch.from_numpy(rng.standard_normal(clean_BCHW.shape, dtype=np.float32))
    return functional.mse_loss(network((clean_BCHW + NOISE * noise).to(device)), clean_BCHW.to(device))
