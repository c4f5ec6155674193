"""Which device there is, without importing torch."""

import shutil
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "cuda"]


def device_for(wanted: Literal["auto", "cpu", "cuda"]) -> Device:
    """Resolve `auto`: CUDA where NVIDIA's driver is."""
    if wanted != "auto":
        return wanted
    return "cuda" if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") else "cpu"
