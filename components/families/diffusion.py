"""Diffusion in the EDM formulation (Karras et al. 2022, arXiv:2206.00364) on diffusers' UNet2DModel.

    D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)                                                        (eq. 7)
    loss = E[lambda(sigma) |D(y + n; sigma) - y|^2],  ln sigma ~ N(P_mean, P_std^2),  n ~ N(0, sigma^2 I)   (eq. 2, table 1)
    dx/dsigma = (x - D(x; sigma)) / sigma, from sigma_max to 0                                               (eq. 3)

Heun's second-order method is the paper's algorithm 1 without churn; its first-order step is DDIM (Song et al. 2021,
arXiv:2010.02502) under this parametrisation.

B batch, C channels, H height, W width, T sampling steps.
"""

import math
from itertools import pairwise
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.card import Card
from components.core.family import Batch, Family, FamilyConfig
from components.core.noise import NoiseInput
from components.core.records import DataSpec


class EDMConfig(FamilyConfig):
    lr_peak: float = 1e-3
    batch_size: int = 64
    weight_decay: float = 0.0
    warmup_steps: int = 100
    ema_decay: float = 0.998
    width: int = Field(default=64, ge=32, multiple_of=32, description="channels at full resolution; 32 up to side 16")
    widths: tuple[int, ...] = Field(default=(1, 2), min_length=1, description="multiples of `width`, one for each halving")
    blocks: int = Field(default=1, ge=1, description="residual blocks at each resolution")
    attention: bool = Field(default=True, description="self-attention at the lowest resolution")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="0.13 in the paper's long runs on CIFAR-10")
    sigma_data: float = Field(default=0.5, gt=0, description="standard deviation of the data; by default as measured")
    sigma_min: float = Field(default=0.002, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)
    rho: float = Field(default=7.0, gt=0)
    p_mean: float = Field(default=-1.2, description="of ln sigma in training; by default in proportion to sigma_data")
    p_std: float = Field(default=1.2, gt=0)
    steps: int = Field(default=18, ge=1)
    solver: Literal["heun", "ddim"] = "heun"

    @classmethod
    def defaults(cls, spec: DataSpec) -> dict[str, Any]:
        """Noise levels in proportion to the data's deviation, which table 1 takes to be 0.5; small images, a narrow network."""
        noise = {"sigma_data": spec.std, "p_mean": -1.2 + math.log(spec.std / 0.5)}
        narrow = max(spec.height, spec.width) <= 16
        return noise | ({"width": 32, "lr_peak": 2e-3} if narrow else {})


