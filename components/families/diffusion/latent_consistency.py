"""Latent diffusion in one to eight steps (LCM, Luo et al. 2023, arXiv:2310.04378): consistency on the discrete levels of `ldm`,
and on levels of the straight paths of `mmdit`.

    f(z; t) = D(z; t), the clean code; f of a clean code is itself                                      (sec. 4.1, the boundary)
    loss = d(f(z_t; t), sg f(z_u; u)),   u the level after t of `taught` evenly spaced ones                     (eq. 14)
    z_u = (sigma_u / sigma_t) z_t + (alpha_u - alpha_t sigma_u / sigma_t) D_w(z_t; t)           the teacher's step of DDIM
    d(u, v) = mean(sqrt((u - v)^2 + c^2) - c)                                                           (as their code has it)

On straight paths alpha = 1 - t, sigma = t and D = z - t v, so that step is Euler's, z_u = z_t + (u - t) v, and f keeps the
boundary by itself (as in consistency flow matching, Yang et al. 2024, arXiv:2407.02398). The levels are shifted as the teacher's.

A student learns from the guided image D_w of its teacher (training/distillation/latent_consistency.py), so one evaluation has
the guidance in it. Without a teacher the first `teacher_share` of a training is that of `ldm` or `mmdit`, and then the data's
own code stands in the place of D_w (consistency training, Song et al. 2023, arXiv:2303.01469, sec. 5). sg stops the gradient;
the paper takes an average of f there, which Song & Dhariwal 2023 (arXiv:2310.14189) found no better.

Sampling is their algorithm 3: to the clean code, then noise again, up to the next level.

B batch, Z channels of the code, h and w its sides.
"""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.card import Card
from components.core.errors import BriefError
from components.core.family import Batch
from components.core.noise import NoiseInput
from components.core.randomness import integers, normal
from components.core.record import Record
from components.core.records import DataSpec
from components.families.diffusion.given_codes import OnGivenCodes
from components.families.diffusion.ldm import LDM, LDMConfig
from components.families.diffusion.mmdit import TIME, MMDiT, MMDiTConfig, point, shifted
from components.families.diffusion.pipelines import flow_scheduler, lcm_scheduler
from components.families.diffusion.process import trailing
from components.families.diffusion.sampling import CLEAN, ONE, Point, Sampler

STEPS_MAX = 8

Denoise = Callable[[Tensor, Tensor], Tensor]  # z_BZhw, t_B -> the clean code


class TuningConfig(Record):
    """What tuning adds to the recipe of its teacher."""

    steps: int = Field(default=4, ge=1, le=STEPS_MAX, description="network evaluations an item")
    taught: int = Field(default=50, ge=2, description="levels that the teacher's steps lead over")
    huber: float = Field(default=1e-3, ge=0, description="c of the distance")
    teacher_share: float = Field(default=0.6, ge=0, lt=1, description="of the budget, trained as diffusion before the tuning")
    tuning_rate: float = Field(default=0.2, gt=0, description="of the peak rate, in tuning")


class LCMConfig(TuningConfig, LDMConfig):
    """Latent diffusion's recipe and that of the tuning."""

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        return super().defaults(spec, light=light) | {"guidance": 1.0}


class FlowLCMConfig(TuningConfig, MMDiTConfig):
    """Flow matching's recipe and that of the tuning."""

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        return super().defaults(spec, light=light) | {"guidance": 1.0}

    def process(self) -> list[Point]:
        """The levels of the scheduler in training, the clean end first."""
        return [point(shifted(step / TIME, self.shift)) for step in range(1, int(TIME) + 1)]


