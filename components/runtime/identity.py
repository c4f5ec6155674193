"""Which process this is, by host, pid and start time, so that a reused pid is not mistaken for it.

Containers may share the name of their host and number their own processes, so a pid says something only among those that this
process can see: one boot of one machine, one namespace.
"""

import socket
from pathlib import Path

import psutil

from components.core.record import Record

SAME_PROCESS_S = 2.0  # the start time is derived from the clock; it moves a little when the clock is set


class Identity(Record):
    """A process on some machine."""

    host: str
    pid: int
    started_s: float  # Unix time
    seen_by: str  # among which processes the pid means something; empty where the system does not say

    @classmethod
    def own(cls) -> "Identity":
        """That of this process."""
        process = psutil.Process()
        started_s = round(process.create_time(), 2)
        return cls(host=socket.gethostname(), pid=process.pid, started_s=started_s, seen_by=_namespace())

    @property
    def is_visible(self) -> bool:
        """Whether this process could see it."""
        own = _namespace()
        return self.seen_by == own and (bool(own) or self.host == socket.gethostname())

    @property
    def lives(self) -> bool:
        """Of a visible one: whether it still runs. True where that is not ours to judge."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return abs(process.create_time() - self.started_s) < SAME_PROCESS_S
        except psutil.NoSuchProcess:
            return False
        except (ValueError, psutil.AccessDenied):
            return True


def _namespace() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
