"""A prior and a decoder, as in DALL-E 2 (unCLIP, Ramesh et al. 2022, arXiv:2204.06125): text -> embedding of an image -> image.

    p(x | t) = p(x | z) p(z | t),     z = E_x(x) of a dual encoder                                                  (section 2)

A dual encoder learns which text belongs to which image (dual_encoder.py), and rests after a while. Prior and decoder learn beside
it from the start, of embeddings that still move: what they learn of images alone stays, and it is much of what they do. The
prior is diffusion of z by residual blocks of linear layers, told the dual encoder's embedding of the text and the mean of the
text's rows (section 2.2; the paper's is a transformer over all rows). The decoder is EDM's U-Net asked by z, which joins the
embedding of time and is attended to (section 2.1). Both know hidden texts and embeddings, so both can be guided. The paper's dual
encoder has seen 400 million pairs; this one has the data alone, and knows no word that these have not.

Asked by class, the dual encoder's text tower is a table. Asked for nothing, the embeddings are learned from the images alone, and
this is representation-conditioned generation (RCG, Li et al. 2023, arXiv:2312.03701).

Given an image in place of a text, the decoder draws others of the same embedding: `variations` (section 3.1). In training z gets
noise of a share of its length, so that what the prior draws beside the data's own embeddings is near something known.

B batch, C channels, H height, W width, L rows of a text, D features of a row, E size of an embedding.
"""

import math
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.card import Card
from components.core.family import Batch, Family, of_two_stages
from components.core.noise import NoiseInput
from components.core.randomness import normal
from components.core.records import DataSpec, EmbeddingCondition
from components.families.diffusion.dual_encoder import DualEncoder
from components.families.diffusion.network import guided
from components.families.diffusion.preconditioning import Denoiser, PreconditionedConfig, points
from components.families.diffusion.sampling import Sampler
from components.families.images import resized
from components.families.pyramid import PyramidConfig
from components.families.texts import apart, text_of

DUAL = "dual"  # the name of its part and group


class UnclipConfig(PreconditionedConfig):
    """The decoder's recipe, which is EDM's, and that of the two before it."""

    embedding: int = Field(default=64, ge=2, description="numbers of an image's embedding (E)")
    dual_share: float = Field(default=0.3, gt=0, lt=1, description="share of the budget after which the dual encoder rests")
    dual_width: int = Field(default=32, ge=16, description="channels of its image tower at full resolution")
    prior_width: int = Field(default=256, ge=16, description="features of the prior")
    prior_blocks: int = Field(default=4, ge=1, description="residual blocks of the prior")
    prior_steps: int = Field(default=8, ge=1, description="steps of the prior, by Heun's method")
    decoder_guidance: float = Field(default=1.0, ge=0, description="weight of the embedding in the decoder; 1 is off")
    embedding_noise: float = Field(default=0.1, ge=0, description="noise on the decoder's embedding in training, of its length")

    @property
    def of_decoder(self) -> "UnclipConfig":
        return self.model_copy(update={"guidance": self.decoder_guidance})

    @property
    def of_prior(self) -> "UnclipConfig":
        """Linear layers, and EDM's own noise levels for what has a deviation of 0.5."""
        own = {"dense": True, "width": self.prior_width, "blocks": self.prior_blocks, "mean_data": ()}
        levels = {name: UnclipConfig.model_fields[name].default for name in ("sigma_data", "p_mean")}
        return self.model_copy(update=own | levels)


class UnclipSampler(nn.Module):
    """embedding_noise_BE11, noise_BCHW (and text_BLD, text_B2LD of wanted and unwanted, or class_B) -> x_BCHW."""

    def __init__(self, family: "Unclip", prior: Sampler, decoder: Sampler) -> None:
        super().__init__()
        self.dual, self.prior, self.decoder = family.dual, prior, decoder
        self.radius = family.radius

    def forward(self, embedding_noise_BE11: Tensor, noise_BCHW: Tensor, condition: Tensor | None = None) -> Tensor:
        rows = [] if condition is None else [self.dual.row(each) for each in apart(condition)]
        asked = torch.stack(rows, dim=1) if len(rows) > 1 else rows[0] if rows else None
        z_BE = self.prior.integrate(embedding_noise_BE11, asked).flatten(1)
        return cast(Tensor, self.decoder(noise_BCHW, self.radius * F.normalize(z_BE, dim=1)[:, None]))


