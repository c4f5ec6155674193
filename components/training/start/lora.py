"""LoRA (Hu et al. 2021, arXiv:2106.09685): the base's weights rest, and beside chosen layers low-rank matrices learn.

The policy decides it, and nothing builds it yet: what decides it is refused before anything is fetched.
"""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from components.core.errors import NotBuilt
from components.core.records import Checkpoint
from components.training.start import ModelPlan, Origin, Start

if TYPE_CHECKING:
    from components.core.family import Family


class Lora(Start):
    """A base and what is learnt beside it."""

    begins_from: ClassVar[tuple[Origin, ...]] = ()
    kind: Literal["lora"] = "lora"
    base: Checkpoint
    weights: Path  # of the base, on this machine

    def build(self, plan: ModelPlan) -> "Family":
        raise NotBuilt(f"LoRA of {plan.family}/{plan.variant} is not built yet", do="write override: {mode: finetune}")
