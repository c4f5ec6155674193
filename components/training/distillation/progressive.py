"""Progressive distillation (Salimans & Ho 2022, arXiv:2202.00512): a student does in one step what its teacher does in two.

From x at level u two steps of DDIM by the teacher, over the level between, end in x'' at the student's next level v; the image
of the student must be the one that leads there at once. A teacher of more than twice the student's steps takes more of them, as
many as make PATIENT from noise to image: in two large steps it would show what it cannot do itself.

    x~ = (x'' - (sigma_v / sigma_u) x) / (alpha_v - (sigma_v / sigma_u) alpha_u)                              (algorithm 2)
    loss = max(1, alpha_u^2 / sigma_u^2) |x~ - D(x; u)|^2                                                        (eq. 4)

A student of N steps is taught by a student of 2 N, or by the diffusion model itself; one with guidance teaches
the guided image (Meng et al. 2023, arXiv:2210.03142, stage one, for one weight). The student samples by DDIM.

B batch, C channels, H height, W width, N steps.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from components.core.errors import BriefError
from components.core.family import Batch, Family, of_two_stages
from components.core.randomness import integers, normal
from components.core.records import DataSpec
from components.families.diffusion.ddpm import DDPM, DDPMConfig
from components.families.diffusion.dit import DiT, DiTConfig
from components.families.diffusion.process import trailing
from components.families.diffusion.sampling import CLEAN, Point
from components.training.distillation import IMITATION
from components.training.distillation.teaching import Teacher, begin_as

PATIENT = 16  # steps of DDIM, by which a teacher of many shows what it can
Level = tuple[Tensor, Tensor, Tensor]  # time, alpha, sigma, each [B, 1, 1, 1]


def lessons(process: list[Point], steps: int, *, each: int = 2) -> list[list[Point]]:
    """The levels of each step of a student of so many: where it begins, those of the teacher's `each` steps, where it ends."""
    points = [*trailing(process, each * steps), CLEAN]
    return [points[at : at + each + 1] for at in range(0, each * steps, each)]


