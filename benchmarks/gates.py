"""How often does the gate on the distance pass an equal and refuse what is worse? Simulated releases of a known true ratio.

    .venv/bin/python benchmarks/gates.py [--trials 200] [--jobs 2] [--only gaussians ...]

Digits of MNIST, reduced to 8 x 8 as the demo's are: 1,437 to learn from, 360 held out in each trial, drawn anew, and 2,000, 4,000
or 8,000 samples of either side, as many looks as a proof has. Items are drawn with replacement, those of candidate and champion
apart, so that the truth is that of what is drawn from. What a row holds is in benchmarks/gates_judged.py; rows end up in
benchmarks/results/gates.json and gates.md.

Kinds of model: a Gaussian a class in its first 8 principal directions, fitted to resampled digits; a variational autoencoder of
the house, trained here by two seeds, and one that was stopped early; real digits that nothing was trained on, blurred.
A champion and a retrained equal are two of one kind by two seeds. A candidate of the wanted ratio is the nearer of them, of whose
samples a share comes from a worse one. The share follows from the distances to 40,000 real digits: MMD^2 of a mixture is a
quadratic of it.

The rows of a whole release judge equals by both gates on the ratio, as a proof does: on the extractor's features, and on those of
two networks that judge a half of the held-out items each. In a proof each learns the other half; here each learns a half of 360
other digits, once for all trials, so that a trial needs no training. What they judge is as new to them, but these rows are about
one pair of networks.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.gates_judged import judge_rows, table
from benchmarks.intervals import Population, gaussians
from benchmarks.shared import RESULTS, circumstances
from components.evaluation.power import LOOKS

OUT, PAGE = RESULTS / "gates.json", RESULTS / "gates.md"
LEARNT, REFERENCE = 1437, 360
REAL, POOL = 40_000, 24_000  # real digits that the truth is measured on and references are drawn from; samples of each model
SAMPLES = 2000
HALVES = 2  # of the held-out items, each judged by a network of its own
FIRST = 1000  # seed of the trials: none that the constants of the gate were chosen by (0 to 199)
RATIOS = (1.0, 1.1, 1.25, 1.35, 1.6)
KINDS = ("gaussians", "trained", "perturbed")
ITEMS, STOPPED = 150_000, 10_000  # seen by the autoencoders
TRAINED = ("vae", "gaussian")
BLURRED = (0.45, 0.5)  # deviations of the blur, in pixels: of the champion, and of what makes candidates worse

Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Models:
    """phi of POOL samples of the farther of two models of one kind by two seeds; of the other, and below them of a worse one; and
    of real digits. Features of all four."""

    champion: Rows
    candidate: Rows
    real: Rows
    features: dict[str, npt.NDArray[np.float32]]
    swapped: bool = False  # whether the champion is the second of the two

    def share(self, ratio: float) -> float:
        """Of samples of the worse one in a candidate that is `ratio` times as far as the champion."""
        mu_c, mu_e, mu_w, mu_real = self._means()
        to_e, to_w = mu_e - mu_real, mu_w - mu_e
        wanted = ratio * float((mu_c - mu_real) @ (mu_c - mu_real))
        a, b, c = float(to_w @ to_w), 2 * float(to_e @ to_w), float(to_e @ to_e) - wanted
        return min(1.0, max(0.0, (-b + math.sqrt(max(0.0, b**2 - 4 * a * c))) / (2 * a)))

    def true_ratios(self, share: float) -> tuple[float, float]:
        """By MMD^2 and by FD-local, of POOL samples beside REAL digits."""
        from components.evaluation.distances import Gaussian, frechet

        mu_c, mu_e, mu_w, mu_real = self._means()
        ours, theirs = (float(np.square(mu - mu_real).sum()) for mu in ((1 - share) * mu_e + share * mu_w, mu_c))
        cut = round(share * POOL)
        mixed = np.concatenate([self.features["equal"][cut:], self.features["worse"][:cut]])
        real = Gaussian.of(self.features["real"])
        far = [frechet(real, Gaussian.of(each)) for each in (mixed, self.features["champion"])]
        return ours / theirs, far[0] / far[1]

    def _means(self) -> tuple[npt.NDArray[np.float64], ...]:
        parts = (self.champion, self.candidate[:POOL], self.candidate[POOL:], self.real)
        return tuple(self._mean(each) for each in parts)

    @staticmethod
    def _mean(phi: Rows) -> npt.NDArray[np.float64]:
        mean: npt.NDArray[np.float64] = phi.mean(axis=0, dtype=np.float64)
        return mean


class Mapped:
    """A kernel whose items are given as phi already."""

    def phi(self, rows: Rows) -> Rows:
        return rows

    def mean(self, rows: Rows) -> npt.NDArray[np.float64]:
        return (np.full(len(rows), 1 / len(rows), np.float32) @ rows).astype(np.float64)

    def along(self, rows: Rows, directions_FK: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return (rows @ directions_FK.astype(np.float32)).astype(np.float64)


def digits() -> tuple[Any, Population, Population, Population]:
    """The dataset, what is learnt from, real digits, and others that are perturbed; all 8 x 8, of 17 grey levels."""
    from components.core.brief import DataBrief
    from components.data.shards import open_split
    from components.data.versions import fetch
    from flows.settings import load_backends

    backends, data = load_backends(), DataBrief(path="data/prepared/mnist")
    dataset = fetch(data, cache=backends.named_home.data, mirror=backends.settings.data_mirror)
    splits = [open_split(dataset.path, name) for name in ("train", "validation", "test")]
    images = np.concatenate([split.take(np.arange(len(split))) for split in splits])
    labels = np.concatenate([np.asarray(split.labels) for split in splits]).astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    blocks = np.pad(images[order], ((0, 0), (2, 2), (2, 2), (0, 0))).reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    small = (np.round(blocks / 255 * 16) * 255 / 16).round().astype(np.uint8)[..., None]
    item = dataset.item.model_copy(update={"height": 8, "width": 8})
    every = Population(small, labels[order], item)
    ends = ((0, LEARNT), (LEARNT, LEARNT + REAL), (LEARNT + REAL, LEARNT + REAL + POOL))
    learnt, real, others = (every.part(np.arange(*each)) for each in ends)
    return dataset.model_copy(update={"item": item}), learnt, real, others


def resampled_gaussians(learnt: Population, rank: int, seed: int) -> Images:
    """POOL images of Gaussians that were fitted to resampled digits."""
    rng = np.random.default_rng(seed)
    again = learnt.part(rng.integers(len(learnt), size=len(learnt)))
    return gaussians(again, rng.choice(learnt.labels, POOL), rng, rank=rank)


def trained_family(dataset: Any, learnt: Population, *, items: int, seed: int, of: int = ITEMS, **config: Any) -> Any:
    """The autoencoder after so many items seen `of` a run, its averaged weights."""
    import torch

    from components.core.family import Batch
    from components.core.records import DataSpec
    from components.training.device import TrainingDevice
    from components.training.learner import Learner
    from components.training.plan import TrainPlan
    from components.training.schedule import learning_rate
    from components.training.start import build
    from components.training.stream import BatchStream

    family, variant = TRAINED
    plan = TrainPlan(
        family=family, variant=variant, spec=DataSpec.of(dataset), dataset=dataset, folder=tempfile.gettempdir(), run_id="bench",
        seed=seed, items_seen=items, config=config,
    )  # fmt: skip
    learner = Learner(build(plan), plan, TrainingDevice(torch.device("cpu")))
    own = learner.family.config
    stream, steps = BatchStream(learnt, batch_size=own.batch_size, seed=seed), -(-of // own.batch_size)
    for step in range(-(-items // own.batch_size)):
        batch = Batch(*stream(step), progress=step / steps, step=step, epoch=stream.epoch(step))
        learner.step(batch, rate=learning_rate(own, step=step, progress=step / steps))
    return learner.average.family.eval()


def trained(dataset: Any, learnt: Population, *, items: int, seed: int) -> Images:
    """POOL images of it."""
    from components.training.sampling import TorchSampler

    sampler = TorchSampler(trained_family(dataset, learnt, items=items, seed=seed), subject=f"torch:{seed}", batch=500)
    return np.concatenate([sampler(range(at, at + 1000)) for at in range(0, POOL, 1000)])


def images_of(kind: str, dataset: Any, learnt: Population, others: Population) -> tuple[Images, Images, Images]:
    """Of two models of a kind by two seeds, and of a worse one."""
    from scipy.ndimage import gaussian_filter

    if kind == "gaussians":
        return resampled_gaussians(learnt, 8, 1), resampled_gaussians(learnt, 8, 2), resampled_gaussians(learnt, 3, 3)
    if kind == "trained":
        one, two, three = ((ITEMS, 1), (ITEMS, 2), (STOPPED, 3))
        return tuple(trained(dataset, learnt, items=items, seed=seed) for items, seed in (one, two, three))  # type: ignore[return-value]
    blurred = [gaussian_filter(others.images, sigma=(0, by, by, 0)) for by in BLURRED]
    return blurred[0], blurred[0], blurred[1]  # a seed draws other digits of them


def halves_of(held_out: Population, md5: str, folder: Path) -> list[Any]:
    """The networks of a proof: each trained on a half of these digits."""
    from components.evaluation.extractor import train_extractor
    from components.evaluation.unseen import SEEDS, learnt_by, steps_of

    parts = [(seed, learnt_by(held_out, part)) for part, seed in enumerate(SEEDS)]
    own: dict[str, Any] = {"classes": 10, "dataset_md5": md5}
    return [
        train_extractor(learnt, dest=folder / f"{seed}", seed=seed, steps=steps_of(len(learnt), 700), **own)
        for seed, learnt in parts
    ]


def models_of(
    images: tuple[Images, Images, Images], extractor: Any, kernel: Any, real: Images, like: Models | None = None
) -> Models:
    """By the features of this extractor. The champion is the farther one, or that of `like`, by another extractor."""
    one, two, three, of_real = (extractor.features(each) for each in (*images, real))
    phi = {name: kernel.phi(each) for name, each in (("one", one), ("two", two), ("three", three), ("real", of_real))}
    far = [float(np.square(Models._mean(phi[name]) - Models._mean(phi["real"])).sum()) for name in ("one", "two")]
    swapped = far[0] < far[1] if like is None else like.swapped
    first, second, features = ("two", "one", (two, one)) if swapped else ("one", "two", (one, two))
    known = {"champion": features[0], "equal": features[1], "worse": three, "real": of_real}
    return Models(phi[first], np.concatenate([phi[second], phi["three"]]), phi["real"], known, swapped)


@dataclass(frozen=True)
class Drawn:
    """The places of a trial's items: any item may be drawn again, and nothing is shared by candidate and champion."""

    reference: npt.NDArray[np.int64]
    candidate: npt.NDArray[np.int64]
    champion: npt.NDArray[np.int64]

    @classmethod
    def of(cls, seed: int, share: float) -> "Drawn":
        """Of the candidate's this share, in the mean, comes from the worse model."""
        rng, most = np.random.default_rng(seed), SAMPLES << (LOOKS - 1)
        reference, champion, ours = (
            rng.integers(REAL, size=REFERENCE),
            rng.integers(POOL, size=most),
            rng.integers(POOL, size=most),
        )
        return cls(reference, np.where(rng.random(most) < share, POOL + ours, ours), champion)


