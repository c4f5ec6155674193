"""One training in several processes: each holds the same weights and an equal share of every batch, and what is a mean over the
batch must be one over all shares. In a single process everything here gives back what it was given.

    L = 1/R sum_r L_r,   dL/dw = 1/R sum_r dL_r/dw          for R processes whose shares of the batch are of one size

A statistic s of the whole batch lies in every L_r, so the gradient that s passes back is the sum of all processes'.

N rows, D columns, K chosen rows.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn

from components.core.errors import TrainingFailed

T = TypeVar("T")
_BY_ITSELF = ContextVar("by_itself", default=False)
_HERE: ContextVar[tuple[int, int]] = ContextVar("here", default=(0, 1))  # which one on this machine, of how many
JOIN_S = 3600.0  # until all have come: the first one prepares the data before it does


def processes() -> int:
    """How many take part; 1 where nothing was joined."""
    together = distributed.is_available() and distributed.is_initialized() and not _BY_ITSELF.get()
    return distributed.get_world_size() if together else 1


def rank() -> int:
    """Which of them this is, from 0. The first one decides, speaks and writes."""
    return distributed.get_rank() if processes() > 1 else 0


def rank_here() -> int:
    """Which one it is on this machine, from 0: that of its GPU."""
    return _HERE.get()[0] if processes() > 1 else 0


def processes_here() -> int:
    """How many of them share this machine."""
    return _HERE.get()[1] if processes() > 1 else 1


@contextmanager
def joined(number: int, of: int, *, meeting: str, here: tuple[int, int] | None = None) -> Iterator[None]:
    """Take part as process `number` of `of`. They find each other at `meeting`: file:// with a file that does not exist yet, or
    tcp:// with an address of the first one. `here`: which one on this machine, of how many; of all by default.

    Tensors on the CPU travel by gloo, those on GPUs by NCCL. Raises TrainingFailed when another of them has ended.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    within = timedelta(seconds=JOIN_S)
    distributed.init_process_group(backend, init_method=meeting, rank=number, world_size=of, timeout=within)
    token = _HERE.set(here or (number, of))
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise TrainingFailed("another process of this training has ended", do="run it again to go on") from error
        raise
    finally:
        _HERE.reset(token)
        distributed.destroy_process_group()


@contextmanager
def by_itself() -> Iterator[None]:
    """In this block the process is alone: what it does there the others need not do."""
    before = _BY_ITSELF.set(True)
    try:
        yield
    finally:
        _BY_ITSELF.reset(before)


def broadcast_from_rank0(make: Callable[[], T]) -> T:
    """What the first process makes of it, in all of them: decisions that hang on a clock, a signal or a file."""
    if processes() == 1:
        return make()
    told: list[Any] = [make() if rank() == 0 else None]
    distributed.broadcast_object_list(told, src=0)
    return cast("T", told[0])


def all_reduce_max(value: int) -> int:
    """The largest of the values that the processes have."""
    if processes() == 1:
        return value
    said: list[int] = [0] * processes()
    distributed.all_gather_object(said, value)
    return max(said)


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of a tensor that each process has one of; differentiable, any number of times."""
    if processes() == 1:
        return x
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total


def mean_over_processes(x: Tensor) -> Tensor:
    """Their mean: of means over equal shares, the mean over the whole batch. Differentiable, any number of times."""
    return x if processes() == 1 else sum_over_processes(x) / processes()


def rows_over_processes(x_ND: Tensor, chosen_K: Tensor) -> Tensor:
    """Rows [K, D] of the tensors of all processes laid end to end, in the order of their numbers: indices from 0 to R N - 1."""
    if processes() == 1:
        return x_ND[chosen_K]
    here_K = chosen_K - rank() * len(x_ND)
    inside_K1 = ((here_K >= 0) & (here_K < len(x_ND)))[:, None]
    return sum_over_processes(x_ND[here_K.clamp(0, len(x_ND) - 1)] * inside_K1)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give the parameters of all processes the mean of their gradients, in one exchange."""
    if processes() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = mean_over_processes(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


class _Sum(torch.autograd.Function):
    """y = sum_r x_r in all processes. Every process's loss depends on y, so x_r gets the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        total = x.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        del ctx
        return sum_over_processes(slope)
