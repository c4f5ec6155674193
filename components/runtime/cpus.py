"""How many processors this process may really use: its affinity mask, and the quota of its control group."""

import math
import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # control groups v2: "QUOTA PERIOD" in microseconds, or "max PERIOD"


def usable_cpus(cpu_max: Path = CPU_MAX) -> int:
    """At least 1. In a container limited to 1.5 processors of 64, it says 2."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text().split()
        return min(count, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return count
