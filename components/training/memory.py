"""How a step of training is fitted into memory: the batch as it was asked; its activations computed again rather than kept
(recomputing.py); the batch in parts whose gradients are summed up. The batch that the family learns from stays the same.

Of what fits, the fewest parts are chosen, and of these the one that recomputes nothing: recomputing changes no number, and parts
change them by rounding, and statistics of the batch that are a part's own. On a GPU a step is tried at full size. On a CPU a
failed trial would be the end of the process, so what two small ones keep for their backward pass is weighed, and scaled up.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from components.core.errors import TrainingFailed
from components.core.family import Batch, Family
from components.core.records import MemoryUse
from components.runtime.memory import free_bytes, peak_bytes
from components.runtime.processes import all_reduce_max, by_itself, processes
from components.training.device import TrainingDevice
from components.training.recomputing import keep_again, recomputing

SAMPLES = (2, 4)  # items of the small trials
KEPT_SHARE = 0.4  # of the memory of a step on the CPU; tests/training/peak.py measures 0.48 to 0.7, by processor and allocator
RECOMPUTED_SHARE = 0.25  # likewise where activations are computed again: what a pass needs beside them does not shrink with them
FREE_SHARE = 0.8  # of what is free may be taken


class Fit(NamedTuple):
    """One way to take a step; they are ordered by what they cost."""

    parts: int = 1
    recomputing: bool = False


def fit_into_memory(
    family: Family, on: TrainingDevice, *, items: int, limit_bytes: int | None = None, at_least: Fit | None = None
) -> MemoryUse:
    """How a step of `items` is taken, in all processes alike; never as one that comes before `at_least`.

    The family stays as it is. `limit_bytes`: None for what is free now. Raises TrainingFailed when not even one item fits.
    """
    trial = Trial(copy.deepcopy(family).train(), on)
    keep_again(trial.blocks)  # of one that goes on, whatever it did before
    limit = limit_bytes or free_on(on)
    needed = cache(trial.needed) if on.on_gpu else weighed(trial)
    in_parts = sorted({min(2**power, items) for power in range(items.bit_length() + 1)})
    known = [Fit(parts, again) for parts in in_parts for again in ((False, True) if trial.blocks else (False,))]
    ways = [way for way in known if way >= (at_least or Fit())] or known[-1:]

    def of(way: Fit) -> float:
        return needed(-(-items // way.parts), way.recomputing)

    found = next((place for place, way in enumerate(ways) if of(way) <= limit), None)
    if found is None:
        least = min(map(of, ways))
        takes = f"{least / 1e9:.3g} GB" if math.isfinite(least) else "more"
        raise TrainingFailed(
            f"a training step on one item takes {takes} of memory, and there are {limit / 1e9:.3g} GB",
            do="free some, or choose a smaller network in override.config",
        )
    chosen = ways[all_reduce_max(found)]
    asked = of(Fit())
    return MemoryUse(
        items=items,
        parts=chosen.parts,
        recomputing=chosen.recomputing,
        free_gb=limit / 1e9,
        asked_gb=asked / 1e9 if math.isfinite(asked) else None,
        needed_gb=of(chosen) / 1e9,
        measured=on.on_gpu,
    )


def free_on(on: TrainingDevice) -> int:
    """What a step of this process may take of what is free: on a GPU all of it."""
    if on.on_gpu:
        return torch.cuda.mem_get_info(on.device)[0] + torch.cuda.memory_reserved(on.device)
    return int(FREE_SHARE * free_bytes() / processes())


def peak_on(on: TrainingDevice) -> int:
    """The most that was held at once: on a GPU since the last trial, else by this process since it began."""
    return torch.cuda.max_memory_allocated(on.device) if on.on_gpu else peak_bytes()


@dataclass
class Trial:
    """Steps of a copy of a family, on blank images, that leave nothing behind."""

    family: Family
    on: TrainingDevice

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        return self.family.recomputable()

    def losses(self, items: int, *, progress: float, turn: str) -> dict[str, Tensor]:
        device, spec = self.on.device, self.family.spec
        asked = None if spec.condition is None else torch.from_numpy(spec.condition.rows(items)).to(device)
        batch = Batch(torch.zeros(items, *spec.shape, device=device), asked, progress=progress, turn=turn)
        generators = [device] if device.type == "cuda" else []
        with by_itself(), torch.random.fork_rng(devices=generators), self.on.autocast():
            return self.family.losses(batch, torch.Generator(device).manual_seed(0))

    def kept_bytes(self, items: int) -> "KeptBytes":
        """What autograd holds of the losses of so many items, the weights aside; the most of all moments and turns."""
        weights = {tensor.untyped_storage().data_ptr() for tensor in self.family.state_dict(keep_vars=True).values()}
        each = []
        for progress, turn in self.turns():
            with _watched(self.blocks) as seen:
                self.losses(items, progress=progress, turn=turn)
            each.append(seen.kept(weights))
        return KeptBytes(max(kept.whole for kept in each), max(kept.recomputing for kept in each))

    def needed(self, items: int, recomputed: bool) -> float:
        """Bytes of the GPU that whole steps of so many items take, Adam's two moments counted in; infinite where it has not."""
        device = self.on.device
        torch.cuda.reset_peak_memory_stats(device)
        try:
            with recomputing(self.blocks) if recomputed else nullcontext():
                moments = [
                    torch.empty_like(each) for each in self.family.parameters() if each.requires_grad
                ]  # the copy is as large as the other
                for progress, turn in self.turns():
                    self._backward(self.losses(items, progress=progress, turn=turn))
                del moments
        except torch.OutOfMemoryError:
            return math.inf
        finally:
            self.family.zero_grad()
            torch.cuda.empty_cache()
        return torch.cuda.max_memory_allocated(device)

    def turns(self) -> list[tuple[float, str]]:
        """Moments of the training, and what learns then."""
        return list(product(self.family.moments(), self.family.turns()))

    def _backward(self, losses: dict[str, Tensor]) -> None:
        groups = self.family.learning_groups()
        learning = {group: loss for group, loss in losses.items() if group in groups}
        for group, loss in learning.items():
            loss.backward(inputs=groups[group], retain_graph=group != [*learning][-1])


