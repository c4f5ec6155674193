"""What a step of the second stage costs without and with kept codes, and what an item's codes take.

PYTHONPATH=.:tests python tests/training/codes_gain.py

prints a line a case: processor seconds of one thread, the fastest of four.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from specs import image_data

from components.core.family import Batch
from components.families import find

CASES = (
    ("diffusion/latent", 32, 32),
    ("diffusion/latent", 64, 16),
    ("diffusion/latent", 128, 4),
    ("diffusion/latent-ect", 64, 16),
    ("vae/vq", 32, 32),
    ("autoregressive/vq-transformer", 32, 32),
)


def seconds(run: Callable[[], None]) -> float:
    run()
    taken = []
    for _ in range(4):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return min(taken)


def step(family: Any, batch: Batch) -> None:
    family.zero_grad()
    family.losses(batch, torch.Generator().manual_seed(0))["prior"].backward()


def main() -> None:
    torch.set_num_threads(1)
    for name, side, items in CASES:
        spec = image_data(channels=3, height=side, width=side)
        family = find(*name.split("/")).build({}, spec, light=True).train()
        batch = Batch(torch.rand(items, *spec.shape) * 2 - 1, progress=1.0)
        with torch.no_grad():
            kept = replace(batch, codes=family.encoded(batch.x))
        without, with_codes = seconds(partial(step, family, batch)), seconds(partial(step, family, kept))
        size = sum(each.nbytes for each in kept.codes or ()) // items
        gain = 1 - with_codes / without
        print(
            f"{name} {side}, {items} items: {without:.3f} s, {with_codes:.3f} s ({gain:.0%} less); {size:,} bytes an item",
            flush=True,
        )


if __name__ == "__main__":
    main()
