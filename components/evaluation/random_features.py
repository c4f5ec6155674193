"""Features that nothing was trained for: the extractor's trunk with weights drawn from a seed, standardised on real items.

A training is read by them, so that what is kept of it is not chosen by the network that judges it in the end. Distances on
features of random networks order generators much as those of trained ones do (Lee et al. 2022, arXiv:2208.09218).

N items, D features.
"""

import numpy as np
import numpy.typing as npt
import torch

from components.core.arrays import Stored
from components.core.features import Features, Trunk, features_of
from components.core.item import ItemSpec
from components.evaluation.extractor import INFER_BATCH

SEED = 1  # of the weights


class RandomFeatures:
    """Stored items in, features float32 [N, D] out. `real`: items whose features get mean 0 and variance 1."""

    def __init__(self, real: Stored, item: ItemSpec, *, device: str = "cpu") -> None:
        self.item, self.device = item, device
        self.networks: Features = features_of(item.modality)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            trunk: Trunk = self.networks.trunk(item)
        self.trunk = trunk.eval().requires_grad_(False).to(device)
        self.trunk.standardise(torch.from_numpy(self(real)).to(device))

    @torch.inference_mode()
    def __call__(self, items: Stored) -> npt.NDArray[np.float32]:
        starts = range(0, len(items), INFER_BATCH)
        batches = (self.networks.to_tensor(items[at : at + INFER_BATCH], self.item).to(self.device) for at in starts)
        return np.concatenate([self.trunk.standard(x).float().cpu().numpy() for x in batches])