def weighed(trial: Trial) -> Callable[[int, bool], float]:
    """What a step of so many items takes on the CPU, by two small trials: gradients and Adam's two moments, and what the backward
    pass needs, a line through the two; as it is, and with recomputing."""
    few, more = (trial.kept_bytes(items) for items in SAMPLES)
    learnt = 3 * sum(each.nbytes for each in trial.family.parameters() if each.requires_grad)

    def needed(items: int, recomputed: bool) -> float:
        at_few, at_more = (kept.recomputing if recomputed else kept.whole for kept in (few, more))
        each = (at_more - at_few) / (SAMPLES[1] - SAMPLES[0])
        share = RECOMPUTED_SHARE if recomputed else KEPT_SHARE
        return learnt + max(0, at_few - SAMPLES[0] * each) + each * items / share

    return needed


class KeptBytes(NamedTuple):
    """What is kept for a backward pass, and what would be with recomputing: what lies outside the blocks, their inputs, and the
    inside of the largest of them."""

    whole: int
    recomputing: int


@dataclass
class _Seen:
    """Storages that autograd keeps, and their sizes: by the block that computed them, None outside of all."""

    sizes: dict[int, int] = field(default_factory=dict)
    places: dict[int | None, set[int]] = field(default_factory=dict)
    now: int | None = None
    held: list[Tensor] = field(default_factory=list)  # inputs of blocks: while they are held no other has their place

    def keep(self, tensor: Tensor) -> Tensor:
        self._note(tensor, self.now)
        return tensor

    def _note(self, tensor: Tensor, place: int | None) -> None:
        storage = tensor.untyped_storage()
        self.sizes[storage.data_ptr()] = storage.nbytes()
        self.places.setdefault(place, set()).add(storage.data_ptr())

    def enter(self, number: int, inputs: tuple[Any, ...]) -> None:
        self.now = number
        for each in inputs if torch.is_grad_enabled() else ():
            if isinstance(each, Tensor):
                self._note(each, None)
                self.held.append(each)

    def kept(self, weights: set[int]) -> KeptBytes:

        def size(storages: set[int]) -> int:
            return sum(self.sizes[each] for each in storages - weights)

        outside = self.places.get(None, set())
        inside = [size(storages - outside) for place, storages in self.places.items() if place is not None]
        return KeptBytes(whole=size(set(self.sizes)), recomputing=size(outside) + max(inside, default=0))


@contextmanager
def _watched(blocks: tuple[nn.Module, ...]) -> Iterator[_Seen]:
    """What autograd keeps in this block of code."""
    seen, hooks = _Seen(), []
    for number, block in enumerate(blocks):
        enter = lambda _, inputs, named, number=number: seen.enter(number, (*inputs, *named.values()))  # noqa: E731
        hooks.append(block.register_forward_pre_hook(enter, with_kwargs=True))
        hooks.append(block.register_forward_hook(lambda *_: setattr(seen, "now", None)))
    try:
        with saved_tensors_hooks(seen.keep, lambda tensor: tensor):
            yield seen
    finally:
        for hook in hooks:
            hook.remove()
