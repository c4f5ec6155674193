"""Building blocks that several families share: pre-activation residual blocks and resizing by two, for any side.

B batch, C channels, H height, W width.
"""

from torch import Tensor, nn

from components.core.records import DataSpec
from components.families.images import image_of, resized


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with 16 channels a group where they divide (Wu & He 2018, arXiv:1803.08494)."""
    return nn.GroupNorm(max(1, channels // 16), channels)


def halvings(height: int, width: int, *, smallest: int = 4) -> list[tuple[int, int]]:
    """Sides from the image down to about `smallest`, each half of the one before, rounded up: 28 -> [28, 14, 7, 4]."""
    sizes = [(height, width)]
    while min(sizes[-1]) > smallest:
        h, w = sizes[-1]
        sizes.append(((h + 1) // 2, (w + 1) // 2))
    return sizes


def folded(spec: DataSpec, patch: int) -> DataSpec:
    """What a network sees of images whose squares of `patch` x `patch` pixels enter as one place of so many more channels."""
    sides = {"height": -(-image_of(spec).height // patch), "width": -(-image_of(spec).width // patch)}
    return resized(spec, channels=image_of(spec).channels * patch**2, **sides) if patch > 1 else spec


def fold(spec: DataSpec, patch: int) -> list[nn.Module]:
    """Layers from x_BCHW to `folded` images, the sides filled up with zeros to whole squares; none for single pixels."""
    return (
        [nn.ZeroPad2d((0, -image_of(spec).width % patch, 0, -image_of(spec).height % patch)), nn.PixelUnshuffle(patch)]
        if patch > 1
        else []
    )


def unfold(spec: DataSpec, patch: int) -> list[nn.Module]:
    """The inverse of `fold`."""
    cut = nn.ZeroPad2d((0, -(-image_of(spec).width % patch), 0, -(-image_of(spec).height % patch)))
    return [nn.PixelShuffle(patch), cut] if patch > 1 else []


class ResidualBlock(nn.Module):
    """x + f(x) with two pre-activated 3x3 convolutions (He et al. 2016, arXiv:1603.05027)."""

    def __init__(self, channels_in: int, channels_out: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            group_norm(channels_in),
            nn.SiLU(),
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
            group_norm(channels_out),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
        )
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.skip(x_BCHW) + self.body(x_BCHW)
        return out


class Upsample(nn.Sequential):
    """Nearest-neighbour resizing to a fixed size, then a 3x3 convolution: no checkerboard (Odena et al. 2016, Distill)."""

    def __init__(self, channels_in: int, channels_out: int, size: tuple[int, int]) -> None:
        super().__init__(nn.Upsample(size=size, mode="nearest"), nn.Conv2d(channels_in, channels_out, 3, padding=1))
