"""A student: a model that learns to draw in fewer steps what a teacher draws in many (components/training/distillation)."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from components.core.errors import BriefError
from components.core.records import Checkpoint
from components.training.distillation import student_card, student_class
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
        from components.training.distillation.adversarial import sharpened

        card = student_card(self.teacher)
        if plan.variant != card.variant:
            raise BriefError(f"variant: {plan.variant} given", allowed=f"{card.variant} of {self.teacher.variant}")
        cls = student_class(card)
        if self.adversarial:
            cls = sharpened(cls)
        torch.manual_seed(plan.seed)
        teacher = restore(self.teacher, self.weights)
        made: Family = cls(cls.configure(plan.config, plan.spec), plan.spec, teacher=teacher)
        if self.adversarial:
            made.with_critic(weight=self.adversarial)  # type: ignore[operator]
        return made
