"""The graphs that servers are measured on, each the bundle of a real production of digits.

small: a DCGAN of about two milliseconds a batch of 16 on two cores. computing: a diffusion model of two steps.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from benchmarks.shared import ROOT

GENWRIGHT = ROOT / ".venv" / "bin" / "genwright"
GRAPHS: dict[str, dict[str, Any]] = {
    "small": {"family": "gan", "variant": "dcgan", "config": {"width": 48}},
    "computing": {"family": "diffusion", "variant": "ect", "config": {"width": 64, "steps": 2}},
}
BATCH = {"small": 64, "computing": 16}  # the largest: for a fast graph as many as the bare session is best with
ANYTHING = {  # how good they are is not at stake
    "distance_ratio_max": None, "heldout_ratio_max": None, "heldout_noise_ratio_max": None, "fd_noise_ratio_max": None,
    "coverage_min": 0.0, "recall_min": 0.0, "duplicates_max": 1.0,
    "memorised_max": 1.0, "roughness_lost_max": None, "class_ratio_min": 0.0,
}  # fmt: skip


def produced(kind: str, home: Path, *, seed: int = 0) -> dict[str, Any]:
    """What `genwright produce` says of a few seconds of training, in a home that other kinds share."""
    brief = {
        "name": kind,
        "modality": "image",
        "data": {"path": "data/prepared/digits", "repo": str(Path(__file__).parents[1])},
        "compute": {"minutes": 0.1, "device": "cpu"},
        "gates": ANYTHING,
        "override": GRAPHS[kind],
        "serving": {"batch": BATCH[kind]},
        "seed": seed,
    }
    path = home / f"{kind}-{seed}.yaml"
    path.write_text(yaml.safe_dump(brief))
    done = subprocess.run(
        [GENWRIGHT, "produce", str(path), "--json"],
        cwd=ROOT, env={**os.environ, "GENWRIGHT_HOME": str(home)}, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 3):
        raise SystemExit(f"{kind}: genwright produce ended with {done.returncode}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def bundle_in(home: Path, told: dict[str, Any]) -> Path:
    """The folder of its bundle in the store of the home."""
    return home / "store" / "bundles" / str(told["bundle"]["sha256"])
