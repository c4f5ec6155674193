"""Priors over the codes of a VQ-VAE: the second stage of van den Oord et al. 2017 (arXiv:1711.00937, section 3.3).

First the autoencoder learns, for the first `autoencoder_share` of the budget; then it rests, and the prior learns the codes it
gives. A sample is a grid of codes drawn from the prior and decoded.

B batch, C channels, H height, W width; h, w the grid of codes, K codes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.card import Card
from components.core.errors import BriefError
from components.core.family import Batch
from components.core.noise import NoiseInput
from components.core.randomness import uniform
from components.core.records import DataSpec
from components.families.autoregressive.gated import GatedPixelCNN
from components.families.autoregressive.grid import Grid, GridModel
from components.families.autoregressive.masked import MaskedGrid
from components.families.autoregressive.text_transformer import TextTransformer
from components.families.autoregressive.transformer import GridTransformer
from components.families.dense import few_values
from components.families.images import side_of
from components.families.texts import TEXT_GUIDANCE, apart, check_told, hide, text_of
from components.families.two_stages import DISCRIMINATOR, Added, TwoStageFamily
from components.families.vq import VQAutoencoder, VQConfig


class VQPriorConfig(VQConfig):
    lr_peak: float = 2e-3
    batch_size: int = 64
    autoencoder_share: float = Field(default=0.4, gt=0, lt=1, description="of the budget; the rest is the prior's")
    depth: int = Field(default=4, ge=1, description="layers of the prior")
    prior_width: int = Field(default=64, ge=16, multiple_of=16, description="features of the prior")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="in the prior")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """Up to side 16 fewer codes and a smaller prior, that learns faster."""
        small = {"codes": 32, "prior_width": 48, "depth": 3, "lr_peak": 4e-3}
        found = super().defaults(spec, light=light) | (small if side_of(spec) <= 16 else {})
        return found | ({"codes": 512, "depth": 1} if few_values(spec) else {})


class VQTransformerConfig(VQPriorConfig):
    meaning = ("heads",)
    heads: int = Field(default=4, ge=1, le=16, description="attention heads; they divide the prior's width")
    guidance: float = Field(default=1.0, ge=0, description="weight of a text in drawing; 1 is off and costs nothing; 3 for texts")
    label_dropout: float = Field(default=0.1, gt=0, lt=1, description="share of texts hidden in training")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        return super().defaults(spec, light=light) | ({"guidance": TEXT_GUIDANCE} if text_of(spec) else {})


class CodeSampler(nn.Module):
    """uniform_Bhw in [0, 1) (and class_B) -> codes from the prior -> x_BCHW in [-1, 1]."""

    def __init__(self, autoencoder: VQAutoencoder, prior: GridModel) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.prior = prior

    def forward(self, uniform_Bhw: Tensor, condition_B: Tensor | None = None) -> Tensor:
        codes_B1hw = self.prior.draw(uniform_Bhw[:, None], condition_B)
        return self.autoencoder.decode(codes_B1hw[:, 0])


class VQPriorFamily(TwoStageFamily):
    """Two stages, two groups of parameters; a subclass makes the prior."""

    Config = VQPriorConfig
    config: VQPriorConfig
    autoencoder: VQAutoencoder

    def __init__(self, config: VQPriorConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.autoencoder = VQAutoencoder(config, spec)
        height, width = self.autoencoder.grid
        classes = len(spec.classes) if spec.conditional else 0
        self.prior = self._prior(Grid(1, height, width, self.autoencoder.codes, classes, ordinal=False))
        self.make_discriminator()

    def _prior(self, grid: Grid) -> GridModel:
        raise NotImplementedError

    def autoencoder_loss(self, batch: Batch, rng: torch.Generator, *, added: Added | None) -> Tensor:
        return self.autoencoder.loss(batch.x, rng, fitted_Bhw=batch.of_whole, added=added)

    def prior_loss(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Nats a code."""
        with torch.no_grad():
            (codes_Bhw,) = self.encoded(batch.x) if batch.codes is None else batch.codes
        codes_B1hw = codes_Bhw.long()[:, None]
        return -self.prior.log_prob(codes_B1hw, self.training_labels(batch.condition, rng)).mean()

    def training_labels(self, labels_B: Tensor | None, rng: torch.Generator) -> Tensor | None:
        """What the prior trains on."""
        del rng
        return labels_B if self.spec.conditional else None

    def encoded(self, x: Tensor) -> tuple[Tensor, ...]:
        """The codes, in half the bytes."""
        return (self.autoencoder.encode(x).int(),)

    def rebuilt(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        del rng
        back_BCHW: Tensor = self.autoencoder.decoder(self.autoencoder.quantiser.look_up(self.autoencoder.encode(x_BCHW)))
        return back_BCHW

    def survey(self, parts: Sequence[Batch], rng: torch.Generator) -> Sequence[Tensor | None]:
        """While the autoencoder trains: the codes of each part, for which the codebook follows the whole batch, once."""
        if parts[0].progress >= self.first_share or parts[0].turn == DISCRIMINATOR:
            return super().survey(parts, rng)
        z_BDhw = torch.cat([self.autoencoder.embed(part.x).float() for part in parts])
        codes: tuple[Tensor, ...] = self.autoencoder.quantiser.fit(z_BDhw, rng).split([len(part.x) for part in parts])
        return codes

    def diagnostics(self, batch: Batch) -> dict[str, float]:
        """How much of the codebook is in use, by the moving counts of training."""
        perplexity = float(self.autoencoder.quantiser.perplexity())
        return {"codebook_perplexity": perplexity, "codebook_share": perplexity / self.autoencoder.codes}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        own = {"autoencoder": list(self.autoencoder.parameters()), "prior": list(self.prior.parameters())}
        return own | super().parameter_groups()

    def encode(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """codes_Bhw, int64; the classes are the prior's alone."""
        del labels_B
        return self.autoencoder.encode(x_BCHW)

    def embed(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """The vectors z_BDhw that `snap` makes codes of: between them there are others, between integers there is nothing."""
        del labels_B
        return self.autoencoder.embed(x_BCHW)

    def snap(self, z_BDhw: Tensor) -> Tensor:
        """codes_Bhw, int64: the entries of the codebook nearest to the vectors."""
        return self.autoencoder.quantiser.nearest(z_BDhw)

    def decode(self, codes_Bhw: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """x_BCHW in [-1, 1]."""
        del labels_B
        return self.autoencoder.decode(codes_Bhw)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="uniform", shape=self.autoencoder.grid, distribution="uniform"),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one evaluation of the prior a code
        return CodeSampler(self.autoencoder, self.prior)


class VQPixelCNN(VQPriorFamily):
    """Larger images than pixel by pixel, in far fewer steps; the autoencoder's blur is the price."""

    card = Card(
        family="autoregressive",
        variant="vq-pixelcnn",
        title="VQ-VAE with a gated PixelCNN over its codes",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=True,
        steps=64,
        side_max=128,
        data_appetite=1_000,
        sequential="code",
        starts=("scratch", "finetune", "lora"),
        discrete=True,
        references=("arXiv:1711.00937", "arXiv:1606.05328"),
    )
    Config = VQPriorConfig

    def _prior(self, grid: Grid) -> GridModel:
        config = self.config
        if config.dense:
            return MaskedGrid(grid, width=config.prior_width, blocks=config.depth, dropout=config.dropout)
        return GatedPixelCNN(grid, width=config.prior_width, blocks=config.depth, kernel=5, dropout=config.dropout)


class VQTransformer(VQPriorFamily):
    """The codes by a transformer: what is far apart in the image is one step apart in the prior."""

    card = Card(
        family="autoregressive",
        variant="vq-transformer",
        title="VQ-VAE with a transformer over its codes; of texts, DALL-E's way: text and codes in one sequence",
        modalities=("image",),
        conditioning=("none", "class", "text"),
        likelihood="none",
        latent=True,
        steps=64,
        side_max=128,
        data_appetite=1_000,
        sequential="code",
        starts=("scratch", "finetune", "lora"),
        discrete=True,
        steers=True,
        references=("arXiv:1711.00937", "arXiv:2012.09841", "arXiv:2102.12092"),
    )
    Config = VQTransformerConfig
    config: VQTransformerConfig

    def __init__(self, config: VQTransformerConfig, spec: DataSpec) -> None:
        check_told(spec, guidance=config.guidance)
        if config.guidance != 1 and not text_of(spec):
            raise BriefError(f"override.config.guidance: {config.guidance:g} for {self.card.variant}", allowed="1, but for texts")
        super().__init__(config, spec)

    def training_labels(self, labels_B: Tensor | None, rng: torch.Generator) -> Tensor | None:
        """A share of texts is hidden."""
        if labels_B is None or not text_of(self.spec):
            return super().training_labels(labels_B, rng)
        text_BLF = apart(labels_B)[0]
        return hide(text_BLF, uniform(text_BLF.shape[:1], rng) < self.config.label_dropout, none=0)

    def _prior(self, grid: Grid) -> GridModel:
        config, text = self.config, text_of(self.spec)
        sizes = {"width": config.prior_width, "blocks": config.depth, "heads": config.heads}
        if text is None:
            return GridTransformer(grid, **sizes, dropout=config.dropout)
        return TextTransformer(grid, features=text.features, guidance=config.guidance, **sizes, dropout=config.dropout)
