"""The memory that is free, for the machine and for the container around this process, and what this process held."""

import resource
import sys
from pathlib import Path

CONTAINER = Path("/sys/fs/cgroup")
STATUS = Path("/proc/self/status")  # of Linux
CGROUPS = (  # limit, use, and in what file how much of it could be given back
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def free_bytes() -> int:
    """What the machine, and the container where there is one, still have."""
    import psutil

    free: int = psutil.virtual_memory().available
    for limit, used, stat in CGROUPS:
        found = [CONTAINER / name for name in (limit, used, stat)]
        if all(path.exists() for path in found) and (most := found[0].read_text().strip()).isdigit():
            pairs = (line.split() for line in found[2].read_text().splitlines())
            given_back = sum(int(size) for name, size in pairs if name in ("inactive_file", "total_inactive_file"))
            free = min(free, int(most) - int(found[1].read_text()) + given_back)
    return free


def peak_bytes() -> int:
    """The most that this program held at once."""
    try:  # the figure for a process that `resource` gives also counts what it was before it became this program
        words = STATUS.read_text().split()
        return 1024 * int(words[words.index("VmHWM:") + 1])
    except (OSError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
