"""Do intervals of 95 % hold what they are to hold 95 times in 100? Metrics of the scorecard on MNIST, again and again.

    .venv/bin/python benchmarks/intervals.py [--repetitions 400] [--items 360] [--only PAIR ...]

Each repetition draws a reference and the samples of two generators anew and measures the two beside each other, as a proof does.
What an interval is to hold is the mean of the metric over all repetitions: its expected value at so many samples and reference
items, over both draws. A pair's figures stand in benchmarks/results/intervals.json when it ends.

Generators: other real digits; a Gaussian of rank 24 for each class, in pixels; real digits of five classes of the ten; blurred
real digits. The extractor and the Gaussians are fitted on 8,000 digits that are drawn for nothing else; 12,000 others are there
for references, and 12,000 images of each generator, whose features are computed once.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared import RESULTS, circumstances

OUT = RESULTS / "intervals.json"
FITTED, POOL = 8000, 12_000  # digits that the extractor and the Gaussians are fitted on; images to draw from, of each generator
RANK = 24
PAIRS = {  # candidate beside champion
    "real": ("real", "gaussians"),
    "five-classes": ("five-classes", "real"),
    "blurred": ("blurred", "gaussians"),
}
METRICS = ("coverage", "fd", "kid", "diversity", "classifier")  # files of components/evaluation/metrics
BALLS = ("precision", "recall", "density", "coverage", "recall_lost", "coverage_lost")  # which are to hold 93 to 97 %
SKIPPED = ("fd_noise", "confident_share_real")  # of noise and of the reference alone

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Images to be drawn from, with their features [N, D] and what the classifier takes them for [N, K] once they are known."""

    images: Images
    labels: npt.NDArray[np.int64]
    item: Any
    features: Floats | None = None
    probabilities: Floats | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: npt.NDArray[np.int64]) -> Images:
        return self.images[indices]

    def part(self, indices: npt.NDArray[Any]) -> "Population":
        known = (None if each is None else each[indices] for each in (self.features, self.probabilities))
        return Population(self.images[indices], self.labels[indices], self.item, *known)

    def draw(self, rng: np.random.Generator, n: int) -> "Population":
        return self.part(rng.permutation(len(self))[:n])

    def seen_by(self, extractor: Any) -> "Population":
        return Population(
            self.images, self.labels, self.item, extractor.features(self.images), extractor.probabilities(self.images)
        )


def gaussians(fitted: Population, labels_N: npt.NDArray[np.int64], rng: np.random.Generator, *, rank: int = RANK) -> Images:
    """An image a label, of a Gaussian a class in its first `rank` principal directions."""
    x_NP = np.empty((len(labels_N), fitted.images[0].size))
    for label in range(10):
        x = fitted.images[fitted.labels == label].reshape(-1, x_NP.shape[1]).astype(float)
        _, scale, directions = np.linalg.svd(x - x.mean(0), full_matrices=False)
        z = rng.standard_normal(((labels_N == label).sum(), rank)) * scale[:rank] / np.sqrt(len(x) - 1)
        x_NP[labels_N == label] = x.mean(0) + z @ directions[:rank]
    return np.clip(x_NP.round(), 0, 255).astype(np.uint8).reshape(-1, *fitted.images[0].shape)


def populations() -> tuple[Any, Any, Population, dict[str, Population]]:
    """The dataset, its extractor, what this was fitted on, and what is drawn from: 'reference' and each generator."""
    import torch
    from scipy.ndimage import gaussian_filter

    from components.core.brief import DataBrief
    from components.data.shards import open_split
    from components.data.versions import fetch
    from components.evaluation.extractor import train_extractor
    from flows.settings import load_backends

    torch.set_num_threads(1)
    backends, data = load_backends(), DataBrief(path="data/prepared/mnist")
    dataset = fetch(data, cache=backends.named_home.data, mirror=backends.settings.data_mirror)
    split = open_split(dataset.path, "train")
    chosen = np.random.default_rng(0).permutation(len(split))[: FITTED + 2 * POOL]
    assert split.labels is not None
    every = Population(split.take(chosen), split.labels[chosen], split.item)
    fitted, reference, real = (
        every.part(np.arange(*ends)) for ends in ((0, FITTED), (FITTED, FITTED + POOL), (FITTED + POOL, FITTED + 2 * POOL))
    )
    folder = backends.home.root / "benchmarks" / "intervals"
    extractor = train_extractor(fitted, classes=10, dest=folder, dataset_md5=f"{dataset.md5} {FITTED}")
    rng = np.random.default_rng(1)
    made = {
        "gaussians": gaussians(fitted, rng.choice(fitted.labels, POOL), rng),
        "blurred": gaussian_filter(real.images, sigma=(0, 0.7, 0.7, 0)),
    }
    known = {name: Population(images, real.labels, real.item).seen_by(extractor) for name, images in made.items()}
    known |= {"reference": reference.seen_by(extractor), "real": real.seen_by(extractor)}
    return dataset, extractor, fitted, known | {"five-classes": known["real"].part(real.labels < 5)}


