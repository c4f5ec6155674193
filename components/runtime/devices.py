"""Which device there is, without importing torch."""

import shutil
from pathlib import Path
from typing import Literal, cast, get_args

from components.core.errors import InputError

Device = Literal["cpu", "cuda"]


def device_for(wanted: str) -> Device:
    """Resolve `auto`: CUDA where NVIDIA's driver is. Raises InputError for what is neither that nor a device."""
    if wanted in get_args(Device):
        return cast(Device, wanted)
    if wanted != "auto":
        raise InputError(f"--device {wanted}", allowed=", ".join(("auto", *get_args(Device))))
    return "cuda" if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") else "cpu"