def trial(models: Models, share: float, seed: int, unseen: Sequence[Models] = ()) -> dict[str, Any]:
    """One release: what its proof does, look by look. Figures are of the first gate; with `unseen`, models by the networks of
    halves, the verdict is that of both."""
    from components.core.records import Metric
    from components.evaluation.definitions import gates
    from components.evaluation.gates import judge, overall
    from components.evaluation.kernel import Distance, Real, pooled_floor, ratio_interval
    from components.evaluation.pair import look_again
    from components.evaluation.power import end_scores

    drawn, gate = Drawn.of(seed, share), gates()["distance_ratio_max"]
    margin = float(gate.default)  # type: ignore[arg-type]
    sides = [[(models, Real.of(Mapped(), models.real[drawn.reference]))]]  # type: ignore[arg-type]
    if unseen:
        own = [each.real[drawn.reference[part::HALVES]] for part, each in enumerate(unseen)]
        sides.append([(each, Real.of(Mapped(), rows)) for each, rows in zip(unseen, own, strict=True)])  # type: ignore[arg-type]
    for look in range(LOOKS):
        n, z, found, nearest = SAMPLES << look, end_scores(look=look, looks=LOOKS), [], math.inf
        for parts in sides:
            ours = Distance.pooled([Distance.of(each.candidate[drawn.candidate[:n]], real) for each, real in parts])
            theirs = Distance.pooled([Distance.of(each.champion[drawn.champion[:n]], real) for each, real in parts])
            floor = pooled_floor([real for _, real in parts])
            value, low, high = ratio_interval(ours, theirs, floor=floor, z=z)
            found.append(Metric(value=value, low=low, high=high, n=n))
            nearest = min(nearest, theirs.value / floor)
        if not look_again([(each, margin, True) for each in found]):
            break
    verdict = overall([judge(gate, each, margin).verdict for each in found])
    first = found[0]
    return {
        "verdict": verdict, "value": first.value, "low": first.low, "high": first.high, "looks": look + 1, "floors": nearest,
    }  # fmt: skip