class LatentConsistency(OnGivenCodes):
    """What both variants share, before the class of the teacher."""

    levels_N3: Tensor  # of the teacher's steps, the noisiest first: time, alpha, sigma

    def __init__(self, config: Any, spec: DataSpec) -> None:
        if config.guidance != 1:
            raise BriefError(f"override.config.guidance: {config.guidance} for a model of few steps", allowed="1: it has none")
        process = config.process()
        if not config.steps <= config.taught <= len(process):
            what = f"override.config.taught: {config.taught}"
            raise BriefError(what, allowed=f"{config.steps} to {len(process)}: its steps to its levels")
        super().__init__(config, spec)
        self.levels = [*trailing(process, config.taught), CLEAN]
        self.register_buffer("levels_N3", torch.tensor(self.levels), persistent=False)

    def prior_loss(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """That of the teacher's kind, then eq. 14."""
        if not self._tunes(batch.progress):
            return super().prior_loss(batch, rng)
        codes_BZhw, asked = self.codes(batch, rng), self.denoiser.training_labels(batch.condition, rng)
        return self.consistency(codes_BZhw, asked, rng, follow=lambda _z, _t: codes_BZhw)

    def consistency(self, codes_BZhw: Tensor, asked: Tensor | None, rng: torch.Generator, *, follow: Denoise) -> Tensor:
        """Eq. 14, a scalar. `follow`: the clean codes that z_u lies towards."""
        k_B = integers(0, self.config.taught, codes_BZhw.shape[:1], rng)
        t_B, alpha, sigma = self.level(k_B)
        u_B, alpha_u, sigma_u = self.level(k_B + 1)
        z_BZhw = alpha * codes_BZhw + sigma * normal(codes_BZhw.shape, rng)
        with torch.no_grad():
            ratio = sigma_u / sigma
            nearer_BZhw = ratio * z_BZhw + (alpha_u - alpha * ratio) * follow(z_BZhw, t_B)
            target_BZhw = torch.where(sigma_u > 0, self.denoiser(nearer_BZhw, u_B, asked), nearer_BZhw)
        apart_BZhw = self.denoiser(z_BZhw, t_B, asked) - target_BZhw
        c = self.config.huber
        loss: Tensor = ((apart_BZhw.square() + c**2).sqrt() - c).mean()
        return loss

    def level(self, k_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Time t_B of these levels, and alpha and sigma ready to multiply codes."""
        t_B, alpha_B, sigma_B = self.levels_N3.index_select(0, k_B).unbind(1)
        return t_B, alpha_B.view(-1, 1, 1, 1), sigma_B.view(-1, 1, 1, 1)

    def rate_share(self, progress: float) -> float:
        """The tuning goes slowly: what the teacher knows is otherwise lost before it is learnt again."""
        return float(self.config.tuning_rate) if self._tunes(progress) else 1.0

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        """One a step."""
        return (NoiseInput(name="noise", shape=(self.config.steps, *self.autoencoder.shape)),)

    def drawn_at(self) -> list[int]:
        """Evenly spaced of the levels that it was taught at."""
        return [k * self.config.taught // self.config.steps for k in range(self.config.steps)]

    def few_steps(self, *, limit: float | None = None, begins: float | None = None) -> Sampler:
        levels = [self.levels[k] for k in self.drawn_at()]
        return Sampler(self.denoiser, levels, solver="multistep", limit=limit, begins=begins, unrolled=ONE)

    @property
    def lora_part(self) -> str:
        """An adapter of it is loaded beside its network: by itself its pipeline would draw in many steps."""
        return ""

    def _tunes(self, progress: float) -> bool:
        """The autoencoder's share goes before."""
        first, share = self.first_share, self.config.teacher_share
        return bool(progress >= first + (1 - first) * share)


class LCM(LatentConsistency, LDM):
    """The quality of latent diffusion in a few steps, at the cost of one evaluation each."""

    card = Card(
        family="diffusion",
        variant="lcm",
        title="Latent diffusion in discrete steps, tuned to be consistent: one to eight evaluations, then the decoder",
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
        student="lcm",
        student_steps=(8, 4, 2, 1),
        loop_above=1,
        student_rate=0.2,
        distils="ldm",
        references=("arXiv:2310.04378", "arXiv:2303.01469", "arXiv:2112.10752"),
    )
    Config = LCMConfig
    config: LCMConfig

    def code_sampler(self, steps: int | None) -> Sampler:
        del steps  # as many as there are noises
        return self.few_steps(limit=1.0 if self.config.clip else None, begins=1.0 if self.config.network else None)

    def as_pipeline(self, autoencoder: nn.Module) -> Any:
        """The teacher's, with the scheduler that draws so."""
        made = super().as_pipeline(autoencoder)
        made.register_modules(scheduler=lcm_scheduler(self.config, taught=self.config.taught))
        return made


class FlowLCM(LatentConsistency, MMDiT):
    """The same of flow matching."""

    card = Card(
        family="diffusion",
        variant="mmdit-lcm",
        title="Flow matching by MM-DiT, tuned to be consistent: one to eight evaluations, then the decoder",
        modalities=("image",),
        conditioning=("none", "text"),
        likelihood="none",
        latent=True,
        steps=4,
        side_max=1024,
        data_appetite=2_000,
        stepwise=True,
        on_codes=True,
        wide=True,
        starts=("scratch", "finetune", "lora"),
        student="mmdit-lcm",
        student_steps=(8, 4, 2, 1),
        loop_above=1,
        student_rate=0.2,
        distils="mmdit",
        references=("arXiv:2310.04378", "arXiv:2407.02398", "arXiv:2403.03206"),
    )
    Config = FlowLCMConfig
    config: FlowLCMConfig

    def code_sampler(self, steps: int | None) -> Sampler:
        del steps  # as many as there are noises
        return self.few_steps()

    @property
    def sigmas(self) -> list[float]:
        """The levels that it draws at, before they are shifted, as its pipeline must be told them."""
        return [round(TIME * (1 - k / self.config.taught)) / TIME for k in self.drawn_at()]

    def as_pipeline(self, autoencoder: nn.Module) -> Any:
        """The teacher's, with the scheduler that renews all noise."""
        made = super().as_pipeline(autoencoder)
        made.register_modules(scheduler=flow_scheduler(shift=self.config.shift, renews=True))
        return made
