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
    adversarial: bool = Field(default=False, description="learns from a critic alone, beginning with its teacher's weights")

    def build(self, plan: ModelPlan) -> "Family":
        """The student with its initial weights. Raises BriefError for a plan that does not fit the teacher."""
        import torch

        from components.training.checkpoint import restore
        from components.training.distillation.adversarial import post_trained

        card = student_card(self.teacher)
        if plan.variant != card.variant:
            raise BriefError(f"variant: {plan.variant} given", allowed=f"{card.variant} of {self.teacher.variant}")
        cls = student_class(card)
        if self.adversarial:
            cls = post_trained(cls)
        torch.manual_seed(plan.seed)
        teacher = restore(self.teacher, self.weights)
        made: Family = cls(cls.configure(plan.config, plan.spec), plan.spec, teacher=teacher)
        if self.adversarial:
            made.with_critic()  # type: ignore[operator]
        return made
