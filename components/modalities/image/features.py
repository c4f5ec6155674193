"""The networks that judge images: a small convolutional classifier, and a denoising encoder for data without labels.

B batch, C channels, H height, W width, D features. Images enter as uint8 [B, H, W, C].
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from components.core.arrays import Stored
from components.core.features import FEATURES, Features, Pretrained, Trunk
from components.core.item import ItemSpec
from components.modalities.image.networks.asked import LEAST
from components.modalities.image.networks.efficientnet import EfficientNetLite0
from components.modalities.image.networks.given import Given

SIDE_MAX = 64  # larger images are averaged down to it before the first convolution
LARGE = 32  # pixels a side, above which a step of training costs four times
WIDTHS = (24, 48, 64)


class ImageTrunk(Trunk):
    """x_BCHW to features_BD: convolutions that halve the side until it is 4 or less, then a linear layer on what is left."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous, side = channels, max(height, width)
        while True:
            width_out = WIDTHS[min(len(layers) // 3, len(WIDTHS) - 1)]
            # The first layer of a large image halves it at once: most of the work would be there, and little of the meaning.
            halve = side > 4 and (len(layers) > 0 or side > 16)
            layers += [nn.Conv2d(previous, width_out, 3, 2 if halve else 1, 1), nn.GroupNorm(8, width_out), nn.SiLU()]
            previous, side = width_out, -(-side // 2) if halve else side
            if side <= 4 and len(layers) >= 9:
                break
        self.convolutions = nn.Sequential(*layers)
        with torch.no_grad():
            self.map_shape = tuple(self.convolutions(torch.zeros(1, channels, height, width)).shape[1:])
        self.project = nn.Linear(int(np.prod(self.map_shape)), FEATURES)
        self.keep_standard()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        features_BD: Tensor = self.project(self.convolutions(x_BCHW).flatten(1))
        return features_BD


class ImageDenoiser(nn.Module):
    """A denoising autoencoder (Vincent 2008, 'Extracting and composing robust features'): noisy x_BCHW to clean x_BCHW."""

    def __init__(self, trunk: Trunk, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.shape = (height, width)
        self.grow = nn.Linear(FEATURES, WIDTHS[0] * 16)
        self.middle = nn.Conv2d(WIDTHS[0], WIDTHS[0], 3, 1, 1)
        self.paint = nn.Conv2d(WIDTHS[0], channels, 3, 1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.grow(functional.silu(self.trunk(x_BCHW))).reshape(len(x_BCHW), WIDTHS[0], 4, 4)
        half = (max(4, self.shape[0] // 2), max(4, self.shape[1] // 2))
        h_BCHW = functional.silu(self.middle(functional.interpolate(h_BCHW, size=half)))
        clean_BCHW: Tensor = self.paint(functional.interpolate(h_BCHW, size=self.shape))
        return clean_BCHW


class ImageFeatures(Features):
    """Images of at most SIDE_MAX pixels a side; larger ones are averaged down to it."""

    def to_tensor(self, items: Stored, spec: ItemSpec) -> Tensor:
        """uint8 [B, H, W, C] to float32 [B, C, H, W] in [-1, 1]."""
        # A copy in float32: mapped files are read-only, which torch warns about.
        x_BCHW = torch.from_numpy(np.ascontiguousarray(items.transpose(0, 3, 1, 2), dtype=np.float32)) / 127.5 - 1
        _, height, width = _entering(spec)
        return x_BCHW if x_BCHW.shape[2:] == (height, width) else functional.adaptive_avg_pool2d(x_BCHW, (height, width))

    def trunk(self, spec: ItemSpec) -> Trunk:
        return ImageTrunk(*_entering(spec))

    def denoiser(self, spec: ItemSpec) -> nn.Module:
        entering = _entering(spec)
        return ImageDenoiser(ImageTrunk(*entering), *entering)

    def moved(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        return shifted(x, rng)

    def most_steps(self, spec: ItemSpec) -> int:
        return self.steps_most if max(spec.shape[1:]) <= LARGE else self.steps_most // 2

    def pretrained(self, spec: ItemSpec) -> Pretrained | None:
        return EfficientNetLite0(spec) if min(spec.shape[1:]) >= LEAST else None

    def given(self, path: Path, sha256: str) -> Pretrained:
        return Given(path, sha256)

    def resizer(self, spec: ItemSpec) -> str:
        return "none" if max(spec.shape[1:]) <= SIDE_MAX else f"area-{SIDE_MAX}"


def _entering(spec: ItemSpec) -> tuple[int, int, int]:
    """Channels, height and width of an input."""
    channels, *sides = spec.shape
    height, width = (min(side, SIDE_MAX) for side in sides)
    return channels, height, width


def shifted(x_BCHW: Tensor, rng: np.random.Generator) -> Tensor:
    """The batch moved by up to a sixteenth of its side in each direction (at least one pixel), edges repeated.

    Every kind of image bears a small shift. Flips are left out: they turn digits and letters into something else.
    """
    reach_y, reach_x = (max(1, side // 16) for side in x_BCHW.shape[2:])
    padded = functional.pad(x_BCHW, (reach_x, reach_x, reach_y, reach_y), mode="replicate")
    out = torch.empty_like(x_BCHW)
    tops, lefts = rng.integers(0, 2 * reach_y + 1, len(out)), rng.integers(0, 2 * reach_x + 1, len(out))
    for item, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
        out[item] = padded[item, :, top : top + out.shape[2], left : left + out.shape[3]]
    return out


features = ImageFeatures()
