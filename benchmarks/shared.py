"""What the benches share: where results lie, and where and when something was measured."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.runtime.hardware import cpu_name, gpu_name

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def circumstances(*packages: str, device: str = "cpu") -> dict[str, Any]:
    """The day, the commit, the machine and the versions, for a line of results."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "hardware": gpu_name() if device == "cuda" else cpu_name(),
        "machine": f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f} at the end",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    }


def verdicts(found: dict[str, tuple[float, str, float]]) -> dict[str, dict[str, Any]]:
    """Of each figure, with "<=" or ">=" and what it was to reach: whether it did."""
    return {
        name: {"found": figure, "wanted": f"{how} {limit:g}", "reached": figure <= limit if how == "<=" else figure >= limit}
        for name, (figure, how, limit) in found.items()
    }


def verdict_lines(reached: dict[str, dict[str, Any]]) -> list[str]:
    """A table of Markdown of what `verdicts` says."""
    return [
        "| what was to be reached | found | wanted | reached |",
        "|---|---|---|---|",
        *(
            f"| {name} | {each['found']:.3g} | {each['wanted']} | {'yes' if each['reached'] else 'no'} |"
            for name, each in reached.items()
        ),
    ]


def _commit() -> str:
    """The commit, and whether anything but the results differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
