"""Easy consistency tuning of a trained EDM model (Geng et al. 2024, arXiv:2406.14548); its loss is that of the family `ect`.

A teacher without guidance gives its weights, and the data teach from there on. One with guidance is followed along its own
trajectory: the nearer point of eq. 12 is a step of Euler's method by its guided image (Song et al. 2023, arXiv:2303.01469, eq. 6)

    x_r = x_t + (r - t) (x_t - D_w(x_t; t)) / t

B batch, C channels, H height, W width.
"""

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from components.core.family import Batch
from components.core.randomness import normal
from components.core.records import DataSpec
from components.families.diffusion.consistency import ECT, ECTConfig, LatentECT, LatentECTConfig, consistency_loss
from components.training.distillation import IMITATION
from components.training.distillation.teaching import Teacher, begin_as


class _Taught:
    """What the students in pixels and on codes share."""

    config: Any
    spec: DataSpec
    denoiser: Any
    teacher: Teacher
    is_student: ClassVar[bool] = True

    @staticmethod
    def own_recipe(teacher: dict[str, Any], *, narrower: bool) -> dict[str, Any]:
        """What its config has other than its teacher's: the share of the budget in which a narrower one imitates it; and its peak
        rate is that of its tuning already."""
        return {"teacher_share": IMITATION if narrower else 0.0, "tuning_rate": 1.0}

    def _learn(self, y_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator, *, stage: int) -> Tensor:
        """At stage 0, of a narrower student, the teacher's denoised images; then eq. 12."""
        labels_B = self.denoiser.training_labels(labels_B, rng)
        if stage == 0:
            return self._imitate(y_BCHW, labels_B, rng)
        follow = partial(self.teacher.denoise, labels_B=labels_B) if self.teacher.guides else None
        return consistency_loss(self.denoiser, y_BCHW, labels_B, rng, config=self.config, stage=stage, follow=follow)

    def _imitate(self, y_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> Tensor:
        """EDM's weighted error beside the teacher's image in place of the data's."""
        config = self.config
        sigma_B = (config.p_mean + config.p_std * normal(y_BCHW.shape[:1], rng)).exp()
        x_BCHW = y_BCHW + sigma_B.view(-1, 1, 1, 1) * normal(y_BCHW.shape, rng)
        weight_B = (sigma_B**2 + config.sigma_data**2) / (sigma_B * config.sigma_data) ** 2
        error_BCHW = (self.denoiser(x_BCHW, sigma_B, labels_B) - self.teacher.denoise(x_BCHW, sigma_B, labels_B)).square()
        loss: Tensor = (weight_B.view(-1, 1, 1, 1) * error_BCHW).mean()
        return loss


class ConsistencyStudent(_Taught, ECT):
    """ECT from a given EDM or ECT model."""

    def __init__(self, config: ECTConfig, spec: DataSpec, *, teacher: Any) -> None:
        super().__init__(config, spec)
        self.teacher = Teacher(teacher)
        begin_as(self.denoiser, teacher.denoiser)

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"model": the error of the stage}."""
        return {"model": self._learn(batch.x, batch.condition, rng, stage=self._stage(batch.progress))}


class LatentConsistencyStudent(_Taught, LatentECT):
    """ECT on the codes of a given latent model, whose autoencoder it keeps."""

    def __init__(self, config: LatentECTConfig, spec: DataSpec, *, teacher: Any) -> None:
        super().__init__(config.model_copy(update={"adversarial": 0.0}), spec)  # nothing for a discriminator to teach
        self.teacher = Teacher(teacher)
        begin_as(self.denoiser, teacher.denoiser)
        self.autoencoder.load_state_dict(teacher.autoencoder.state_dict())

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"prior": the error of the stage}; the autoencoder rests."""
        with torch.no_grad():
            z_BZhw = self.drawn(batch, rng)
            codes_BZhw = self.autoencoder.standardise(z_BZhw, deviation=self.config.sigma_data)
        return {"prior": self._learn(codes_BZhw, batch.condition, rng, stage=self._stage(batch.progress))}

    def encoded_from(self) -> float | None:
        return 0.0

    def stage_progress(self, progress: float) -> float:
        return progress
