"""From scratch: the first weights are drawn, and depend on the seed alone."""

from typing import TYPE_CHECKING, Literal

from components.training.start import ModelPlan, Start

if TYPE_CHECKING:
    from components.core.family import Family


class Scratch(Start):
    """A new model."""

    kind: Literal["scratch"] = "scratch"

    def build(self, plan: ModelPlan) -> "Family":
        """The model as its layers initialise themselves after seeding torch."""
        import torch

        from components.families import find

        torch.manual_seed(plan.seed)
        return find(plan.family, plan.variant).build(plan.config, plan.spec, light=plan.device == "cpu")