def measured(seed: int, items: int, pair: tuple[str, str], known: tuple[Any, Any, Population, dict[str, Population]]) -> Any:
    """Every metric of METRICS in one repetition."""
    from components.evaluation.bootstrap import Bootstrap
    from components.evaluation.distances import Gaussian
    from components.evaluation.evaluated import Evaluated
    from components.evaluation.samples import Drawn
    from components.evaluation.yardstick import RealSide, make_yardstick

    dataset, extractor, train, pools = known
    rng = np.random.default_rng(seed)
    reference, ours, theirs = (pools[name].draw(rng, items) for name in ("reference", *pair))
    features_MD = reference.features.astype(np.float64)  # type: ignore[union-attr]
    real = RealSide(extractor, Bootstrap(seed), reference.images, features_MD, Gaussian.of(features_MD), reference.labels)
    yardstick = make_yardstick(
        dataset=dataset, train=train, reference=reference, extractor=extractor, seed=seed, samples=items, real=real
    )
    champion, candidate = (
        Evaluated(Drawn("torch:0", each.images, None, np.ones(1)), yardstick, champion=beside)
        for each, beside in ((theirs, None), (ours, None))
    )
    candidate = Evaluated(candidate.drawn, yardstick, champion=champion)
    for seen, each in ((champion, theirs), (candidate, ours)):
        vars(seen).update(features=each.features, probabilities=each.probabilities)  # what its cached properties would compute
    found: dict[str, Any] = {}
    for name in METRICS:
        found |= import_module(f"components.evaluation.metrics.{name}").compute(candidate)
    return found


def repeat(pair: tuple[str, str], repetitions: int, items: int, known: Any) -> dict[str, Floats]:
    """value, low and high of every metric in every repetition: [repetitions, 3]."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(repetitions):
        for name, metric in measured(seed, items, pair, known).items():
            if name not in SKIPPED:
                found.setdefault(name, []).append((metric.value, metric.low, metric.high))
    return {name: np.array(rows) for name, rows in found.items()}


def told(rows_R3: npt.NDArray[np.float64]) -> dict[str, float]:
    """How often the interval holds the mean of all values, and how wide it is beside 3.92 deviations of the values."""
    value_R, low_R, high_R = rows_R3.T
    mean, deviation = value_R.mean(), value_R.std(ddof=1)
    below, above = (high_R < mean).mean(), (low_R > mean).mean()
    width = (high_R - low_R).mean() / (3.92 * deviation) if deviation else float("nan")
    figures = {"held": 1 - below - above, "below": below, "above": above, "mean": mean, "deviation": deviation, "width": width}
    return {name: round(float(figure), 4) for name, figure in figures.items()}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--items", type=int, default=360)
    parser.add_argument("--only", nargs="*", default=[*PAIRS], choices=[*PAIRS])
    args = parser.parse_args(given)
    known = populations()
    results = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name in args.only:
        began = time.monotonic()
        figures = {metric: told(rows) for metric, rows in repeat(PAIRS[name], args.repetitions, args.items, known).items()}
        line = {"candidate": PAIRS[name][0], "champion": PAIRS[name][1], "repetitions": args.repetitions, "items": args.items}
        results[name] = line | {"metrics": figures, "wall_s": round(time.monotonic() - began)} | circumstances("numpy", "torch")
        OUT.write_text(json.dumps(results, indent=1) + "\n")
        for metric, each in figures.items():
            reached = "" if metric not in BALLS else "reached" if 0.93 <= each["held"] <= 0.97 else "MISSED"
            print(
                f"{name:14} {metric:22} holds {each['held']:.3f}  width {each['width']:.2f}  mean {each['mean']:.4g}  {reached}"
            )


if __name__ == "__main__":
    main()
