"""Diffusion in one to four steps, by easy consistency tuning (ECT, Geng et al. 2024, arXiv:2406.14548).

    f(x; t) = D(x; t) of EDM, so f(x; 0) = x                                                     (section 2, the boundary)
    loss = w(t) d(f(y + t e; t), sg f(y + r e; r)),  r = t max(0, 1 - n(t) / q^a),  n(t) = 1 + k / (1 + e^(b t))     (eq. 12)
    d(u, v) = sqrt(|u - v|^2 + c^2) - c,  w(t) = 1 / (t - r)                                             (section 3.2, app. A)

With a = 0 the nearer point r is 0 for every t, and this is diffusion training; as a grows, r comes near t, and f maps every
point of a trajectory to its end. So one run does both: for `teacher_share` of the budget the loss is EDM's own, then a grows by
one in each of `stages` equal parts of the rest. sg stops the gradient; both points share their noise e.

Sampling is that of consistency models (Song et al. 2023, arXiv:2303.01469, algorithm 1), but that a part of the noise is kept
from step to step (Kim et al. 2024, arXiv:2310.02279): see `multistep` in sampling.py. Noise levels are in proportion to the
data's deviation, which the papers take to be 0.5.

B batch, C channels, H height, W width.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.card import Card
from components.core.errors import BriefError
from components.core.family import Batch, Family
from components.core.noise import NoiseInput
from components.core.randomness import normal
from components.core.records import DataSpec
from components.families.diffusion.edm import EDM, EDMConfig
from components.families.diffusion.latent import Latent, LatentConfig
from components.families.diffusion.preconditioning import Denoiser, PreconditionedConfig
from components.families.diffusion.sampling import Point, Renewal, Sampler

# Sigma of each step, by the number of steps, where the data's deviation is 0.5. The papers begin at 80, which short trainings
# hardly see: one draw in a hundred lies beyond 40 (docs/decisions/0006-students.md has what either costs).
LEVELS = {1: (24.0,), 2: (40.0, 1.8), 3: (24.0, 2.5, 0.8), 4: (24.0, 4.0, 1.2, 0.4)}
# Of few values: one draw of t in eleven lies beyond the first, and a last one shorter than the way between modes brings back what
# fell between them (docs/decisions/0021-few-values.md).
LEVELS_OF_FEW = {1: (5.0,), 2: (5.0, 0.15), 3: (5.0, 0.8, 0.2), 4: (5.0, 0.8, 0.3, 0.1)}
RENEWED = 0.7  # about half of the variance (docs/decisions/0006-students.md)


class ConsistencyConfig(PreconditionedConfig):
    """What tuning adds to the recipe of its teacher."""

    steps: int = Field(default=4, ge=1, le=4, description="network evaluations a sample; 2 where an item has few values")
    teacher_share: float = Field(default=0.6, ge=0, lt=1, description="of the budget, trained as diffusion before the tuning")
    tuning_rate: float = Field(default=0.2, gt=0, description="of the peak rate, in tuning")
    stages: int = Field(default=8, ge=1, description="how often r comes nearer to t (a)")
    q: float = Field(default=2.0, gt=1, description="t - r shrinks by this factor from stage to stage")
    k: float = Field(default=8.0, ge=0)
    b: float = Field(default=1.0, gt=0)
    c: float = Field(default=0.0, ge=0, description="of the pseudo-Huber distance; 0: the norm itself")
    renewed: float = Field(
        default=1.0, gt=0, le=1, description="of the deviation of the noise in sampling, drawn anew at each step"
    )
    t_mean: float = Field(default=-1.1, description="of ln t in tuning; by default in proportion to sigma_data")
    t_std: float = Field(default=2.0, gt=0)

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        found = super().defaults(spec, light=light)
        few = {"steps": 2, "renewed": 1.0} if found.get("dense") else {}
        own = {"t_mean": -1.1 + math.log(found.get("sigma_data", 0.5) / 0.5), "renewed": RENEWED, "guidance": 1.0}
        return found | own | few


class ECTConfig(ConsistencyConfig, EDMConfig):
    """EDM's recipe and that of the tuning."""


class LatentECTConfig(ConsistencyConfig, LatentConfig):
    """Latent diffusion's recipe and that of the tuning."""

    steps: int = Field(default=4, ge=1, le=4, description="network evaluations a sample; 2 where an item has few values")


Denoise = Callable[[Tensor, Tensor], Tensor]  # x_BCHW, t_B -> the clean image


def consistency_loss(
    denoiser: Denoiser,
    y_BCHW: Tensor,
    labels_B: Tensor | None,
    rng: torch.Generator,
    *,
    config: ConsistencyConfig,
    stage: int,
    follow: Denoise | None = None,
) -> Tensor:
    """Eq. 12 at stage a, a scalar. `follow`: the nearer point lies towards what it sees, not towards the data."""
    t_B = (config.t_mean + config.t_std * normal(y_BCHW.shape[:1], rng)).exp()
    t_B = t_B.clamp(config.sigma_min, config.sigma_max)
    r_B = nearer(t_B, config, stage=stage)
    noise_BCHW = normal(y_BCHW.shape, rng)
    with torch.no_grad():  # f(y; 0) = y, whatever the network says: ln 0 must not reach it
        x_BCHW = y_BCHW + _wide(t_B) * noise_BCHW
        clean_BCHW = y_BCHW if follow is None else follow(x_BCHW, t_B)
        nearer_BCHW = clean_BCHW + _wide(r_B / t_B) * (x_BCHW - clean_BCHW)
        at_r = denoiser(nearer_BCHW, r_B.clamp(min=config.sigma_min), labels_B)
        target_BCHW = torch.where(_wide(r_B) > 0, at_r, clean_BCHW)
    ours_BCHW = denoiser(x_BCHW, t_B, labels_B)
    square_B = (ours_BCHW - target_BCHW).square().flatten(1).sum(1)
    distance_B = (square_B + config.c**2 + 1e-12).sqrt() - config.c
    loss: Tensor = (distance_B / (t_B - r_B)).mean()
    return loss


