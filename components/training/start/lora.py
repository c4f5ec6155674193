"""LoRA (Hu et al. 2021, arXiv:2106.09685): the base's weights rest, and beside chosen layers low-rank matrices learn.

What is kept at a reading is the base with the matrices merged in, a whole model with plain layers like any other, and the
matrices in files of their own (training/adapter). Both are checked before they are written. The state of a training that is under
way holds what learns alone.
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from components.core.brief import LoraBrief
from components.core.records import Checkpoint
from components.training.kept import Kept
from components.training.start import ModelPlan, Origin, Start

if TYPE_CHECKING:
    from torch import Tensor

    from components.core.family import Family


class Lora(Start):
    """A base and what is learnt beside it."""

    begins_from: ClassVar[tuple[Origin, ...]] = ("release", "foreign")
    base_rate: ClassVar[float] = 3.0  # measured: docs/decisions/0032-adapters.md
    decay_from: ClassVar[float | None] = 0.1  # measured: docs/decisions/0034-what-fine-tuning-tells.md
    kind: Literal["lora"] = "lora"
    base: Checkpoint
    weights: Path  # of the base, on this machine
    lora: LoraBrief = LoraBrief()
    prior_preservation: float = Field(default=0.0, ge=0, lt=1, description="share of what is learnt that the base drew")

    def build(self, plan: ModelPlan) -> "Family":
        """The base with new matrices beside its layers. Raises BriefError where it does not fit, RunError where it is damaged."""
        from components.training.adapter.merging import adapt
        from components.training.start.finetune import Finetune

        made = Finetune(base=self.base, weights=self.weights).build(plan)
        return adapt(made, self.lora, base_sha256=self.base.weights.sha256, seed=plan.seed)

    def keep(self, average: "Family") -> Kept:
        """The merged weights, and the adapter's files. Raises RunError where merging changes what is drawn, or the files do not
        load back to the same images."""
        from components.training.adapter.files import adapter_files, check_reloads
        from components.training.adapter.merging import check_merged, lora_config, merged
        from components.training.checkpoint import load_weights

        adapted = copy.deepcopy(average).cpu().eval()
        plain, base = merged(adapted), load_weights(self.base.weights, self.weights)
        check_merged(adapted, plain)
        digest = self.base.weights.sha256
        files = adapter_files(adapted, lora_config(plain, self.lora, base_sha256=digest), base)
        check_reloads(adapted, files, base, base_sha256=digest)
        return Kept(plain.kept(), files)

    def go_back(self, kept: Checkpoint, path: Path, family: "Family") -> "dict[str, Tensor]":
        """The matrices, and what else learns, of a checkpoint that `keep` made."""
        from components.training.adapter.files import learnt_state

        whole = super().go_back(kept, path, family)
        own = family.state_dict()
        return {name: value for name, value in whole.items() if name in own} | learnt_state(path.parent, family)
