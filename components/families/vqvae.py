"""VQ-VAE with its prior (van den Oord et al. 2017, arXiv:1711.00937): an autoencoder with a codebook, then a model of its codes.

    p(k) = prod_i p(k_i | k_1 .. k_{i-1}, class),  i in raster order over the grid                            (section 3.3)

The autoencoder (components/families/vq.py) trains for the first share of the budget, then the prior on its codes. The prior
is a small gated PixelCNN (van den Oord et al. 2016, arXiv:1606.05328): a vertical stack that sees the rows above and a
horizontal one that also sees the row so far, so that no code before it is hidden from it. Some of the codes that it sees in
training are replaced by random ones, as they may be wrong in sampling (Bengio et al. 2015, arXiv:1506.03099).

B batch, C channels, H height, W width; h, w the grid of codes, K codes, F features.
"""

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.card import Card
from components.core.family import Batch, Family
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families.vq import VQAutoencoder, VQConfig


class VQVAEConfig(VQConfig):
    lr_peak: float = 2e-3
    batch_size: int = 64
    width: int = Field(default=32, ge=16, multiple_of=16, description="channels at full resolution")
    prior_width: int = Field(default=64, ge=8, description="features of the prior (F)")
    depth: int = Field(default=4, ge=1, description="layers of the prior")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="in the prior")
    replaced: float = Field(default=0.1, ge=0, lt=1, description="share of the codes that the prior sees replaced in training")
    autoencoder_share: float = Field(default=0.4, gt=0, lt=1, description="of the budget, before the prior's turn")

    @classmethod
    def defaults(cls, spec: DataSpec) -> dict[str, Any]:
        """Up to side 16 fewer codes and a smaller prior, that learns faster."""
        small = {"codes": 32, "prior_width": 48, "depth": 3, "lr_peak": 4e-3}
        return super().defaults(spec) | (small if max(spec.height, spec.width) <= 16 else {})


class GatedLayer(nn.Module):
    """One layer of both stacks: tanh(a) * sigmoid(b), the horizontal one residual (arXiv:1606.05328, fig. 2).

    Both stacks come shifted: vertical_BFhw knows at row i the rows before it, horizontal_BFhw at column j also the columns
    before it. So a convolution may see its own place, and only padding keeps it from seeing further.
    """

    def __init__(self, features: int, *, classes: int, dropout: float) -> None:
        super().__init__()
        self.vertical = nn.Sequential(nn.ZeroPad2d((1, 1, 1, 0)), nn.Conv2d(features, 2 * features, (2, 3)))
        self.horizontal = nn.Sequential(nn.ZeroPad2d((2, 0, 0, 0)), nn.Conv2d(features, 2 * features, (1, 3)))
        self.across = nn.Conv2d(2 * features, 2 * features, 1)
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(features, features, 1))
        self.classes = nn.Embedding(classes, 2 * features) if classes else None

    def forward(self, vertical_BFhw: Tensor, horizontal_BFhw: Tensor, condition_B: Tensor | None) -> tuple[Tensor, Tensor]:
        above = self.vertical(vertical_BFhw)
        if self.classes is not None:
            above = above + self.classes(condition_B)[:, :, None, None]
        beside = self.horizontal(horizontal_BFhw) + self.across(above)
        return _gate(above), horizontal_BFhw + self.out(_gate(beside))


class CodePrior(nn.Module):
    """codes_Bhw, class_B -> logits_BKhw of each code given those before it in raster order."""

    def __init__(self, config: VQVAEConfig, spec: DataSpec, *, grid: tuple[int, int]) -> None:
        super().__init__()
        classes = len(spec.classes) if spec.conditional else 0
        features = config.prior_width
        self.embedding = nn.Embedding(config.codes, features)
        self.places_Fhw = nn.Parameter(0.1 * torch.randn(features, *grid))
        self.layers = nn.ModuleList(GatedLayer(features, classes=classes, dropout=config.dropout) for _ in range(config.depth))
        self.head = nn.Sequential(nn.SiLU(), nn.Conv2d(features, config.codes, 1))

    def forward(self, codes_Bhw: Tensor, condition_B: Tensor | None = None) -> Tensor:
        seen_BFhw = self.embedding(codes_Bhw).permute(0, 3, 1, 2)
        vertical = F.pad(seen_BFhw, (0, 0, 1, 0))[:, :, :-1] + self.places_Fhw
        horizontal = F.pad(seen_BFhw, (1, 0, 0, 0))[:, :, :, :-1] + self.places_Fhw
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal, condition_B)
        logits_BKhw: Tensor = self.head(horizontal)
        return logits_BKhw


