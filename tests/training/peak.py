"""How much memory a step of many items really takes, beside what memory.step_bytes says: `peak.py FAMILY/VARIANT ITEMS`.

Run in a process of its own, as a peak cannot be taken back. Prints both, in bytes, as JSON; steps of two items come first, so
that weights, gradients, Adam's moments and libraries are there in both.
"""

import json
import sys
from pathlib import Path

import torch

from components.core.family import Batch
from components.core.records import DataSpec, LocalDataset
from components.modalities.image.spec import ImageSpec
from components.training.device import TrainingDevice
from components.training.learner import Learner
from components.training.memory import Trial, step_bytes
from components.training.plan import TrainPlan
from components.training.start import build

SIDE, FEW = 32, 2
SPEC = DataSpec(item=ImageSpec(channels=3, height=SIDE, width=SIDE))
DATASET = LocalDataset(
    name="noise", path="", repo=".", rev="", md5="", item=SPEC.item, count=1, classes=(), splits={},
    mean=(127.5,) * 3, std=(64.0,) * 3,
)  # fmt: skip


def peak_bytes() -> int:
    """Of this program: the kernel's figure for a process also counts what it was before it became this program."""
    words = Path("/proc/self/status").read_text().split()
    return 1024 * int(words[words.index("VmHWM:") + 1])


def main(name: str, items: int) -> None:
    family, variant = name.split("/")
    plan = TrainPlan.model_validate(
        {
            "family": family,
            "variant": variant,
            "spec": SPEC,
            "dataset": DATASET,
            "folder": "",
            "run_id": "",
            "threads": 1,
            "items_seen": 1,
        }
    )
    torch.set_num_threads(1)
    learner = Learner(build(plan), plan, TrainingDevice(torch.device("cpu")))
    expected = step_bytes(Trial(learner.family, learner.on))
    peaks = []
    for step, n in enumerate((FEW, FEW, items, items)):
        learner.step(Batch(torch.rand(n, *SPEC.shape) * 2 - 1, progress=1.0, step=step), rate=1e-4)
        peaks.append(peak_bytes())
    print(json.dumps({"grew": peaks[-1] - peaks[1], "expected": expected(items) - expected(FEW)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
