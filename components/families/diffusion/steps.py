"""A denoiser of discrete steps (Ho et al. 2020, arXiv:2006.11239): predictions of the noise, of v or of the image.

    x_t = alpha_t x0 + sigma_t eps,    alpha_t^2 = product of (1 - beta_s) for s <= t,    sigma_t^2 = 1 - alpha_t^2      (eq. 4)

    the network F says       the image is                     the loss
    epsilon   eps            (x_t - sigma F) / alpha          |eps - F|^2, their L_simple                               (eq. 14)
    v         alpha eps - sigma x0     alpha x_t - sigma F    |v - F|^2       (Salimans & Ho 2022, arXiv:2202.00512, app. D)
    x0        x0             F                                max(1, alpha^2 / sigma^2) |x0 - F|^2               (their eq. 4)

With `learned_variance` the network gives f too, the share of the way between the least and the largest variance of a step, and
the loss is L_hybrid (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 15 and 16): the above + 0.001 L_vlb, whose denoised image
takes no gradient. Ancestral sampling draws with these variances.

With `min_snr` = g the weight of a step is that of Hang et al. 2023 (arXiv:2303.09556, sec. 3.4), SNR = alpha^2 / sigma^2:

    x0: min(SNR, g)        epsilon: min(SNR, g) / SNR        v: min(SNR, g) / (SNR + 1)

With `noise_offset` = o what is added, and asked for, is eps + o d with d ~ N(0, 1) one number an item and channel (Guttenberg
2023, "Diffusion with offset noise", crosslabs.org). The mean of H x W pixels has H W times the SNR of one pixel, so the last
level of many schedules still tells it, and a network that relies on that draws all images about as bright. Sampling stays.

process.py has the betas. Sampling starts at the last step, the noisiest (Lin et al. 2024, arXiv:2305.08891, "trailing"), and
bounds the denoised images to [-1, 1].

A network that was made elsewhere is one of these, too: `network` holds its own config as diffusers has it (given.py), and the
other fields what its scheduler says (components/training/foreign).

B batch, C channels, H height, W width, T training steps.
"""

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from components.core.errors import BriefError
from components.core.randomness import integers, normal
from components.core.records import DataSpec
from components.families.diffusion.bound import Chain
from components.families.diffusion.given import TEXT_U_NET, check_given, given_divides, given_network
from components.families.diffusion.network import DiffusionConfig, Network, blocks, guided
from components.families.diffusion.process import Schedule, forward_process, trailing
from components.families.diffusion.sampling import ONE, UNROLLED, Point, Sampler, Solver
from components.families.texts import text_of

Prediction = Literal["epsilon", "v", "x0"]