class Sampler(nn.Module):
    """u_Bhw in [0, 1) (and class_B) -> x_BCHW: draws each code by the inverse of its distribution function, then decodes."""

    def __init__(self, family: "VQVAE") -> None:
        super().__init__()
        self.prior = family.prior
        self.autoencoder = family.autoencoder

    def forward(self, u_Bhw: Tensor, condition_B: Tensor | None = None) -> Tensor:
        u_BN = u_Bhw.flatten(1)
        codes_BN = torch.zeros_like(u_BN, dtype=torch.int64)
        if torch.compiler.is_exporting():
            codes_BN = self._loop(codes_BN, u_BN, condition_B)
        else:
            for i in range(u_BN.shape[1]):
                codes_BN = self._draw(torch.tensor(i, device=u_BN.device), codes_BN, u_BN, condition_B)
        return self.autoencoder.decode(codes_BN.unflatten(1, self.autoencoder.grid))

    def _draw(self, i: Tensor, codes_BN: Tensor, u_BN: Tensor, condition_B: Tensor | None) -> Tensor:
        """The codes with number i drawn: the first k whose cumulative probability exceeds u."""
        logits_BKN = self.prior(codes_BN.unflatten(1, self.autoencoder.grid), condition_B).flatten(2)
        chances_BK = logits_BKN.index_select(2, i.view(1)).squeeze(2).softmax(1)
        passed_BK = chances_BK.cumsum(1) <= u_BN.index_select(1, i.view(1))
        drawn_B1 = passed_BK.sum(1, keepdim=True).clamp(max=self.autoencoder.codes - 1)
        here_N = torch.arange(math.prod(self.autoencoder.grid), device=i.device) == i
        return torch.where(here_N, drawn_B1, codes_BN)

    def _loop(self, codes_BN: Tensor, u_BN: Tensor, condition_B: Tensor | None) -> Tensor:
        """The same draws as one Loop of the graph, so that its size does not grow with the grid."""
        from torch._higher_order_ops.while_loop import while_loop

        def more(i: Tensor, codes_BN: Tensor) -> Tensor:
            return i < math.prod(self.autoencoder.grid)

        def body(i: Tensor, codes_BN: Tensor) -> tuple[Tensor, Tensor]:
            return i + 1, self._draw(i, codes_BN, u_BN, condition_B)

        drawn_BN: Tensor = while_loop(more, body, (torch.zeros((), dtype=torch.int64), codes_BN))[1]
        return drawn_BN


class VQVAE(Family):
    """Sharp discrete compression of larger images with a prior to sample them; two models to train in one budget."""

    card = Card(
        family="vae",
        variant="vq",
        title="VQ-VAE: codes of a learned codebook on a grid, with a gated convolutional prior",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=True,
        steps=64,
        side_max=256,
        data_appetite=1_000,
        discrete=True,
        references=("arXiv:1711.00937", "arXiv:1606.05328", "arXiv:2005.00341"),
    )
    Config = VQVAEConfig
    config: VQVAEConfig

    def __init__(self, config: VQVAEConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.autoencoder = VQAutoencoder(config, spec)
        self.prior = CodePrior(config, spec, grid=self.autoencoder.grid)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"autoencoder": list(self.autoencoder.parameters()), "prior": list(self.prior.parameters())}

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"autoencoder": eq. 3} in the first share of the budget, then {"prior": cross-entropy in nats a code}."""
        if batch.progress < self.config.autoencoder_share:
            return {"autoencoder": self.autoencoder.loss(batch.images_BCHW, rng)}
        with torch.no_grad():
            codes_Bhw = self.autoencoder.encode(batch.images_BCHW)
        logits_BKhw = self.prior(self._replace(codes_Bhw, rng), batch.labels_B if self.spec.conditional else None)
        return {"prior": F.cross_entropy(logits_BKhw, codes_Bhw)}

    def encode(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """codes_Bhw, int64; the classes are the prior's alone."""
        del labels_B
        return self.autoencoder.encode(x_BCHW)

    def decode(self, codes_Bhw: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """x_BCHW in [-1, 1]."""
        del labels_B
        return self.autoencoder.decode(codes_Bhw)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="u", shape=self.autoencoder.grid, distribution="uniform"),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one for each code
        return Sampler(self)

    def _replace(self, codes_Bhw: Tensor, rng: torch.Generator) -> Tensor:
        """Codes of which a share is replaced by random ones."""
        shape, device = codes_Bhw.shape, codes_Bhw.device
        random_Bhw = torch.randint(self.config.codes, shape, generator=rng, device=device)
        replaced_Bhw = torch.rand(shape, generator=rng, device=device) < self.config.replaced
        return torch.where(replaced_Bhw, random_Bhw, codes_Bhw)


def _gate(x: Tensor) -> Tensor:
    """[B, 2F, h, w] -> tanh(a) * sigmoid(b), [B, F, h, w]."""
    a, b = x.chunk(2, dim=1)
    return a.tanh() * b.sigmoid()
