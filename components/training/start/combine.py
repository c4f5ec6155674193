"""Combine: adapters of one base, added to it with weights. Nothing is trained; all that follows, proof to registry, is as ever.

    W = W_b + sum_i w_i (W_i - W_b)        W_b the base, W_i the merged model of a release by LoRA of that base, w_i its weight

The arithmetic of task vectors (Ilharco et al. 2022, arXiv:2212.04089); of LoRA's matrices it is sum_i w_i s_i B_i A_i.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from components.core.record import Record
from components.core.records import Checkpoint
from components.training.kept import Kept
from components.training.start import ModelPlan, Origin, Start

if TYPE_CHECKING:
    from torch import Tensor

    from components.core.family import Family
    from components.core.protocols import ItemSplit


class Addend(Record):
    """An adapter that is added: the merged model of its release, its weight, and its files on this machine."""

    checkpoint: Checkpoint
    weight: float
    files: tuple[Path, ...]  # the merged weights, then those of the adapter in the checkpoint's order


class Combine(Start):
    """A base with adapters added."""

    begins_from: ClassVar[tuple[Origin, ...]] = ("release", "foreign")
    learns: ClassVar[bool] = False
    kind: Literal["combine"] = "combine"
    base: Checkpoint
    weights: Path  # of the base, on this machine
    adapters: tuple[Addend, ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        """All but where files lie."""
        return self.model_dump(mode="json", exclude={"weights": True, "adapters": {"__all__": {"files"}}})

    def build(self, plan: ModelPlan) -> "Family":
        """The sum, with the base's settings of drawing. Raises RunError where weights are damaged."""
        return self._sum(plan)[0]

    def made(self, plan: ModelPlan, split: "ItemSplit") -> Kept:
        """The sum, what drawing needs besides measured on these items, and the adapter that is the sum of all. Raises RunError
        where its files, beside the base, are not the sum."""
        from components.training.adapter.combining import combined_adapter, is_one_model
        from components.training.stream import BatchStream, first_epoch

        family, base = self._sum(plan)
        if not is_one_model([each.weight for each in self.adapters]):
            asked = family.spec.condition
            stream = BatchStream(split, batch_size=family.config.batch_size, seed=plan.seed, condition=asked)
            family.calibrate(first_epoch(stream))
        added = [(each.weight, _adapter(each)) for each in self.adapters if each.weight]
        return Kept(family.kept(), combined_adapter(family, base, added, base_sha256=self.base.weights.sha256))

    def _sum(self, plan: ModelPlan) -> "tuple[Family, dict[str, Tensor]]":
        """The sum, and the base's weights."""
        from components.families import find
        from components.training.adapter.combining import weighted_sum
        from components.training.checkpoint import load_weights

        made = find(plan.family, plan.variant).build(plan.config, plan.spec)
        base = load_weights(self.base.weights, self.weights)
        added = [each for each in self.adapters if each.weight]
        models = (load_weights(each.checkpoint.weights, each.files[0]) for each in added)
        buffers = {name for name, _ in made.named_buffers()}
        made.load_state_dict(weighted_sum(base, [each.weight for each in added], models, buffers=buffers))
        return made.requires_grad_(requires_grad=False).eval(), base


def _adapter(added: Addend) -> Mapping[str, bytes]:
    return {file.name: path.read_bytes() for file, path in zip(added.checkpoint.adapter, added.files[1:], strict=True)}
