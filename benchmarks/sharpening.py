"""Do a patch discriminator and a distance of Laplacian pyramids make an autoencoder's images sharper, for the same items seen?

    .venv/bin/python benchmarks/sharpening.py emoji [--model vae/vq] [--items 12000] [--batch 16] [--seeds 0 1]

Trains the autoencoder of a family, and not its prior, with each of TAUGHT. Adds a line each to
benchmarks/results/sharpening.jsonl, of held-out images and what the averaged weights rebuild: the root of the mean squared error
in grey levels, the power above half of the highest frequency as a share of that of the images (1 is as sharp), FD-local between
the two, and seconds a step. A row that stands there already is not measured again.
"""

import argparse
import json
import tempfile
import time
from itertools import product
from typing import Any

import numpy as np

from benchmarks.families import dataset_of
from benchmarks.shared import RESULTS, circumstances

NEITHER = {"laplacian": 0.0, "adversarial": 0.0, "adversarial_items": 0}
SCALES = NEITHER | {"laplacian": 0.1}
TAUGHT = {
    "squares": NEITHER,
    "laplacian": SCALES,
    "laplacian 0.5": NEITHER | {"laplacian": 0.5},
    "discriminator 0.1 from 0.5": SCALES | {"adversarial": 0.1},
    "discriminator 0.5 from 0.5": SCALES | {"adversarial": 0.5},
    "discriminator 0.1 from 0.75": SCALES | {"adversarial": 0.1, "adversarial_from": 0.75},
    "discriminator 0.5 from 0.75": SCALES | {"adversarial": 0.5, "adversarial_from": 0.75},
    "discriminator 0.5 from 0.5, at the full rate": SCALES | {"adversarial": 0.5, "discriminator_rate": 1.0},
}
HELD_OUT = 1000


def taught(model: str, dataset: Any, train: Any, config: dict[str, Any], *, items: int, seed: int) -> tuple[Any, float]:
    """The average of a training of the autoencoder alone, and seconds a step."""
    import torch

    from components.core.family import Batch
    from components.core.records import DataSpec
    from components.training.device import TrainingDevice
    from components.training.learner import Learner
    from components.training.plan import TrainPlan
    from components.training.schedule import learning_rate
    from components.training.start import build
    from components.training.stream import BatchStream

    family, variant = model.split("/")
    plan = TrainPlan(
        family=family, variant=variant, config=config, spec=DataSpec.of(dataset), dataset=dataset, folder=tempfile.gettempdir(),
        run_id="bench", seed=seed, items_seen=items,
    )  # type: ignore[arg-type]  # fmt: skip
    learner = Learner(build(plan), plan, TrainingDevice(torch.device("cpu")))
    own = learner.family.config
    stream = BatchStream(train, batch_size=own.batch_size, seed=seed)
    steps, began = -(-items // own.batch_size), time.monotonic()
    for step in range(steps):
        batch = Batch(*stream(step), progress=own.autoencoder_share * step / steps, step=step, epoch=stream.epoch(step))
        learner.step(batch, rate=learning_rate(own, step=step, progress=step / steps))
    return learner.average.family.eval(), (time.monotonic() - began) / steps


def rebuilt(family: Any, images: Any) -> Any:
    """Stored images from stored images."""
    import torch

    from components.core.family import to_data_units
    from components.core.units import to_stored

    x_BCHW = to_data_units(images, family.spec.item)
    with torch.no_grad():
        back = torch.cat([family.decode(family.encode(part)) for part in x_BCHW.split(100)])
    return to_stored(back.numpy(), family.spec.item)


def fine_power(images: Any) -> float:
    """The mean power of stored images [N, H, W, C] above half of the highest frequency."""
    spectrum = np.abs(np.fft.fft2(images.astype(np.float64), axes=(1, 2))) ** 2
    rows, columns = (np.abs(np.fft.fftfreq(size)) for size in images.shape[1:3])
    fine = np.maximum.outer(rows, columns) > 0.25
    return float(spectrum[:, fine].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["emoji", "cifar10", "mnist"])
    parser.add_argument("--model", default="vae/vq")
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--batch", type=int, default=16, help="small, for many steps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", default=[*TAUGHT], choices=[*TAUGHT])
    asked = parser.parse_args()
    import torch

    from components.data.joined import held_out
    from components.data.shards import open_split
    from components.evaluation.distances import Gaussian, frechet

    torch.set_num_threads(1)
    path = RESULTS / "sharpening.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    keys = ("data", "model", "items", "batch", "taught", "seed")
    known = {tuple(line[key] for key in keys) for line in lines}
    dataset, extractor = dataset_of(asked.data)
    train, rest = open_split(dataset.path, "train"), held_out(dataset)
    images = rest.take(np.arange(min(HELD_OUT, len(rest))))
    for seed, how in product(asked.seeds, asked.only):
        row: dict[str, Any] = dict(zip(keys, (asked.data, asked.model, asked.items, asked.batch, how, seed), strict=True))
        if tuple(row.values()) in known:
            continue
        family, step_s = taught(
            asked.model, dataset, train, TAUGHT[how] | {"batch_size": asked.batch}, items=asked.items, seed=seed
        )
        back = rebuilt(family, images)
        real, made = (Gaussian.of(extractor.features(each)) for each in (images, back))
        row |= {
            "rmse": round(float(np.sqrt(np.square(back.astype(np.float64) - images).mean())), 2),
            "fine_power": round(fine_power(back) / fine_power(images), 4),
            "fd": round(frechet(real, made), 3),
            "step_s": round(step_s, 3),
        }
        print(json.dumps(row), flush=True)
        with path.open("a") as file:
            file.write(json.dumps(row | circumstances("genwright", "torch")) + "\n")


if __name__ == "__main__":
    main()
