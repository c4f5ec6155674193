"""What the benches share: where results lie, and where and when something was measured."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def circumstances(*packages: str, device: str = "cpu") -> dict[str, Any]:
    """The day, the commit, the machine and the versions, for a line of results."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "hardware": _gpu_name() if device == "cuda" else platform.machine(),
        "machine": f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f} at the end",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    }


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name()
