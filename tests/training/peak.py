"""How much memory a step of many items really takes, beside what memory.py says: `peak.py FAMILY/VARIANT ITEMS [again]`, where
its activations are computed again.

Run in a process of its own, as a peak cannot be taken back. Prints both, in bytes, as JSON; steps of two items come first, so
that weights, gradients, Adam's moments and libraries are there in both.
"""

import json
import sys

import torch

from components.core.family import Batch
from components.core.records import DataSpec, LocalDataset
from components.modalities.image.spec import ImageSpec
from components.runtime.memory import peak_bytes
from components.training.device import TrainingDevice
from components.training.learner import Learner
from components.training.memory import Trial, weighed
from components.training.plan import TrainPlan
from components.training.start import build

SIDE, FEW = 32, 2
SPEC = DataSpec(item=ImageSpec(channels=3, height=SIDE, width=SIDE))
DATASET = LocalDataset(
    name="noise", path="", repo=".", rev="", md5="", item=SPEC.item, count=1, classes=(), splits={},
    mean=(127.5,) * 3, std=(64.0,) * 3,
)  # fmt: skip


def main(name: str, items: int, *, again: bool) -> None:
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
    expected = weighed(Trial(learner.family, learner.on))
    if again:
        learner.recompute()
    peaks = []
    for step, n in enumerate((FEW, FEW, items, items)):
        learner.step(Batch(torch.rand(n, *SPEC.shape) * 2 - 1, progress=1.0, step=step), rate=1e-4)
        peaks.append(peak_bytes())
    print(json.dumps({"grew": peaks[-1] - peaks[1], "expected": expected(items, again) - expected(FEW, again)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), again=sys.argv[3:] == ["again"])
