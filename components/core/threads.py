"""How many CPU threads to train with: on a machine that others use more are slower, since each operation waits for the last."""

import time

import torch

from components.core.cpus import usable_cpus

REPEATS = 20
GAIN = 1.15  # more threads must be this much faster, or one is taken: it disturbs nobody


def choose_threads(*, shared_by: int = 1) -> int:
    """1 or all that this process may use, whichever runs a small convolution faster now. Takes a fraction of a second.

    `shared_by` processes take their equal shares.
    """
    available = max(1, usable_cpus() // shared_by)
    if available == 1:
        return 1
    return available if _seconds(1) > GAIN * _seconds(available) else 1


def _seconds(threads: int) -> float:
    """The time of a convolution of the size that small image models spend theirs on."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x_BCHW, weight = torch.ones(128, 64, 8, 8), torch.ones(64, 64, 3, 3)
        torch.conv2d(x_BCHW, weight, padding=1)
        start = time.perf_counter()
        for _ in range(REPEATS):
            torch.conv2d(x_BCHW, weight, padding=1)
        return time.perf_counter() - start
    finally:
        torch.set_num_threads(before)