class Variations(nn.Module):
    """noise_BCHW and x_BCHW -> others of the same embedding: asked by an image (ItemCondition), not by a text."""

    def __init__(self, family: "Unclip", decoder: Sampler) -> None:
        super().__init__()
        self.dual, self.decoder, self.radius = family.dual, decoder, family.radius

    def forward(self, noise_BCHW: Tensor, condition_BCHW: Tensor) -> Tensor:
        return cast(Tensor, self.decoder(noise_BCHW, self.radius * self.dual.of_images(condition_BCHW)[:, None]))


class Unclip(Family):
    """Text to image by way of an embedding: what an image is about is drawn first, then the image; it can be varied, too."""

    card = Card(
        family="diffusion",
        variant="unclip",
        title="A prior from text to an image's embedding and a decoder, DALL-E 2's way (unCLIP)",
        modalities=("image",),
        conditioning=("none", "class", "text"),
        likelihood="none",
        latent=False,
        steps=35,  # of the decoder; the prior has linear layers alone
        solver="heun",
        side_max=64,
        data_appetite=2_000,
        stepwise=True,
        starts=("scratch", "finetune", "lora"),
        per_part=("contrasts",),
        steers=True,
        varies=True,
        references=("arXiv:2204.06125", "arXiv:2103.00020", "arXiv:2312.03701"),
    )
    Config = UnclipConfig
    config: UnclipConfig

    def __init__(self, config: UnclipConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        text, size = text_of(spec), config.embedding
        self.radius = 0.5 * math.sqrt(size)  # numbers of an embedding have a deviation of 0.5, as EDM takes data to have
        tower = PyramidConfig(width=config.dual_width, patch=config.patch, dense=config.dense)
        self.dual = DualEncoder(tower, spec, size=size)
        own = EmbeddingCondition(length=1, features=size, encoder=DUAL)
        told = own.model_copy(update={"features": size + text.features, "negative": text.negative} if text else {})
        codes = resized(spec, channels=size, height=1, width=1)
        self.prior = Denoiser(config.of_prior, codes.model_copy(update={"condition": told if spec.conditional else None}))
        self.decoder = Denoiser(config.of_decoder, spec.model_copy(update={"condition": own}))

    @property
    def first_share(self) -> float:
        """The share of a training in which the dual encoder learns: none where it rests, as it does under an adapter."""
        return self.config.dual_share if any(parameter.requires_grad for parameter in self.dual.parameters()) else 0.0

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"prior": ..., "decoder": ...}, and {"dual": ...} in its share of the budget."""
        told = apart(batch.condition)[0] if batch.condition is not None and self.spec.conditional else None
        learns = {DUAL: self.dual.loss(batch.x, told, rng)} if batch.progress < self.first_share else {}
        with torch.no_grad():
            z_BE = self.radius * self.dual.of_images(batch.x)
            asked_B1F = None if told is None else self.dual.row(told)
            near_BE = z_BE + 0.5 * self.config.embedding_noise * normal(z_BE.shape, rng)
        return learns | {
            "prior": self.prior.loss(z_BE[:, :, None, None], asked_B1F, rng),
            "decoder": self.decoder.loss(batch.x, near_BE[:, None], rng),
        }

    def stage_progress(self, progress: float) -> float:
        """The rate falls before the dual encoder rests, and begins anew for the others."""
        return of_two_stages(progress, first=self.first_share)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        parts = {DUAL: self.dual, "prior": self.prior, "decoder": self.decoder}
        return {name: list(part.parameters()) for name, part in parts.items()}

    def adaptable(self) -> tuple[str, ...]:
        """Those of prior and decoder. They have learnt the embeddings of the dual encoder as it is, which therefore rests."""
        return tuple(name for name in super().adaptable() if not name.startswith(f"{DUAL}."))

    def compilable(self) -> list[nn.Module]:
        """Prior and decoder; the dual encoder is asked for its towers, and never called."""
        return [self.prior, self.decoder]

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (
            NoiseInput(name="embedding_noise", shape=(self.config.embedding, 1, 1)),
            NoiseInput(name="noise", shape=self.spec.shape),
        )

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        """`steps` of the decoder."""
        config = self.config.of_prior
        prior = Sampler(guided(self.prior, config), points(config, config.prior_steps), solver="heun")
        return UnclipSampler(self, prior, self._decoder_sampler(steps))

    def variations(self, *, steps: int | None = None) -> nn.Module:
        """noise_BCHW, x_BCHW -> images of the embeddings of those, deterministic."""
        return Variations(self, self._decoder_sampler(steps))

    def _decoder_sampler(self, steps: int | None) -> Sampler:
        config = self.config.of_decoder
        levels = points(config, steps or config.steps)
        return Sampler(guided(self.decoder, config), levels, solver=config.solver, mean=self.decoder.mean_C11)
