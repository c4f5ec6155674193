"""What is kept of a training by its six readings, and how far does chance choose? Before: the lowest of six, on the features that
judge in the end. After: the last that is not worse than the lowest by more than its noise, on features of a random network.

    .venv/bin/python benchmarks/readings.py [digits] [--only gan/dcgan ...]

A model is trained once, with the averaged weights of each reading kept, and draws a pool of samples from each. A reading is then
taken RUNS times on other samples of the pools, the same noise for all six, and each way of choosing is followed. Told are

    noise      of a reading of real held-out images: its mean and deviation, by features and samples
    proof      FD-local of each reading's pool to held-out images on the extractor's features: what a choice is judged by
    kept       the mean of that over what a choice keeps, beside the last reading and the best one
    optimism   how much lower what is kept was read than it reads on average, as a share of that

Writes benchmarks/results/readings-DATA.json, a row a model; with `--only` the other rows stay.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.families import dataset_of
from benchmarks.shared import RESULTS, circumstances
from components.training import choice

MODELS = {"gan/dcgan": 60_000, "vae/gaussian": 30_000, "diffusion/edm": 12_000}  # items seen: a minute or less on a core
POOL = {"diffusion/edm": 384}
POOL_DEFAULT = 1024
RUNS = 60
BEFORE = {"diffusion/edm": 128}  # samples of a reading, as it was: 256 where one pass draws them
BEFORE_DEFAULT = 256
STEPS = 8  # of a reading, where a model takes several


def trained(model: str, dataset: Any, train: Any, *, items: int) -> tuple[Any, list[dict[str, Any]], dict[str, Any]]:
    """The family, its averaged weights at each reading, and what it took."""
    from components.core.records import DataSpec, Reading
    from components.training.plan import TrainPlan
    from components.training.start import build
    from components.training.trainer import Trainer
    from components.training.untracked import Untracked
    from components.training.work import passes_of_sample, reading_images

    kept: list[dict[str, Any]] = []

    def quality(_: Any) -> Reading:
        kept.append(copy.deepcopy(trainer.average.family.state_dict()))
        return Reading(distance=1.0)

    family, variant = model.split("/")
    with tempfile.TemporaryDirectory() as folder:
        plan = TrainPlan(
            family=family, variant=variant, spec=DataSpec(item=dataset.item, std=dataset.deviation), dataset=dataset,
            folder=folder, run_id="bench", threads=1, items_seen=items, signal_images=2, state_every_s=1e9,
        )  # fmt: skip
        trainer = Trainer(build(plan), plan, split=train, quality=quality, tracker=Untracked())
        checkpoint = trainer.run()
    average = trainer.average.family
    asked = plan.model_copy(update={"signal_images": None})
    images = reading_images(asked, items, passes=passes_of_sample(average, STEPS))
    return average, kept, {"train_s": round(checkpoint.train_s, 1), "items_seen": items, "samples": images}


def pools_of(family: Any, kept: list[dict[str, Any]], *, n: int, steps: int | None) -> tuple[Any, float]:
    """Stored samples [6, n, ...] of the same noise, and milliseconds a sample."""
    from components.training.sampling import TorchSampler

    began, drawn = time.perf_counter(), []
    for weights in kept:
        family.load_state_dict(weights)
        drawn.append(TorchSampler(family, subject="bench", steps=steps, batch=128)(range(n)))
    return np.stack(drawn), 1000 * (time.perf_counter() - began) / n / len(kept)


def lowest(readings: list[Any]) -> int:
    return int(np.argmin([reading.distance for reading in readings]))


def followed(features_6ND: Any, real: Any, choose: Callable[[list[Any]], int], *, n: int, truth_6: Any) -> dict[str, Any]:
    """A way of choosing, RUNS times on n samples of the pools."""
    from components.core.records import Reading
    from components.evaluation.distances import Gaussian, frechet, influence

    rng, distances, chosen = np.random.default_rng(0), [], []
    n = min(n, features_6ND.shape[1] * 2 // 3)
    for _ in range(RUNS):
        places = rng.permutation(features_6ND.shape[1])[:n]
        gaussians = [Gaussian.of(features_ND[places]) for features_ND in features_6ND]
        readings = [
            Reading(distance=frechet(real, each), influence=tuple(influence(features_ND[places], each, real)))
            for each, features_ND in zip(gaussians, features_6ND, strict=True)
        ]
        distances.append([reading.distance for reading in readings])
        chosen.append(choose(readings))
    found, mean_6 = np.array(distances), np.mean(distances, axis=0)
    optimism = np.mean([(mean_6[place] - found[run, place]) / mean_6[place] for run, place in enumerate(chosen)])
    return {
        "samples": n,
        "reads": np.round(mean_6, 3).tolist(),
        "deviation": round(float(found[:, -1].std()), 3),
        "deviation_of_a_difference": round(float((found[:, -2] - found[:, -1]).std()), 3),
        "keeps": np.bincount(chosen, minlength=len(mean_6)).tolist(),
        "kept": round(float(np.mean(truth_6[chosen])), 3),
        "optimism": round(float(optimism), 4),
    }


def noise_of(features_MD: Any, real: Any) -> dict[str, list[float]]:
    """Mean and deviation of the distance of real held-out images, by their number."""
    from components.evaluation.distances import Gaussian, frechet

    rng, found = np.random.default_rng(0), {}
    for n in (128, 256, 512, 1024):
        if n <= len(features_MD):
            draws = [frechet(real, Gaussian.of(features_MD[rng.permutation(len(features_MD))[:n]])) for _ in range(RUNS)]
            found[str(n)] = [round(float(np.mean(draws)), 3), round(float(np.std(draws)), 3)]
    return found


def keep(path: Path, name: str, row: dict[str, Any]) -> None:
    """Put a row in place of the one that was there."""
    told = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(told | {name: row}, indent=1) + "\n")
    print(name, json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS))
    options = parser.parse_args()
    from components.data.joined import held_out
    from components.data.shards import open_split
    from components.evaluation.chosen import choose
    from components.evaluation.distances import Gaussian, frechet
    from components.evaluation.random_features import RandomFeatures
    from components.evaluation.signal import REFERENCE_ITEMS

    dataset, extractor = dataset_of(options.data)
    train, rest = open_split(dataset.path, "train"), choose(held_out(dataset), 5000, seed=0)
    reference = choose(train, REFERENCE_ITEMS, seed=0)
    features = {"proof": extractor.features, "random": RandomFeatures(reference, dataset.item)}
    real = {name: Gaussian.of(of(reference)) for name, of in features.items()}
    judge = Gaussian.of(extractor.features(rest))
    path = RESULTS / f"readings-{options.data}.json"
    keep(path, "noise", {name: noise_of(of(rest), real[name]) for name, of in features.items()})
    for model in options.only:
        family, kept, row = trained(model, dataset, train, items=MODELS[model])
        n, stepwise = POOL.get(model, POOL_DEFAULT), family.card.stepwise
        served, row["ms_a_sample"] = pools_of(family, kept, n=n, steps=None)
        short, row["ms_a_sample_of_a_reading"] = (
            pools_of(family, kept, n=n, steps=STEPS) if stepwise else (served, row["ms_a_sample"])
        )
        truth_6 = np.array([frechet(judge, Gaussian.of(extractor.features(pool))) for pool in served])
        row |= {"proof": np.round(truth_6, 3).tolist(), "last": float(truth_6[-1]), "best": float(truth_6.min())}
        before = np.stack([features["proof"](pool).astype(np.float64) for pool in short])
        after = np.stack([features["random"](pool).astype(np.float64) for pool in short])
        few = BEFORE.get(model, BEFORE_DEFAULT)
        row["before"] = followed(before, real["proof"], lowest, n=few, truth_6=truth_6)
        row["after"] = followed(after, real["random"], choice.kept, n=row["samples"], truth_6=truth_6)
        if stepwise:
            whole = np.stack([features["random"](pool).astype(np.float64) for pool in served])
            row["after, steps as served"] = followed(whole, real["random"], choice.kept, n=row["samples"], truth_6=truth_6)
        keep(path, model, row | circumstances("torch"))


if __name__ == "__main__":
    main()
