"""What this machine computes with, in words: two machines of the same words take about as long for the same work."""

import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

from components.runtime.cpus import usable_cpus

CPUINFO, GPUS = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")
ASKED_S = 5.0  # that NVIDIA's driver may take to answer


def machine(device: str, *, threads: int = 0) -> str:
    """'Intel(R) Xeon(R) Processor, 2 threads' or 'NVIDIA H200'; empty where its GPU is not known. `threads` of the CPU, 0:
    as many as there are processors."""
    return gpu_name() if device == "cuda" else f"{cpu_name()}, {threads or usable_cpus()} threads"


def cpu_name(cpuinfo: Path = CPUINFO) -> str:
    """As Linux names it, else the architecture."""
    return _after("model name", cpuinfo) or platform.machine()


@cache
def gpu_name(gpus: Path = GPUS) -> str:
    """As NVIDIA's driver names the first one; empty where there is none. It is asked without torch."""
    if named := [name for path in sorted(gpus.glob("*/information")) if (name := _after("Model", path))]:
        return named[0]
    if (asked := shutil.which("nvidia-smi")) is None:
        return ""
    command = [asked, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=ASKED_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    return next(iter(answer.stdout.splitlines()), "").strip()


def _after(key: str, path: Path) -> str:
    """What follows a key and a colon in a file; empty where it does not."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if ":" in line and line.split(":", 1)[0].strip() == key), "")
