"""Does a critic that sees the images of its batch together bring back a generator that draws one image over and over?

    .venv/bin/python benchmarks/collapse.py [--variant sngan] [--seeds 3] [--steps 1200]

Planted: on 8x8 digits G is trained against a D that hardly learns, until its samples are alike. Then it goes on with a new D, at
the rates that the variant has by default, and D is shown each image on its own, the standard deviation over the batch, what
minibatch discrimination tells of it, or both. Writes benchmarks/results/collapse.json: how diverse the samples are, the share of
the data that they cover and FD-local, as training reads them, against the steps.
"""

import argparse
import json
import tempfile
from typing import Any

from benchmarks.families import dataset_of
from benchmarks.shared import RESULTS, circumstances

SHOWN = {
    "each image on its own": {"batch_deviation": False},
    "batch deviation": {"batch_deviation": True},
    "minibatch discrimination": {"batch_deviation": False, "minibatch_kernels": 16},
    "both": {"batch_deviation": True, "minibatch_kernels": 16},
}
COLLAPSING = {"lr_peak": 5e-3, "discriminator_rate": 0.02, "ema_decay": 0.9, "batch_deviation": False}
PLANTED_STEPS, READ_EVERY, IMAGES = 400, 200, 256


def learner_of(variant: str, dataset: Any, config: dict[str, Any], *, seed: int) -> Any:
    """A new learner of the variant, with the network of a CPU."""
    import torch

    from components.core.records import DataSpec
    from components.training.device import TrainingDevice
    from components.training.learner import Learner
    from components.training.plan import TrainPlan
    from components.training.start import build

    plan = TrainPlan(
        family="gan", variant=variant, config=config, spec=DataSpec(item=dataset.item, std=dataset.deviation), dataset=dataset,
        folder=tempfile.gettempdir(), run_id="bench", seed=seed, items_seen=1,
    )  # fmt: skip
    return Learner(build(plan), plan, TrainingDevice(torch.device("cpu")))


def trained(learner: Any, train: Any, *, steps: int, read: Any, every: int) -> list[dict[str, float]]:
    """The readings of a training, in which the rate stays as it is."""
    from components.core.family import Batch
    from components.training.stream import BatchStream

    stream = BatchStream(train, batch_size=learner.family.config.batch_size, seed=learner.seed)
    found = []
    for step in range(steps):
        batch = Batch(*stream(step), progress=step / steps, step=step, epoch=stream.epoch(step))
        learner.step(batch, rate=learner.family.config.lr_peak)
        if (step + 1) % every == 0:
            found.append({"step": step + 1} | read(learner, stream))
    return found


def reading_of(quality: Any) -> Any:
    """Reads the average of a learner, calibrated as a reading of a training is."""
    import torch

    from components.core.family import Batch
    from components.training.sampling import TorchSampler

    def read(learner: Any, stream: Any) -> dict[str, float]:
        family = learner.average.family
        with torch.no_grad():
            family.calibrate(Batch(*stream(step), step=step) for step in range(stream.steps_an_epoch))
        told = quality(TorchSampler(family, subject="", batch=IMAGES)(range(IMAGES)))
        return {name: round(getattr(told, name), 3) for name in ("diversity", "coverage", "distance")}

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="sngan")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1200)
    options = parser.parse_args()
    import torch

    from components.data.shards import open_split
    from components.evaluation.signal import FixedNoiseQuality

    torch.set_num_threads(1)
    dataset, extractor = dataset_of("digits")
    train = open_split(dataset.path, "train")
    read = reading_of(FixedNoiseQuality.of(extractor, train))
    rows = []
    for seed in range(options.seeds):
        planted = learner_of(options.variant, dataset, COLLAPSING, seed=seed)
        (before,) = trained(planted, train, steps=PLANTED_STEPS, read=read, every=PLANTED_STEPS)
        rows.append({"shown": "planted", "seed": seed, "readings": [before]})
        for shown, config in SHOWN.items():
            learner = learner_of(options.variant, dataset, config, seed=seed)
            for family in (learner.family, learner.average.family):
                family.generator.load_state_dict(planted.family.generator.state_dict())
            readings = trained(learner, train, steps=options.steps, read=read, every=READ_EVERY)
            rows.append({"shown": shown, "seed": seed, "readings": readings})
            print(seed, shown, before, readings[-1], flush=True)
    result = {"variant": options.variant, **circumstances("torch"), "rows": rows}
    (RESULTS / "collapse.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
