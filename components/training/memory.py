"""How much of a batch a step can take at once. What does not fit is taken in parts whose gradients are summed up: the batch that
the family learns from stays the same.

On a GPU a step is tried at full size. On a CPU a failed trial would be the end of the process, so what two small ones keep for
their backward pass is weighed, and scaled up.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from components.core.errors import TrainingFailed
from components.core.family import Batch, Family
from components.runtime.memory import free_bytes
from components.runtime.processes import by_itself, processes
from components.training.device import TrainingDevice

SAMPLES = (2, 4)  # items of the small trials
KEPT_SHARE = 0.4  # of the memory of a step on the CPU; tests/training/peak.py measures 0.48 to 0.7, by processor and allocator
FREE_SHARE = 0.8  # of what is free may be taken


def parts_that_fit(family: Family, on: TrainingDevice, *, items: int, limit_bytes: int | None) -> int:
    """Into how many parts to cut a batch of `items` so that a step fits: 1, 2, 4, and so on.

    The family stays as it is. `limit_bytes`: None for what is free now. Raises TrainingFailed when not even one item fits.
    """
    trial = Trial(copy.deepcopy(family).train(), on)
    on_gpu = on.on_gpu
    limit = limit_bytes or (torch.cuda.mem_get_info(on.device)[1] if on_gpu else int(FREE_SHARE * free_bytes() / processes()))
    fits = trial.fits if on_gpu else _scaled(trial)
    parts = 1
    while not fits(-(-items // parts), limit):
        if parts >= items:
            raise TrainingFailed(
                f"a training step on one item takes more memory than the {limit / 1e9:.3g} GB there are",
                do="free some, or choose a smaller network in override.config",
            )
        parts *= 2
    return min(parts, items)


@dataclass
class Trial:
    """Steps of a copy of a family, on blank images, that leave nothing behind."""

    family: Family
    on: TrainingDevice

    def losses(self, items: int, *, progress: float, turn: str) -> dict[str, Tensor]:
        device, spec = self.on.device, self.family.spec
        asked = None if spec.condition is None else torch.from_numpy(spec.condition.rows(items)).to(device)
        batch = Batch(torch.zeros(items, *spec.shape, device=device), asked, progress=progress, turn=turn)
        generators = [device] if device.type == "cuda" else []
        with by_itself(), torch.random.fork_rng(devices=generators), self.on.autocast():
            return self.family.losses(batch, torch.Generator(device).manual_seed(0))

    def kept_bytes(self, items: int) -> int:
        """What autograd holds of the losses of so many items, the weights aside; the most of all moments and turns."""
        weights = {tensor.untyped_storage().data_ptr() for tensor in self.family.state_dict(keep_vars=True).values()}
        most = 0
        for progress, turn in self._turns():
            with _watched() as kept:
                self.losses(items, progress=progress, turn=turn)
            most = max(most, sum(size for where, size in kept.items() if where not in weights))
        return most

    def fits(self, items: int, limit_bytes: int) -> bool:
        """Whether whole steps of so many items stay within the GPU and the limit, Adam's two moments counted in."""
        device = self.on.device
        torch.cuda.reset_peak_memory_stats(device)
        try:
            moments = [
                torch.empty_like(each) for each in self.family.parameters() if each.requires_grad
            ]  # the copy is as large as the other
            for progress, turn in self._turns():
                self._backward(self.losses(items, progress=progress, turn=turn))
            del moments
        except torch.OutOfMemoryError:
            return False
        finally:
            self.family.zero_grad()
            torch.cuda.empty_cache()
        return torch.cuda.max_memory_allocated(device) <= limit_bytes

    def _turns(self) -> list[tuple[float, str]]:
        return list(product(self.family.moments(), self.family.turns()))

    def _backward(self, losses: dict[str, Tensor]) -> None:
        groups = self.family.learning_groups()
        learning = {group: loss for group, loss in losses.items() if group in groups}
        for group, loss in learning.items():
            loss.backward(inputs=groups[group], retain_graph=group != [*learning][-1])


def step_bytes(trial: Trial) -> Callable[[int], float]:
    """What a step of so many items takes on the CPU, by two small trials: gradients and Adam's two moments, and what the backward
    pass needs, a line through the two."""
    few, more = (trial.kept_bytes(items) for items in SAMPLES)
    each = (more - few) / (SAMPLES[1] - SAMPLES[0])
    fixed = 3 * sum(each.nbytes for each in trial.family.parameters() if each.requires_grad) + max(0, few - SAMPLES[0] * each)
    return lambda items: fixed + each * items / KEPT_SHARE


def _scaled(trial: Trial) -> Callable[[int, int], bool]:
    """`Trial.fits` by that line."""
    needed = step_bytes(trial)
    return lambda items, limit_bytes: needed(items) <= limit_bytes


@contextmanager
def _watched() -> Iterator[dict[int, int]]:
    """Storages that autograd keeps in this block, and their sizes."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept
