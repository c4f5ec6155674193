"""Cascaded diffusion (Ho et al. 2022, arXiv:2106.15282): a base at half the side, then super-resolution conditioned on it.

Both stages are EDM denoisers (arXiv:2206.00364) and train at once, each on its own loss. The second sees the small image
upsampled, after Gaussian conditioning augmentation (the paper's sec. 4.2): noise of a level s drawn evenly up to a maximum,
which it is told as one more input plane. In sampling s is fixed, and the second stage, which starts from a picture, takes half
the steps; of few values all of them: nine steps of Heun's method blur what eighteen keep apart.

Asked by text, both stages read it and both are guided, as in Imagen (Saharia et al. 2022, arXiv:2205.11487, section 2): the text
through a frozen encoder, a base, super-resolution with conditioning augmentation. Imagen's thresholds of large guidance weights
(section 2.3) are not here.

B batch, C channels, H height, W width, h and w half of them.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.card import Card
from components.core.family import Batch, Family
from components.core.noise import NoiseInput
from components.core.randomness import normal, uniform
from components.core.records import DataSpec
from components.families.diffusion.network import guided
from components.families.diffusion.preconditioning import Denoiser, PreconditionedConfig, points
from components.families.diffusion.sampling import Sampler
from components.families.images import image_of, resized


class CascadeConfig(PreconditionedConfig):
    condition_noise_max: float = Field(default=0.5, gt=0, description="largest noise on the small image in training")
    condition_noise: float = Field(default=0.1, ge=0, description="noise on the small image in sampling")


class Conditioning(nn.Module):
    """low_BChw with noise of level s -> planes_B(C+1)HW: the image upsampled, and s."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.upsample = nn.Upsample(size=size, mode="bilinear", align_corners=False)

    def forward(self, low_BChw: Tensor, s_B: Tensor, noise_BChw: Tensor) -> Tensor:
        level_B1hw = s_B.view(-1, 1, 1, 1).expand(-1, 1, *low_BChw.shape[2:])
        planes: Tensor = self.upsample(torch.cat([low_BChw + level_B1hw * noise_BChw, level_B1hw], dim=1))
        return planes


class CascadeSampler(nn.Module):
    """noise_BChw, condition_noise_BChw, detail_noise_BCHW (and class_B) -> x_BCHW: two loops in one graph."""

    def __init__(self, base: Sampler, detail: Sampler, conditioning: Conditioning, *, level: float) -> None:
        super().__init__()
        self.base = base
        self.detail = detail
        self.conditioning = conditioning
        self.level = level

    def forward(
        self, noise_BChw: Tensor, condition_noise_BChw: Tensor, detail_noise_BCHW: Tensor, condition_B: Tensor | None = None
    ) -> Tensor:
        low_BChw = self.base(noise_BChw, condition_B)
        planes = self.conditioning(low_BChw, torch.full_like(low_BChw[:, 0, 0, 0], self.level), condition_noise_BChw)
        return self.detail.integrate(detail_noise_BCHW, condition_B, planes).clamp(-1, 1)


class Cascade(Family):
    """Diffusion for images too large for one network at full resolution; two stages, trained side by side."""

    card = Card(
        family="diffusion",
        variant="cascade",
        title="Cascaded diffusion: a base at half the side and noise-conditioned super-resolution; of texts, Imagen's way",
        modalities=("image",),
        conditioning=("none", "class", "text"),
        likelihood="none",
        latent=False,
        steps=52,
        side_max=1024,
        data_appetite=1_000,
        stepwise=True,
        solver="heun",
        stages=2,
        wide=True,
        starts=("scratch", "finetune", "lora"),
        steers=True,
        references=("arXiv:2106.15282", "arXiv:2206.00364", "arXiv:2205.11487"),
    )
    Config = CascadeConfig
    config: CascadeConfig

    def __init__(self, config: CascadeConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.low = ((image_of(spec).height + 1) // 2, (image_of(spec).width + 1) // 2)
        small = resized(spec, height=self.low[0], width=self.low[1])
        self.base = Denoiser(config.model_copy(update={"patch": 1}), small)
        self.detail = Denoiser(config, spec, planes=image_of(spec).channels + 1)
        self.conditioning = Conditioning((image_of(spec).height, image_of(spec).width))

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"base": of the small images, "detail": of the images, given small ones with noise}, both in every step."""
        x_BCHW = batch.x
        low_BChw = self.downsample(x_BCHW)
        s_B = uniform(x_BCHW.shape[:1], rng) * self.config.condition_noise_max
        noise_BChw = normal(low_BChw.shape, rng)
        planes = self.conditioning(low_BChw, s_B, noise_BChw)
        return {
            "base": self.base.loss(low_BChw, batch.condition, rng),
            "detail": self.detail.loss(x_BCHW, batch.condition, rng, planes_BPHW=planes),
        }

    def downsample(self, x_BCHW: Tensor) -> Tensor:
        """The mean over each square of two by two pixels; of odd sides, over squares that overlap."""
        return F.adaptive_avg_pool2d(x_BCHW, self.low)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"base": list(self.base.parameters()), "detail": list(self.detail.parameters())}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        small = (image_of(self.spec).channels, *self.low)
        return (
            NoiseInput(name="noise", shape=small),
            NoiseInput(name="condition_noise", shape=small),
            NoiseInput(name="detail_noise", shape=self.spec.shape),
        )

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        steps = steps or self.config.steps
        stages = [(self.base, steps), (self.detail, steps if self.config.dense else (steps + 1) // 2)]
        base, detail = (
            Sampler(guided(denoiser, self.config), points(self.config, n), solver=self.config.solver, mean=denoiser.mean_C11)
            for denoiser, n in stages
        )
        return CascadeSampler(base, detail, self.conditioning, level=self.config.condition_noise)