def nearer(t_B: Tensor, config: ConsistencyConfig, *, stage: int) -> Tensor:
    """r of t at stage a: from 0 towards t."""
    n_B = 1 + config.k * torch.sigmoid(-config.b * t_B * (0.5 / config.sigma_data))
    return t_B * (1 - n_B / config.q**stage).clamp(min=0)


class _Tuned(Family):
    """What both variants share, before the class of the teacher."""

    config: Any
    denoiser: Denoiser

    def __init__(self, config: Any, spec: DataSpec) -> None:
        super().__init__(config, spec)
        if config.guidance != 1:
            raise BriefError(f"override.config.guidance: {config.guidance} for a model of few steps", allowed="1: it has none")

    def _stage(self, progress: float) -> int:
        """a: 0 while the teacher trains, then 1 to `stages`."""
        share = self.config.teacher_share
        done = (progress - share) / (1 - share)
        return min(int(done * self.config.stages) + 1, self.config.stages) if done >= 0 else 0

    def rate_share(self, progress: float) -> float:
        """The tuning goes slowly: what the teacher knows is otherwise lost before it is learnt again."""
        return 1.0 if progress < self.config.teacher_share else float(self.config.tuning_rate)

    def _for_each_step(self, noise: tuple[NoiseInput, ...]) -> tuple[NoiseInput, ...]:
        return tuple(NoiseInput(name=one.name, shape=(self.config.steps, *one.shape)) for one in noise)

    def _few_steps(self) -> Sampler:
        deviation = self.config.sigma_data / 0.5
        chosen = (LEVELS_OF_FEW if self.config.dense else LEVELS)[self.config.steps]
        sigmas = [min(deviation * level, self.config.sigma_max) for level in chosen]
        levels = [Point(time=sigma, alpha=1.0, sigma=sigma) for sigma in sigmas]
        renewal = Renewal(gamma=self.config.renewed, deviation=self.config.sigma_data)
        return Sampler(self.denoiser, levels, solver="multistep", mean=self.denoiser.mean_C11, renewal=renewal)


class ECT(_Tuned, EDM):
    """The quality of diffusion in one to four steps: EDM first, then consistency tuning of the same network."""

    card = Card(
        family="diffusion",
        variant="ect",
        title="EDM tuned to be consistent: samples in one to four network evaluations",
        modalities=("image",),
        conditioning=("none", "class", "text"),
        likelihood="none",
        latent=False,
        steps=4,
        side_max=64,
        data_appetite=1_000,
        stepwise=True,
        starts=("scratch", "finetune", "lora"),
        student="ect",
        student_steps=(4, 2, 1),
        loop_above=4,
        student_rate=0.2,
        distils="edm",
        references=("arXiv:2406.14548", "arXiv:2303.01469", "arXiv:2206.00364"),
    )
    Config = ECTConfig
    config: ECTConfig

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"model": EDM's loss in the teacher's share of the budget, then that of eq. 12}."""
        if (stage := self._stage(batch.progress)) == 0:
            return super().losses(batch, rng)
        labels_B = self.denoiser.training_labels(batch.condition, rng)
        return {"model": consistency_loss(self.denoiser, batch.x, labels_B, rng, config=self.config, stage=stage)}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return self._for_each_step(super().noise_inputs())

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # as many as there are noises
        return self._few_steps()


class LatentECT(_Tuned, Latent):
    """Few steps for large images: latent diffusion, then consistency tuning on the codes."""

    card = Card(
        family="diffusion",
        variant="latent-ect",
        title="Latent diffusion tuned to be consistent: one to four evaluations on the code, then the decoder",
        modalities=("image",),
        conditioning=("none", "class", "text"),
        likelihood="none",
        latent=True,
        steps=4,
        side_max=1024,
        data_appetite=2_000,
        stepwise=True,
        on_codes=True,
        wide=True,
        starts=("scratch", "finetune", "lora"),
        student="latent-ect",
        student_steps=(4, 2, 1),
        loop_above=4,
        student_rate=0.2,
        distils="latent",
        references=("arXiv:2406.14548", "arXiv:2112.10752"),
    )
    Config = LatentECTConfig
    config: LatentECTConfig

    def prior_loss(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """That of latent diffusion, then eq. 12 on the codes."""
        if (stage := self._stage(batch.progress)) == 0:
            return super().prior_loss(batch, rng)
        codes_BZhw, labels_B = self.codes(batch, rng), self.denoiser.training_labels(batch.condition, rng)
        return consistency_loss(self.denoiser, codes_BZhw, labels_B, rng, config=self.config, stage=stage)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return self._for_each_step(super().noise_inputs())

    def code_sampler(self, steps: int | None) -> Sampler:
        del steps  # as many as there are noises
        return self._few_steps()


def _wide(values_B: Tensor) -> Tensor:
    return values_B.view(-1, 1, 1, 1)