class _Halving(Family):
    """What the students in pixels and on codes share: few steps of DDIM, taught by `teacher`."""

    config: Any
    denoiser: Any
    is_student: ClassVar[bool] = True
    lessons_NP3: Tensor  # for each of its N steps P levels of the teacher: time, alpha, sigma

    def begin(self, teacher: Any) -> None:
        """Take over the teacher's weights, and note its lessons. Raises BriefError for a teacher of too few steps."""
        config = self.config
        if teacher.config.steps < 2 * config.steps:
            raise BriefError(
                f"steps: {config.steps} given, of a teacher of {teacher.config.steps}", allowed="half of the teacher's at most"
            )
        self.teacher = Teacher(teacher)
        alike = begin_as(self.denoiser, teacher.denoiser) and config.prediction == teacher.config.prediction
        self.imitation = 0.0 if alike else IMITATION
        each = max(2, min(teacher.config.steps, PATIENT) // config.steps)
        table = lessons(config.process(), config.steps, each=each)
        self.register_buffer("lessons_NP3", torch.tensor(table), persistent=False)

    @staticmethod
    def own_recipe(teacher: dict[str, Any], *, narrower: bool) -> dict[str, Any]:
        """What its config has other than its teacher's: DDIM, and v where the teacher predicts noise, which says nothing of the
        image at the first step (arXiv:2202.00512, sec. 4)."""
        return {"solver": "ddim", "own_levels": True} | ({"prediction": "v"} if teacher["prediction"] == "epsilon" else {})

    def _learn(self, batch: Batch, x0_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        """The error of the student's clean image beside the one it should see, from images or codes of a batch."""
        labels_B = batch.condition if self.spec.conditional else None
        return (self._imitate if batch.progress < self.imitation else self._halve)(x0_BCHW, labels_B, rng)

    def stage_progress(self, progress: float) -> float:
        return of_two_stages(progress, first=self.imitation) if self.imitation else progress

    def _halve(self, x0_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> Tensor:
        """Algorithm 2, at steps drawn evenly."""
        k_B = integers(0, len(self.lessons_NP3), x0_BCHW.shape[:1], rng)
        levels = [_level(point_B3) for point_B3 in self.lessons_NP3.index_select(0, k_B).unbind(1)]
        now = levels[0]
        x_BCHW = now[1] * x0_BCHW + now[2] * normal(x0_BCHW.shape, rng)
        return self._error(x_BCHW, now, labels_B, target(x_BCHW, levels, partial(self._shown, labels_B=labels_B)))

    def _imitate(self, x0_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> Tensor:
        """What the teacher sees at any level."""
        t_B = integers(0, self.config.levels, x0_BCHW.shape[:1], rng)
        alpha, sigma = self.denoiser.shares(t_B)
        now = (t_B.to(x0_BCHW.dtype).view(-1, 1, 1, 1), alpha, sigma)
        x_BCHW = alpha * x0_BCHW + sigma * normal(x0_BCHW.shape, rng)
        return self._error(x_BCHW, now, labels_B, self._shown(x_BCHW, now, labels_B=labels_B))

    def _shown(self, x_BCHW: Tensor, now: Level, *, labels_B: Tensor | None) -> Tensor:
        """The clean image of the teacher, as its sampler would bound it."""
        clean_BCHW = self.teacher.denoise(x_BCHW, now[0].flatten(), labels_B)
        return clean_BCHW.clamp(-1, 1) if self.config.clip else clean_BCHW

    def _error(self, x_BCHW: Tensor, now: Level, labels_B: Tensor | None, wanted_BCHW: Tensor) -> Tensor:
        """Eq. 4."""
        ours_BCHW = self.denoiser(x_BCHW, now[0].flatten(), labels_B)
        weight = (now[1] / now[2]).square().clamp(min=1)
        error: Tensor = (weight * (ours_BCHW - wanted_BCHW).square()).mean()
        return error


class ProgressiveStudent(_Halving, DDPM):
    """DDPM of a few steps."""

    def __init__(self, config: DDPMConfig, spec: DataSpec, *, teacher: DDPM) -> None:
        super().__init__(config, spec)
        self.begin(teacher)

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"model": the error}."""
        return {"model": self._learn(batch, batch.x, rng)}


class LatentProgressiveStudent(_Halving, DiT):
    """A diffusion transformer of a few steps, on the codes of a given model, whose autoencoder it keeps."""

    def __init__(self, config: DiTConfig, spec: DataSpec, *, teacher: DiT) -> None:
        super().__init__(config.model_copy(update={"adversarial": 0.0}), spec)  # nothing for a discriminator to teach
        self.begin(teacher)
        self.autoencoder.load_state_dict(teacher.autoencoder.state_dict())

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"prior": the error}; the autoencoder rests."""
        with torch.no_grad():
            codes_BZhw = self.autoencoder.standardise(self.drawn(batch, rng), deviation=self.deviation)
        return {"prior": self._learn(batch, codes_BZhw, rng)}

    def encoded_from(self) -> float | None:
        return 0.0


def target(x: Tensor, levels: Sequence[Level], see: Callable[[Tensor, Level], Tensor]) -> Tensor:
    """x~: the clean image by which one step from the first level to the last leads where those of one who sees `see` end, over
    all of them."""
    now, end, there = levels[0], levels[-1], x
    for here, following in pairwise(levels):
        there = move(there, see(there, here), here, following)
    ratio = end[2] / now[2]
    wanted: Tensor = (there - ratio * x) / (end[1] - ratio * now[1])
    return wanted


def move(x: Tensor, clean: Tensor, now: Level, following: Level) -> Tensor:
    """A step of DDIM from one level to the next (Song et al. 2021, arXiv:2010.02502, eq. 12 with eta = 0)."""
    ratio = following[2] / now[2]
    return ratio * x + (following[1] - now[1] * ratio) * clean


def _level(point_B3: Tensor) -> Level:
    time, alpha, sigma = (part.view(-1, 1, 1, 1) for part in point_B3.unbind(1))
    return time, alpha, sigma
