"""How many CPU threads a training process computes with: a rule, no timing, since other threads sum in another order."""

import os

from components.runtime.cpus import usable_cpus

THREADS_MAX = 4  # the small networks that a CPU trains gain little from more


def default_threads(*, shared_by: int = 1) -> int:
    """The share of one of `shared_by` processes in the processors that this process may use, 1 to THREADS_MAX."""
    return max(1, min(THREADS_MAX, usable_cpus() // shared_by))


def rest_when_idle() -> None:
    """Call before anything imports torch: OpenMP's threads that spin while they wait starve the other processes here."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
