"""How many latents does a VAE use, and what is gained by drawing codes from the aggregate posterior?

    .venv/bin/python benchmarks/latents.py digits [--items 30000] [--latents 6 16 24] [--seeds 0 1]
    .venv/bin/python benchmarks/latents.py mnist --items 20000 --latents 6 16 32 64

Trains vae/gaussian on so many items for each number of latents, and judges the same weights twice: with codes of N(0, I) and with
the mixture that is fitted at the end of a training. Adds a line each to benchmarks/results/latents.jsonl: the error of
reconstruction in grey levels (held-out images, codes at their means), the bound in bits a dimension, and FD-local, precision,
recall and coverage of samples. A row that stands there already is not measured again.
"""

import argparse
import json
import tempfile
from importlib import import_module
from itertools import product
from typing import Any

from benchmarks.families import dataset_of
from benchmarks.shared import RESULTS, circumstances

SAMPLES = 1000
METRICS = ("fd", "coverage", "bits_per_dim", "reconstruction_error")
SHOWN = ("fd", "precision", "recall", "coverage", "bits_per_dim", "reconstruction_error")


def trained(dataset: Any, train: Any, extractor: Any, *, latent: int, items: int, seed: int) -> Any:
    """What a training keeps, on one thread."""
    from components.core.records import DataSpec
    from components.evaluation.signal import FixedNoiseQuality
    from components.training.checkpoint import restore_best
    from components.training.plan import TrainPlan
    from components.training.start import build
    from components.training.trainer import Trainer
    from components.training.untracked import Untracked

    with tempfile.TemporaryDirectory() as folder:
        plan = TrainPlan(
            family="vae", variant="gaussian", config={"latent": latent}, spec=DataSpec.of(dataset), dataset=dataset,
            folder=folder, run_id="bench", threads=1, seed=seed, items_seen=items,
        )  # fmt: skip
        quality = FixedNoiseQuality.of(extractor, train, seed=seed)
        checkpoint = Trainer(build(plan), plan, split=train, quality=quality, tracker=Untracked()).run()
        return restore_best(plan, checkpoint)


def with_prior(family: Any, train: Any, *, components: int | None) -> Any:
    """The same weights with a mixture of so many Gaussians at most, fitted as a training does; 0: N(0, I)."""
    import torch

    from components.core.family import Batch
    from components.training.stream import BatchStream

    config = family.config if components is None else family.config.model_copy(update={"components": components})
    other = type(family)(config, family.spec).eval()
    weights = {name: value for name, value in family.state_dict().items() if not name.startswith("density.")}
    other.load_state_dict(other.state_dict() | weights)
    stream = BatchStream(train, batch_size=config.batch_size, seed=0, condition=family.spec.condition)
    with torch.no_grad():
        other.calibrate(Batch(*stream.of_all(step), step=step) for step in range(stream.steps_an_epoch))
    return other


def judged(family: Any, yardstick: Any) -> dict[str, float]:
    """The figures of one model."""
    from components.evaluation.evaluated import Evaluated
    from components.evaluation.samples import draw_samples
    from components.training.sampling import TorchSampler

    drawn = draw_samples(TorchSampler(family, subject="bench", batch=250), seed=0, samples=SAMPLES)
    seen = Evaluated(drawn, yardstick, model=family)
    found: dict[str, Any] = {}
    for name in METRICS:
        found |= import_module(f"components.evaluation.metrics.{name}").compute(seen)
    return {name: round(found[name].value, 4) for name in SHOWN if name in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["digits", "mnist", "cifar10", "emoji"])
    parser.add_argument("--items", type=int, default=30_000)
    parser.add_argument("--latents", type=int, nargs="+", default=[6, 16, 24])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    asked = parser.parse_args()
    import torch

    from components.data.joined import held_out
    from components.data.shards import open_split
    from components.evaluation.yardstick import make_yardstick

    torch.set_num_threads(1)
    path = RESULTS / "latents.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    known = {(line["data"], line["items"], line["latent"], line["seed"]) for line in lines}
    wanted = [pair for pair in product(asked.latents, asked.seeds) if (asked.data, asked.items, *pair) not in known]
    dataset, extractor = dataset_of(asked.data)
    train, rest = open_split(dataset.path, "train"), held_out(dataset)
    yardstick = make_yardstick(
        dataset=dataset, train=train, reference=rest, extractor=extractor, seed=0, samples=SAMPLES,
        reference_split="validation+test", resamples=20, level=0.95,
    )  # fmt: skip
    for latent, seed in wanted:
        family = trained(dataset, train, extractor, latent=latent, items=asked.items, seed=seed)
        row = {"data": asked.data, "items": asked.items, "latent": latent, "seed": seed}
        row |= {
            prior: judged(with_prior(family, train, components=components), yardstick)
            for prior, components in (("normal", 0), ("mixture", None))
        }
        print(json.dumps(row), flush=True)
        with path.open("a") as file:
            file.write(json.dumps(row | circumstances("genwright", "torch")) + "\n")


if __name__ == "__main__":
    main()
