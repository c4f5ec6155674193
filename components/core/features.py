"""The contract of what judges items of a modality: networks that are trained on a dataset, whose features are compared. Found by
name: components/modalities/NAME/features.py defines `features`. Imports torch.

B batch, D features, K classes. An input is what `to_tensor` makes of stored items.
"""

import importlib
import math
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from components.core.arrays import Stored
from components.core.errors import DataError
from components.core.item import MODALITIES, ItemSpec

FEATURES = 64


class Trunk(nn.Module, ABC):
    """An input to features_BD, with what makes them comparable."""

    mean_D: Tensor
    std_D: Tensor

    def keep_standard(self) -> None:
        """Make room for the standard; to be called once the layers stand."""
        self.register_buffer("mean_D", torch.zeros(FEATURES))
        self.register_buffer("std_D", torch.ones(FEATURES))

    def standard(self, x: Tensor) -> Tensor:
        """Features with mean 0 and variance 1 over the training items, once `standardise` has seen some: what is compared."""
        features_BD: Tensor = (self(x) - self.mean_D) / self.std_D
        return features_BD

    def standardise(self, features_ND: Tensor) -> None:
        """Take these raw features for the standard, so that no dimension rules a distance by its scale alone."""
        self.mean_D.copy_(features_ND.mean(dim=0))
        self.std_D.copy_(features_ND.std(dim=0).clamp_min(1e-3))


class Classifier(nn.Module):
    """The trunk and one linear layer: logits_BK."""

    def __init__(self, trunk: Trunk, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits_BK: Tensor = self.head(functional.silu(self.trunk(x)))
        return logits_BK


class Denoiser(nn.Module):
    """A denoising autoencoder (Vincent 2008, 'Extracting and composing robust features'): a noisy input to a clean one, by one
    linear layer behind the trunk. For data without labels."""

    def __init__(self, trunk: Trunk, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.trunk = trunk
        self.shape = shape
        self.head = nn.Linear(FEATURES, math.prod(shape))

    def forward(self, x: Tensor) -> Tensor:
        clean: Tensor = self.head(functional.silu(self.trunk(x))).reshape(len(x), *self.shape)
        return clean


class Pretrained(ABC):
    """A network that was trained on other data, elsewhere, and is the same for everybody. Only a proof asks it.

    `samples_most`: that it is asked of each artifact, where it takes its time, `real_most` items of each split likewise; None:
    all. `frechet`: what the Frechet distance of its features is called, of published weights that have a name for it.
    """

    name: str  # with its version, and the size that it brings items to
    samples_most: int | None = None
    real_most: int | None = None
    frechet: str | None = None

    @property
    @abstractmethod
    def sha256(self) -> str:
        """Of its weights."""

    @abstractmethod
    def features(self, items: Stored, *, device: str = "cpu") -> npt.NDArray[np.float32]:
        """float32 [N, D] of stored items."""


class Features(ABC):
    """The networks of one modality."""

    steps_most = 700  # of training

    @abstractmethod
    def to_tensor(self, items: Stored, spec: ItemSpec) -> Tensor:
        """Stored items as inputs, float32 [B, ...] about [-1, 1]."""

    @abstractmethod
    def trunk(self, spec: ItemSpec) -> Trunk:
        """A new one, for inputs of this spec."""

    def classifier(self, spec: ItemSpec, classes: int) -> nn.Module:
        """For data with labels: a module with a `trunk` that makes logits_BK."""
        return Classifier(self.trunk(spec), classes)

    def denoiser(self, spec: ItemSpec) -> nn.Module:
        """For data without: a module with a `trunk` that makes the clean input."""
        shape = self.to_tensor(np.zeros((1, *spec.stored_shape), spec.storage.dtype), spec).shape[1:]
        return Denoiser(self.trunk(spec), tuple(shape))

    def moved(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """The batch after a small change that every item of this kind bears; none by default."""
        return x

    def most_steps(self, spec: ItemSpec) -> int:
        """Of the training, whatever the size of the data."""
        return self.steps_most

    def pretrained(self, spec: ItemSpec) -> Pretrained | None:
        """The network by which a proof judges items of this spec besides, which nothing else may use; None: it trains networks of
        these on held-out items (evaluation/unseen.py)."""
        return None

    def given(self, path: Path, sha256: str) -> Pretrained:
        """The one in a file that a brief names, of this digest. Raises DataError for what is none."""
        raise DataError("proof.network: given for items that take none", do="leave it out")

    def resizer(self, spec: ItemSpec) -> str:
        """What `to_tensor` does to the size of items, as it stands in a protocol."""
        return "none"


def features_of(modality: str) -> Features:
    """Those of this modality."""
    found: Features = importlib.import_module(f"{MODALITIES}.{modality}.features").features
    return found