class StepsConfig(DiffusionConfig):
    """The process, what is said of it, and how it is walked back."""

    meaning: ClassVar[tuple[str, ...]] = ("schedule", "levels", "betas_from", "betas_to", "zero_snr", "prediction", "network")
    schedule: Schedule = "cosine"
    prediction: Prediction = "v"
    levels: int = Field(default=1000, ge=2, description="steps of the forward process in training, T")
    solver: Solver = "ddim"
    steps: int = Field(default=50, ge=1)
    clip: bool = Field(default=True, description="bound denoised images to [-1, 1] in sampling")
    learned_variance: bool = Field(default=False, description="the network gives the variance of each step, too")
    bound_weight: float = Field(default=1e-3, gt=0, description="of L_vlb beside the loss, where variances are learned (lambda)")
    own_levels: bool = Field(default=False, description="it knows the levels of its own steps alone: a student")
    betas_from: float | None = Field(
        default=None, gt=0, lt=1, description="the first beta, but of cosine; by default by `levels`"
    )
    betas_to: float | None = Field(default=None, gt=0, lt=1, description="the last one; give both or none")
    zero_snr: bool = Field(default=False, description="the last level is noise alone; for v and x0")
    min_snr: float | None = Field(
        default=None, gt=0, description="weigh steps by min-SNR, 5 in the paper; by default as the table says"
    )
    noise_offset: float = Field(
        default=0.0, ge=0, le=1, description="deviation of one more noise an item and channel in training; 0.1 in its source"
    )
    network: dict[str, Any] = Field(
        default_factory=dict, description="the config of the network of a model made elsewhere, as diffusers has it"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.betas_from is None) != (self.betas_to is None):
            raise ValueError("betas_from and betas_to: one alone; give both or none")
        if self.zero_snr and self.prediction == "epsilon":
            raise ValueError("zero_snr: true with prediction: epsilon, which says nothing of noise alone; allowed: v, x0")
        if self.zero_snr and self.solver == "heun":
            raise ValueError("zero_snr: true with solver: heun, whose slope noise alone has not; allowed: ddim, dpm++, ancestral")
        if self.noise_offset and self.learned_variance:
            raise ValueError("noise_offset: given with learned_variance: true, whose bound is of noise without it; leave one out")
        if self.network:
            check_given(self.network, width=self.width)
            if self.dense or self.patch != 1 or self.planes:
                raise ValueError("network: given with dense, patch or augment, which change it; leave them out")
        return self

    @property
    def divides(self) -> int:
        return given_divides(self.network) if self.network else super().divides

    @property
    def planes(self) -> int:
        """Extra input planes of the network."""
        return 0

    def process(self) -> list[Point]:
        """alpha_t and sigma_t of each step of training."""
        ends = (self.betas_from, self.betas_to) if self.betas_from and self.betas_to else None
        return forward_process(self.schedule, self.levels, ends=ends, zero_snr=self.zero_snr)


