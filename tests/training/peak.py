"""How much memory a step of many items really takes, beside what memory.py says: `peak.py FAMILY/VARIANT ITEMS [again] [PARTS]`,
`again` where its activations are computed again, and how many parts its items come in. With `draw` so many items are drawn, and
it is what drawing.py says.

Run in a process of its own, as a peak cannot be taken back. Prints both, in bytes, as JSON, and the seconds that the processor
takes for a step; steps of two items come first, so that weights, gradients, Adam's moments and libraries are there in both.
"""

import json
import sys
import time

import torch

from components.core.family import Batch
from components.core.records import DataSpec, LocalDataset
from components.modalities.image.spec import ImageSpec
from components.runtime.memory import peak_bytes
from components.training import drawing
from components.training.device import TrainingDevice
from components.training.learner import Learner
from components.training.memory import Trial, weighed
from components.training.plan import TrainPlan
from components.training.sampling import TorchSampler
from components.training.start import build

SIDE, FEW = 32, 2
SPEC = DataSpec(item=ImageSpec(channels=3, height=SIDE, width=SIDE))
DATASET = LocalDataset(
    name="noise", path="", repo=".", rev="", md5="", item=SPEC.item, count=1, classes=(), splits={},
    mean=(127.5,) * 3, std=(64.0,) * 3,
)  # fmt: skip


def draw(learner: Learner, items: int) -> None:
    family = learner.family.eval()
    expected, peaks = drawing.weighed(family, learner.on), []
    for n in (FEW, FEW, items):
        TorchSampler(family, subject="torch:peak", steps=drawing.STEPS, batch=n)(range(n))
        peaks.append(peak_bytes())
    print(json.dumps({"grew": peaks[-1] - peaks[1], "expected": expected(items) - expected(FEW)}))


def main(name: str, items: int, *, again: bool, parts: int, drawn: bool) -> None:
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
    if drawn:
        draw(learner, items)
        return
    expected = weighed(Trial(learner.family, learner.on))
    if again:
        learner.recompute()
    peaks, seconds = [], []
    for step, n in enumerate((FEW, FEW, items, items, items)):
        learner.parts = parts if n == items else 1
        began = time.process_time()
        learner.step(Batch(torch.rand(n, *SPEC.shape) * 2 - 1, progress=1.0, step=step), rate=1e-4)
        seconds.append(time.process_time() - began)
        peaks.append(peak_bytes())
    more = expected(-(-items // parts), again) - expected(FEW, again)
    print(json.dumps({"grew": peaks[-1] - peaks[1], "expected": more, "step_s": min(seconds[-2:])}))


if __name__ == "__main__":
    options = [option for option in sys.argv[3:] if option]
    main(
        sys.argv[1],
        int(sys.argv[2]),
        again="again" in options,
        parts=int(next(filter(str.isdigit, options), "1")),
        drawn="draw" in options,
    )
