"""One step of learning: the loss of each parameter group, its gradient, and the update.

Each group moves by the gradient of its own loss. Groups of one turn move together; those of the next turn learn from the
weights that it left, as the players of a GAN do. A batch may be taken in parts (see memory.py) and be one process's share of a
larger one (see runtime/processes.py): losses, gradients and buffers are those of the whole. What a part must know of it the
family's `survey` finds first; parts.py has the buffers. Statistics that would have to be known layer by layer are each part's
own, and the family's card names them (`per_part`).

B batch, C channels, H height, W width.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from components.core.family import Batch, Family
from components.core.randomness import ShareGenerator, seed_at
from components.runtime.processes import average_gradients, mean_over_processes, processes, rank
from components.training.average import Average
from components.training.device import TrainingDevice
from components.training.parts import PartBuffers
from components.training.plan import TrainPlan
from components.training.recomputing import recompute
from components.training.state import restore_rng, rng_state


class Learner:
    """A family that learns, the average that trails it, its optimizers and its random numbers."""

    def __init__(self, family: Family, plan: TrainPlan, on: TrainingDevice) -> None:
        self.on = on
        self.seed = plan.seed
        self.layout = torch.channels_last if plan.channels_last else torch.contiguous_format
        torch.manual_seed(plan.seed)
        self.rng = ShareGenerator(on.device)
        self.rng.manual_seed(plan.seed)
        self.parts = 1
        self.recomputing = False
        self.family = family.to(on.device).to(memory_format=self.layout).train()  # type: ignore[call-overload]
        self.average = Average(self.family, decay=family.config.ema_decay)
        self.groups = self.family.learning_groups()
        self.resting = {name for name, each in self.family.named_parameters() if not each.requires_grad}
        optimizers = [
            torch.optim.AdamW(parameters, lr=1.0, betas=family.config.betas, weight_decay=family.config.weight_decay, fused=True)
            for parameters in self.groups.values()
        ]
        for module in self.family.compilable() if plan.compiled else ():
            module.compile()
        self.optimizers = dict(zip(self.groups, optimizers, strict=True))

    def step(self, batch: Batch, *, rate: float) -> dict[str, Tensor]:
        """Update every group that learns in this step, at `rate` times its own; the losses, of the whole batch."""
        if processes() > 1:  # dropout: other numbers in each process, and in a resumed run the same
            torch.manual_seed(seed_at(batch.step * processes() + rank(), seed=self.seed))
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        losses: dict[str, Tensor] = {}
        for turn in self.family.due(batch):
            losses |= self._turn(replace(batch, turn=turn), rate=rate)
        self.average.update(self.family, step=batch.step)
        return {group: mean_over_processes(loss) for group, loss in losses.items()}

    def _turn(self, batch: Batch, *, rate: float) -> dict[str, Tensor]:
        """Move the groups whose turn it is; their losses, as they were before."""
        losses = self._gradients(batch)
        for group in losses:
            parameters = self.groups[group]
            average_gradients(parameters)
            if self.family.config.clip_norm is not None:
                clip_grad_norm_(parameters, self.family.config.clip_norm)
            for options in self.optimizers[group].param_groups:
                options["lr"] = rate * self.family.rates()[group]
            self.optimizers[group].step()
        return losses

    def recompute(self) -> None:
        """From now on keep no activations inside the family's blocks. The average, which takes no gradient, stays as it is."""
        self.recomputing = True
        recompute(self.family.recomputable())

    def start_again_from(self, weights: dict[str, Tensor]) -> None:
        """Take these weights, and forget what the optimizers know."""
        for family in (self.family, self.average.family):
            family.load_state_dict(family.state_dict() | weights)
        for optimizer in self.optimizers.values():
            optimizer.state.clear()

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as nested dicts."""
        return {
            "model": {"weights": self._learnt(self.family), "average": self._learnt(self.average.family)},
            "optimizers": {group: optimizer.state_dict() for group, optimizer in self.optimizers.items()},
            "rng": rng_state(self.rng),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse. Raises KeyError, ValueError or RuntimeError when it is not of this family."""
        self._take(self.family, state["model"]["weights"])
        self._take(self.average.family, state["model"]["average"])
        for group, optimizer in self.optimizers.items():
            # A group that has not learnt yet has no state, and nothing is what is read back of it.
            optimizer.load_state_dict({"state": {}, **state["optimizers"][group]})
            for parameter, known in optimizer.state.items():  # the fused update wants one order in memory
                moments = {name: value for name, value in known.items() if value.shape == parameter.shape}
                known.update({name: torch.empty_like(parameter).copy_(value) for name, value in moments.items()})
        restore_rng(self.rng, state["rng"])

    def _learnt(self, family: Family) -> dict[str, Tensor]:
        """Its state without the parameters that rest: those are the start's, which the plan names."""
        return {name: value for name, value in family.state_dict().items() if name not in self.resting}

    def _take(self, family: Family, learnt: dict[str, Tensor]) -> None:
        missing, unexpected = family.load_state_dict(learnt, strict=False)
        if unexpected or not self.resting.issuperset(missing):
            raise KeyError(f"{[*unexpected, *missing][0]} is of another model")

    def _gradients(self, batch: Batch) -> dict[str, Tensor]:
        """The gradients of the losses, and the losses."""
        items = len(batch.x)
        alone = self.parts == processes() == 1
        self.rng.start, self.rng.whole = rank() * items, 0 if alone else processes() * items
        batch = replace(batch, x=batch.x.contiguous(memory_format=self.layout))
        return self._backward(batch, share=1.0) if self.parts == 1 else self._of_parts(batch)

    def _backward(self, batch: Batch, *, share: float) -> dict[str, Tensor]:
        """Add this share of the gradients of a batch's losses to those that are there; this share of the losses."""
        with self.on.autocast():
            all_losses = self.family.losses(batch, self.rng)
            losses = {group: share * loss.float() for group, loss in all_losses.items() if group in self.groups}
        last = next(reversed(losses), None)
        for group, loss in losses.items():
            loss.backward(inputs=self.groups[group], retain_graph=group != last)
        return {group: loss.detach() for group, loss in losses.items()}

    def _of_parts(self, batch: Batch) -> dict[str, Tensor]:
        """Both of a batch in parts, each by its share of the items. Its items meet the noise that they meet in the whole."""
        parts = self._cut(batch)
        with torch.no_grad(), self.on.autocast():
            known = self.family.survey(parts, self.rng)
        before, buffers = self.rng.get_state(), PartBuffers(self.family)
        total: dict[str, Tensor] = {}
        for part, of_whole in zip(parts, known, strict=True):
            share = len(part.x) / len(batch.x)
            self.rng.set_state(before)
            buffers.begin()
            losses = self._backward(replace(part, of_whole=of_whole), share=share)
            buffers.end(share)
            self.rng.start += len(part.x)  # the generator is told which items of the whole come next
            total = {group: total.get(group, 0) + loss for group, loss in losses.items()}
        buffers.merge()
        return total

    def _cut(self, batch: Batch) -> list[Batch]:
        """The parts of a batch."""
        images = batch.x.tensor_split(self.parts)
        labels = [None] * len(images) if batch.condition is None else batch.condition.tensor_split(self.parts)
        codes = (
            [None] * len(images)
            if batch.codes is None
            else zip(*(each.tensor_split(self.parts) for each in batch.codes), strict=True)
        )
        each = zip(images, labels, codes, strict=True)
        return [replace(batch, x=x, condition=labels_B, codes=codes_B) for x, labels_B, codes_B in each]