class Denoiser(nn.Module):
    """D(x_BCHW; sigma_B, class_B) -> the expected clean image, by the preconditioning of table 1."""

    def __init__(self, config: EDMConfig, spec: DataSpec) -> None:
        super().__init__()
        from diffusers.models.unets.unet_2d import UNet2DModel

        self.sigma_data = config.sigma_data
        self.conditional = spec.conditional
        levels = len(config.widths)
        down, up = ["DownBlock2D"] * levels, ["UpBlock2D"] * levels
        if config.attention and levels > 1:
            down[-1], up[0] = "AttnDownBlock2D", "AttnUpBlock2D"
        side = 2 ** (levels - 1)
        self.pad = (-spec.height % side, -spec.width % side)
        self.net = UNet2DModel(
            sample_size=None,
            in_channels=spec.channels,
            out_channels=spec.channels,
            block_out_channels=tuple(config.width * multiple for multiple in config.widths),
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            layers_per_block=config.blocks,
            # Four channels a group or more: one of a single channel would subtract the very time and class that were added.
            norm_num_groups=min(32, config.width // 4),
            dropout=config.dropout,
            attention_head_dim=32,
            add_attention=config.attention,
            num_class_embeds=len(spec.classes) if spec.conditional else None,
        )
        nn.init.zeros_(self.net.conv_out.weight)
        nn.init.zeros_(self.net.conv_out.bias)

    def forward(self, x_BCHW: Tensor, sigma_B: Tensor, condition_B: Tensor | None = None) -> Tensor:
        sigma = sigma_B.view(-1, 1, 1, 1)
        total = sigma**2 + self.sigma_data**2
        c_skip, c_out, c_in = self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt(), total.rsqrt()
        c_noise_B = sigma_B.log() / 4
        h, w = x_BCHW.shape[2:]
        inputs = nn.functional.pad(c_in * x_BCHW, (0, self.pad[1], 0, self.pad[0])) if any(self.pad) else c_in * x_BCHW
        # The network's sinusoidal embedding expects times of the order of 1,000: c_noise spans about -1.5 to 1.1.
        out: Tensor = self.net(inputs, c_noise_B * 250, class_labels=condition_B, return_dict=False)[0]
        return c_skip * x_BCHW + c_out * out[:, :, :h, :w]


class Sampler(nn.Module):
    """noise_BCHW (and class_B) -> x_BCHW: integrates the ODE from sigma_max to 0 with one network evaluation an iteration.

    Both solvers are rows of one table. Iteration k evaluates the slope d = (x - D(x; sigma_k)) / sigma_k and moves

        x <- base + h_k (previous_k d' + current_k d),   base = x and d' = d where the row predicts, else those of the last row

    DDIM: every row predicts, (previous, current) = (0, 1). Heun: each step but the last has a second row that corrects from
    the same base with (1/2, 1/2) (algorithm 1). One evaluation an iteration keeps the exported loop at one copy of the network.
    """

    rows_K5: Tensor

    def __init__(self, denoiser: Denoiser, config: EDMConfig, *, steps: int) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.sigma_max = config.sigma_max
        self.register_buffer("rows_K5", torch.tensor(_rows(config, steps)), persistent=False)

    def forward(self, noise_BCHW: Tensor, condition_B: Tensor | None = None) -> Tensor:
        x_BCHW = noise_BCHW * self.sigma_max
        # The first row predicts, so what base and d' start as does not matter; a loop may not carry one tensor twice.
        state = (x_BCHW, torch.ones_like(x_BCHW), torch.zeros_like(x_BCHW))
        if torch.compiler.is_exporting():
            return self._loop(state, condition_B).clamp(-1, 1)
        for row_5 in self.rows_K5:
            state = self._iterate(row_5, *state, condition_B)
        return state[0].clamp(-1, 1)

    def _iterate(
        self, row_5: Tensor, x: Tensor, base: Tensor, last: Tensor, condition_B: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        sigma, h, previous, current, predicts = row_5.unbind()
        slope = (x - self.denoiser(x, sigma.expand(x.shape[0]), condition_B)) / sigma
        base = predicts * x + (1 - predicts) * base
        return base + h * (previous * last + current * slope), base, slope

    def _loop(self, state: tuple[Tensor, Tensor, Tensor], condition_B: Tensor | None) -> Tensor:
        """The same iterations as one Loop of the graph, so that its size does not grow with the steps."""
        from torch._higher_order_ops.while_loop import while_loop

        def more(k: Tensor, *_: Tensor) -> Tensor:
            return k < len(self.rows_K5)

        def body(k: Tensor, x: Tensor, base: Tensor, last: Tensor) -> tuple[Tensor, ...]:
            row_5 = self.rows_K5.index_select(0, k.view(1)).squeeze(0)
            return k + 1, *self._iterate(row_5, x, base, last, condition_B)

        looped: Tensor = while_loop(more, body, (torch.zeros((), dtype=torch.int64), *state))[1]
        return looped


def _rows(config: EDMConfig, steps: int) -> list[list[float]]:
    """(sigma, h, previous, current, predicts) of each iteration, on the schedule of eq. 5."""
    high, low = config.sigma_max ** (1 / config.rho), config.sigma_min ** (1 / config.rho)
    sigmas = [(high + step / max(1, steps - 1) * (low - high)) ** config.rho for step in range(steps)] + [0.0]
    rows = []
    for now, following in pairwise(sigmas):
        h = following - now
        rows.append([now, h, 0.0, 1.0, 1.0])
        if config.solver == "heun" and following > 0:  # at sigma = 0 the correction does not exist
            rows.append([following, h, 0.5, 0.5, 0.0])
    return rows


class EDM(Family):
    """The best samples and full mode coverage with a stable loss; many network evaluations a sample."""

    card = Card(
        family="diffusion",
        variant="edm",
        title="Diffusion with EDM preconditioning and the Heun sampler",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=False,
        steps=35,
        side_max=64,
        data_appetite=1_000,
        references=("arXiv:2206.00364", "arXiv:2010.02502"),
    )
    Config = EDMConfig
    config: EDMConfig

    def __init__(self, config: EDMConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.denoiser = Denoiser(config, spec)

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """The weighted denoising error: lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2."""
        y_BCHW = batch.images_BCHW
        normal_B = torch.randn(len(y_BCHW), generator=rng, device=y_BCHW.device)
        sigma_B = (self.config.p_mean + self.config.p_std * normal_B).exp()
        noise_BCHW = torch.randn(y_BCHW.shape, generator=rng, device=y_BCHW.device)
        labels_B = batch.labels_B if self.spec.conditional else None
        denoised = self.denoiser(y_BCHW + sigma_B.view(-1, 1, 1, 1) * noise_BCHW, sigma_B, labels_B)
        weight_B = (sigma_B**2 + self.config.sigma_data**2) / (sigma_B * self.config.sigma_data) ** 2
        return {"model": (weight_B.view(-1, 1, 1, 1) * (denoised - y_BCHW) ** 2).mean()}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="noise", shape=self.spec.shape),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        return Sampler(self.denoiser, self.config, steps=steps or self.config.steps)