class StepDenoiser(Network):
    """D(x_BCHW at time t_B, class_B) -> the expected clean image, whatever the network predicts. Called by `Moments` where the
    share of its variance is asked for, too."""

    alpha_T: Tensor
    sigma_T: Tensor

    def __init__(self, config: StepsConfig, spec: DataSpec) -> None:
        super().__init__(config, spec, planes=config.planes, answers=1 + config.learned_variance)
        self.prediction = config.prediction
        self.learned = config.learned_variance
        self.bound_weight = config.bound_weight
        self.min_snr = config.min_snr
        self.noise_offset = config.noise_offset
        process = config.process()
        self.chain = Chain(process, deviation=spec.std)
        self.register_buffer("alpha_T", torch.tensor([point.alpha for point in process]), persistent=False)
        self.register_buffer("sigma_T", torch.tensor([point.sigma for point in process]), persistent=False)

    def forward(
        self, x_BCHW: Tensor, time_B: Tensor, condition_B: Tensor | None = None, planes_BPHW: Tensor | None = None
    ) -> Tensor:
        return self.moments(x_BCHW, time_B, condition_B, planes_BPHW)[0]

    def moments(
        self, x_BCHW: Tensor, time_B: Tensor, condition_B: Tensor | None = None, planes_BPHW: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The clean image, and the share f_BCHW of the variance where it is learned."""
        out_BCHW, share_BCHW = self._answers(x_BCHW, time_B, condition_B, planes_BPHW)
        return clean(self.prediction, x_BCHW, out_BCHW, *self.shares(time_B)), share_BCHW

    def _answers(self, x_BCHW: Tensor, time_B: Tensor, *context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The prediction; and f, which begins in the middle."""
        out_BCHW, *rest = blocks(self.network(x_BCHW, time_B, *context), like=x_BCHW)
        return out_BCHW, (rest[0] + 1) / 2 if rest else None

    def shares(self, time_B: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at time t_B, ready to multiply images."""
        t_B = time_B.long()
        return self.alpha_T.index_select(0, t_B).view(-1, 1, 1, 1), self.sigma_T.index_select(0, t_B).view(-1, 1, 1, 1)

    def loss(
        self, x0_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator, *, planes_BPHW: Tensor | None = None
    ) -> Tensor:
        """The mean squared error of the prediction at a uniformly drawn step, weighted as the table above says."""
        t_B = integers(0, len(self.alpha_T), x0_BCHW.shape[:1], rng)
        eps_BCHW = normal(x0_BCHW.shape, rng)
        if self.noise_offset:
            eps_BCHW = eps_BCHW + self.noise_offset * normal((*x0_BCHW.shape[:2], 1, 1), rng)
        alpha, sigma = self.shares(t_B)
        x_BCHW = alpha * x0_BCHW + sigma * eps_BCHW
        asked_B = self.training_labels(labels_B, rng)
        out_BCHW, share_BCHW = self._answers(x_BCHW, t_B.to(x_BCHW.dtype), asked_B, planes_BPHW)
        error_BCHW = (out_BCHW - target(self.prediction, x0_BCHW, eps_BCHW, alpha, sigma)) ** 2
        loss: Tensor = (self._weight(alpha, sigma) * error_BCHW).mean()
        if share_BCHW is None:
            return loss
        denoised_BCHW = clean(self.prediction, x_BCHW, out_BCHW.detach(), alpha, sigma)
        bound = self.chain.step(t_B, x0_BCHW, denoised_BCHW, share_BCHW).mean()  # nats a value, of one step of T
        return loss + self.bound_weight * len(self.alpha_T) * bound

    def _weight(self, alpha: Tensor, sigma: Tensor) -> Tensor | float:
        """Of the squared error at a level."""
        if self.min_snr is None:
            return (alpha / sigma).square().clamp(min=1) if self.prediction == "x0" else 1.0
        snr = (alpha / sigma).square()
        each = {"x0": torch.ones_like(snr), "epsilon": snr, "v": snr + 1}[self.prediction]
        return snr.clamp(max=self.min_snr) / each

    def _made(self, config: DiffusionConfig, spec: DataSpec, ends: tuple[int, int], *, classes: int) -> nn.Module:
        if not isinstance(config, StepsConfig) or not config.network:
            return super()._made(config, spec, ends, classes=classes)
        return given_network(
            config.network, ends=ends, classes=classes, width=config.width, dropout=config.dropout, text=text_of(spec)
        )


def target(prediction: Prediction, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What the network should say."""
    return {"epsilon": eps, "v": alpha * eps - sigma * x0, "x0": x0}[prediction]


def clean(prediction: Prediction, x: Tensor, out: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The x0 that follows from what the network says of x = alpha x0 + sigma eps."""
    if prediction == "epsilon":
        return (x - sigma * out) / alpha
    return alpha * x - sigma * out if prediction == "v" else out


class Moments(nn.Module):
    """A denoiser's image and the share of its variance, as blocks of channels: moments_B(2C)HW."""

    def __init__(self, denoiser: StepDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x_BCHW: Tensor, time_B: Tensor, *context: Tensor | None) -> Tensor:
        image_BCHW, share_BCHW = self.denoiser.moments(x_BCHW, time_B, *context)
        return image_BCHW if share_BCHW is None else torch.cat([image_BCHW, share_BCHW], dim=1)


def step_sampler(denoiser: StepDenoiser, config: StepsConfig, steps: int | None) -> Sampler:
    """The walk back in so many steps, by default the config's. Raises BriefError when it is asked for more steps than there are
    levels, or noises to draw from."""
    most = config.steps if config.solver == "ancestral" else config.levels
    if (steps := steps or config.steps) > most:
        raise BriefError(f"{steps} sampling steps", allowed=f"1 to {most}: what this model was made for", do="raise config.steps")
    levels = trailing(config.process(), steps)
    limit = 1.0 if config.clip else None
    drawn_from = Moments(denoiser) if config.solver == "ancestral" else denoiser
    begins = 1.0 if config.network else None  # as diffusers' schedulers do, whatever the last level leaves of the image
    unrolled = ONE if config.network and config.network.get("_class_name") == TEXT_U_NET else UNROLLED
    return Sampler(
        guided(denoiser, config, of=drawn_from), levels, solver=config.solver, limit=limit, begins=begins, unrolled=unrolled
    )