def row_of(kind: str, models: Models, ratio: float, trials: int, unseen: Sequence[Models] = ()) -> dict[str, Any]:
    """Verdicts of so many trials of a candidate of this true ratio; of a whole release where there are `unseen` features."""
    began, share = time.monotonic(), models.share(ratio)
    by_mmd, by_fd = models.true_ratios(share)
    found = [trial(models, share, FIRST + seed, unseen) for seed in range(trials)]
    verdicts = [each["verdict"] for each in found]
    true = {"distance": round(by_mmd, 4), "fd": round(by_fd, 4)}
    if unseen:
        true["unseen"] = round(float(np.mean([each.true_ratios(share)[0] for each in unseen])), 4)
    return {
        "kind": kind,
        "gates": "both" if unseen else "first",
        "ratio": ratio,
        "true": true,
        "trials": trials,
        "reference": REFERENCE,
        "samples": [SAMPLES << look for look in range(LOOKS)],
        **{name: verdicts.count(name) / trials for name in ("pass", "fail", "undecided")},
        "wholly beyond the margin": sum(each["low"] > 1.25 for each in found) / trials,
        "held": sum(each["low"] <= by_mmd <= each["high"] for each in found) / trials,
        "mean": round(float(np.mean([each["value"] for each in found])), 4),
        "deviation": round(float(np.std([each["value"] for each in found])), 4),
        "looks": sum(each["looks"] for each in found) / trials,
        "floors": round(min(each["floors"] for each in found), 2),
        "wall_s": round(time.monotonic() - began),
    }


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[*KINDS], choices=[*KINDS])
    args = parser.parse_args(given)
    import torch

    from components.evaluation.extractor import train_extractor
    from components.evaluation.kernel import Kernel

    torch.set_num_threads(1)
    began = time.monotonic()
    dataset, learnt, real, others = digits()
    with tempfile.TemporaryDirectory() as folder:
        extractor = train_extractor(learnt, classes=10, dest=Path(folder), dataset_md5=dataset.md5)
        halves = halves_of(others.part(np.arange(REFERENCE)), dataset.md5, Path(folder))
    for kind in args.only:
        images = images_of(kind, dataset, learnt, others)
        models = models_of(images, extractor, Kernel.of(extractor.features(learnt.images)), real.images)
        with ThreadPoolExecutor(args.jobs) as pool:
            rows = list(pool.map(lambda ratio: row_of(kind, models, ratio, args.trials), RATIOS))  # noqa: B023
        unseen = [models_of(images, each, Kernel.of(each.features(learnt.images)), real.images, like=models) for each in halves]
        rows.append(row_of(kind, models, 1.0, args.trials, unseen=unseen))
        for each in rows:
            print(json.dumps(each), flush=True)
        known = json.loads(OUT.read_text())["rows"] if OUT.exists() else []
        kept = [each for each in known if each["kind"] != kind] + rows
        told = {
            "rows": sorted(kept, key=lambda each: (each["gates"] == "both", KINDS.index(each["kind"]), each["ratio"])),
            "jobs": args.jobs,
        }
        told |= {"wall_s": round(time.monotonic() - began)} | circumstances("numpy", "torch")
        told["reached"] = judge_rows(told["rows"])
        OUT.write_text(json.dumps(told, indent=1) + "\n")
        PAGE.write_text(table(told))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
