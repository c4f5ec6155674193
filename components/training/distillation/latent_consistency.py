"""Latent consistency distillation of a given latent model (Luo et al. 2023, arXiv:2310.04378, sec. 4); its loss is that of the
families `lcm` and `mmdit-lcm`.

    z_u = a step of DDIM by D_w(z_t; t) = D(z_t; t, none) + w (D(z_t; t, c) - D(z_t; t, none))                        (eq. 14, 15)

On straight paths that is a step of Euler's method by the guided velocity. w is the teacher's guidance, one number, so the
student's network is its teacher's and begins with its weights. The paper draws w anew for each item and tells the network, which
then has an input that no other model of its kind has.

B batch, Z channels of the code, h and w its sides.
"""

from abc import abstractmethod
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from components.core.family import Batch, of_two_stages
from components.core.randomness import integers, normal
from components.core.records import DataSpec
from components.families.diffusion.latent_consistency import LCM, FlowLCM, LatentConsistency
from components.training.distillation import IMITATION
from components.training.distillation.teaching import Teacher, begin_as


class _Taught(LatentConsistency):
    """What both students share: they learn on the codes of a given latent model, whose autoencoder they keep."""

    is_student: ClassVar[bool] = True

    def __init__(self, config: Any, spec: DataSpec, *, teacher: Any) -> None:
        super().__init__(config.model_copy(update={"adversarial": 0.0}), spec)  # nothing for a discriminator to teach
        self.teacher = Teacher(teacher)
        self.imitation = 0.0 if begin_as(self.denoiser, teacher.denoiser) else IMITATION
        self.autoencoder.load_state_dict(teacher.autoencoder.state_dict())

    @staticmethod
    def own_recipe(teacher: dict[str, Any], *, narrower: bool) -> dict[str, Any]:
        """What its config has other than its teacher's: its peak rate is that of its tuning already, and a clean code is what
        it says of a level, not a share of a variance."""
        del narrower
        return {"tuning_rate": 1.0, "teacher_share": 0.0, "solver": "ddim"}

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"prior": the error of the stage}; the autoencoder rests."""
        with torch.no_grad():
            codes_BZhw = self.autoencoder.standardise(self.drawn(batch, rng), deviation=self.deviation)
        asked = self.denoiser.training_labels(batch.condition, rng)
        shown = partial(self.teacher.denoise, labels_B=asked)
        if batch.progress < self.imitation:
            return {"prior": self._imitate(codes_BZhw, asked, rng)}
        return {"prior": self.consistency(codes_BZhw, asked, rng, follow=shown)}

    def encoded_from(self) -> float | None:
        return 0.0

    def stage_progress(self, progress: float) -> float:
        return of_two_stages(progress, first=self.imitation) if self.imitation else progress

    def rate_share(self, progress: float) -> float:
        del progress
        return 1.0

    def _imitate(self, codes_BZhw: Tensor, asked: Tensor | None, rng: torch.Generator) -> Tensor:
        """What the teacher sees at the levels that it teaches, of a narrower student."""
        time_B, alpha, sigma = self.level(integers(0, self.config.taught, codes_BZhw.shape[:1], rng))
        z_BZhw = alpha * codes_BZhw + sigma * normal(codes_BZhw.shape, rng)
        apart_BZhw = self.denoiser(z_BZhw, time_B, asked) - self.teacher.denoise(z_BZhw, time_B, asked)
        loss: Tensor = (self.weight(alpha, sigma) * apart_BZhw.square()).mean()
        return loss

    @abstractmethod
    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Of the error of a clean code, in imitation."""


class LCMStudent(_Taught, LCM):
    """LCM of a given `ldm`."""

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """By which it is the noise's own error."""
        return (alpha / sigma).square().clamp(max=1)


class FlowLCMStudent(_Taught, FlowLCM):
    """LCM of a given `mmdit`."""

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """By which it is the velocity's own error."""
        del alpha
        return sigma**-2
