"""The EDM formulation (Karras et al. 2022, arXiv:2206.00364), which the variants edm, latent and cascade are made of.

    D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)                                                        (eq. 7)
    loss = E[lambda(sigma) |D(y + n; sigma) - y|^2],  ln sigma ~ N(P_mean, P_std^2),  n ~ N(0, sigma^2 I)   (eq. 2, table 1)
    dx/dsigma = (x - D(x; sigma)) / sigma, from sigma_max to 0                                               (eq. 3)

The c are derived for data of mean zero and deviation sigma_data (appendix B.6). What is modelled is therefore y - mu, mu the mean
of each channel: D(x; sigma) = mu + D'(x - mu; sigma), and sampling begins at mu + sigma_max z. Then the network's input and its
target have a second moment of one at every sigma.

B batch, C channels, H height, W width, P extra input planes.
"""

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from components.core.errors import BriefError
from components.core.randomness import normal
from components.core.records import DataSpec
from components.families.diffusion.network import DiffusionConfig, Network
from components.families.diffusion.sampling import Point
from components.families.images import image_of


class PreconditionedConfig(DiffusionConfig):
    meaning = ("sigma_data", "mean_data")
    sigma_data: float = Field(default=0.5, gt=0, description="standard deviation of the data; by default as measured")
    mean_data: tuple[float, ...] = Field(default=(), description="mean of each channel; by default as measured; none: 0")
    sigma_min: float = Field(default=0.002, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)
    rho: float = Field(default=7.0, gt=0)
    p_mean: float = Field(default=-1.2, description="of ln sigma in training; by default in proportion to sigma_data")
    p_std: float = Field(default=1.2, gt=0)
    solver: Literal["heun", "ddim", "dpm++"] = "heun"

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """Noise levels in proportion to the data's deviation, which table 1 takes to be 0.5; small images, a narrow network."""
        measured = {"sigma_data": spec.std, "mean_data": spec.mean, "p_mean": -1.2 + math.log(spec.std / 0.5)}
        return super().defaults(spec, light=light) | measured


class Denoiser(Network):
    """D(x_BCHW; sigma_B, class_B) -> the expected clean image, by the preconditioning of table 1.

    Raises BriefError for a mean of other channels than the data's.
    """

    mean_C11: Tensor

    def __init__(self, config: PreconditionedConfig, spec: DataSpec, *, planes: int = 0) -> None:
        super().__init__(config, spec, planes=planes)
        self.sigma_data = config.sigma_data
        self.p_mean, self.p_std = config.p_mean, config.p_std
        channels = image_of(spec).channels
        if config.mean_data and len(config.mean_data) != channels:
            given = f"override.config.mean_data: {len(config.mean_data)} values"
            raise BriefError(given, allowed=f"{channels}, one a channel, or none")
        mean_C = torch.tensor(config.mean_data or [0.0] * channels)
        self.register_buffer("mean_C11", mean_C.view(-1, 1, 1), persistent=False)  # in the config

    def forward(
        self, x_BCHW: Tensor, sigma_B: Tensor, condition_B: Tensor | None = None, planes_BPHW: Tensor | None = None
    ) -> Tensor:
        sigma = sigma_B.view(-1, 1, 1, 1)
        total = sigma**2 + self.sigma_data**2
        c_skip, c_out, c_in = self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt(), total.rsqrt()
        centred_BCHW = x_BCHW - self.mean_C11
        # The network's sinusoidal embedding expects times of the order of 1,000: c_noise = ln(sigma) / 4 spans about -1.5 to 1.1.
        out_BCHW = self.network(c_in * centred_BCHW, sigma_B.log() / 4 * 250, condition_B, planes_BPHW)
        return self.mean_C11 + c_skip * centred_BCHW + c_out * out_BCHW

    def loss(self, y_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator, *, planes_BPHW: Tensor | None = None) -> Tensor:
        """The weighted denoising error: lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2."""
        normal_B = normal(y_BCHW.shape[:1], rng)
        sigma_B = (self.p_mean + self.p_std * normal_B).exp()
        noise_BCHW = normal(y_BCHW.shape, rng)
        noisy_BCHW = y_BCHW + sigma_B.view(-1, 1, 1, 1) * noise_BCHW
        denoised_BCHW = self(noisy_BCHW, sigma_B, self.training_labels(labels_B, rng), planes_BPHW)
        weight_B = (sigma_B**2 + self.sigma_data**2) / (sigma_B * self.sigma_data) ** 2
        loss: Tensor = (weight_B.view(-1, 1, 1, 1) * (denoised_BCHW - y_BCHW) ** 2).mean()
        return loss


def points(config: PreconditionedConfig, steps: int) -> list[Point]:
    """The noise levels of eq. 5, from sigma_max to sigma_min."""
    high, low = config.sigma_max ** (1 / config.rho), config.sigma_min ** (1 / config.rho)
    sigmas = [(high + step / max(1, steps - 1) * (low - high)) ** config.rho for step in range(steps)]
    return [Point(time=sigma, alpha=1.0, sigma=sigma) for sigma in sigmas]
