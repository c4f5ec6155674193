"""A student: a model that learns to draw in fewer steps what a teacher draws in many (components/training/distillation)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from components.core.errors import BriefError
from components.core.records import Checkpoint
from components.training.distillation import student_variant
from components.training.start import ModelPlan, Origin, Start

if TYPE_CHECKING:
    from components.core.family import Family


class Student(Start):
    """A student of a teacher of its family."""

    begins_from: ClassVar[tuple[Origin, ...]] = ("release",)
    in_briefs: ClassVar[bool] = False
    kind: Literal["student"] = "student"
    teacher: Checkpoint
    weights: Path  # of the teacher, on this machine
    adversarial: float = Field(default=0.0, ge=0, description="weight of a discriminator's loss on what it draws; 0: none")

    def build(self, plan: ModelPlan) -> "Family":
        """The student with its initial weights. Raises BriefError for a plan that does not fit the teacher."""
        import torch

        from components.training.checkpoint import restore
        from components.training.distillation.adversarial import SHARPENED
        from components.training.distillation.consistency import ConsistencyStudent, LatentConsistencyStudent
        from components.training.distillation.progressive import ProgressiveStudent

        wanted = student_variant(self.teacher.family, self.teacher.variant)
        if plan.variant != wanted:
            raise BriefError(f"variant: {plan.variant} given", allowed=f"{wanted} of {self.teacher.variant}")
        plain: dict[str, Any] = {"ddpm": ProgressiveStudent, "ect": ConsistencyStudent, "latent-ect": LatentConsistencyStudent}
        cls = (SHARPENED if self.adversarial else plain)[plan.variant]
        torch.manual_seed(plan.seed)
        teacher = restore(self.teacher, self.weights)
        made: Family = cls(cls.configure(plan.config, plan.spec), plan.spec, teacher=teacher)
        if self.adversarial:
            made.with_critic(weight=self.adversarial)  # type: ignore[operator]
        return made
