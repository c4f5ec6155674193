"""Random numbers for the items of a batch that is shared out, over processes or over parts that follow each other.

Whoever has a share draws the numbers of the whole batch, as all others do, and keeps those of its own items. What an item meets
then does not depend on how the batch is shared out, and the generators of all processes stay the same.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


class ShareGenerator(torch.Generator):
    """A generator that knows which items are here: those from `start` on, of `whole`; all of them where `whole` is 0."""

    start: int = 0
    whole: int = 0


def normal(shape: Sequence[int], rng: torch.Generator, *, items: int = 0) -> Tensor:
    """N(0, 1) on the generator's device; `items` is the dimension that counts the items of the batch."""
    return _own(lambda size: torch.randn(size, generator=rng, device=rng.device), shape, rng, items)


def uniform(shape: Sequence[int], rng: torch.Generator, *, items: int = 0) -> Tensor:
    """U[0, 1), likewise."""
    return _own(lambda size: torch.rand(size, generator=rng, device=rng.device), shape, rng, items)


def integers(low: int, high: int, shape: Sequence[int], rng: torch.Generator, *, items: int = 0) -> Tensor:
    """int64, each of low to high - 1 as likely, likewise."""
    return _own(lambda size: torch.randint(low, high, size, generator=rng, device=rng.device), shape, rng, items)


def noise_from(place: int, *, seed: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """The noise of the batch that begins at this place of what is evaluated: another one at each place, the same every time."""
    return torch.Generator(device).manual_seed(seed_at(place, seed=seed))


def seed_at(place: int, *, seed: int) -> int:
    """A seed of its own for each place of a run with this seed: 32 bits, of which torch takes no more on a CPU."""
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0])


def whole_batch(rng: torch.Generator, *, of: int) -> int:
    """How many items the batch has of which `of` are here."""
    return rng.whole or of if isinstance(rng, ShareGenerator) else of


def _own(draw: Callable[[Sequence[int]], Tensor], shape: Sequence[int], rng: torch.Generator, items: int) -> Tensor:
    if not (isinstance(rng, ShareGenerator) and rng.whole):
        return draw(shape)
    whole = (*shape[:items], rng.whole, *shape[items + 1 :])
    return draw(whole).narrow(items, rng.start, shape[items])
