"""One variant on one toy: trained by the trainer of every production, and held against the known density.

N points, R resamples. Everything is measured on 8-bit levels, the model's and the truth's alike.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.distance import cdist

from benchmarks.planar.densities import POINT, Floats, Toy, to_points
from components.core.arrays import Stored
from components.core.family import Family, to_data_units
from components.core.randomness import noise_from
from components.core.records import Checkpoint, DataSpec, LocalDataset, Metric, Reading
from components.evaluation.bootstrap import Bootstrap
from components.evaluation.samples import sample_seeds
from components.training.checkpoint import restore_best
from components.training.plan import TrainPlan
from components.training.sampling import TorchSampler
from components.training.start import build
from components.training.trainer import Trainer
from components.training.untracked import Untracked

TRAIN_ITEMS = 50_000
SIGNAL_ITEMS = 4000  # real points that the signal holds samples against: of 1,000 chance decides between good weights
SIGNAL_SAMPLES = 2000
SIGNAL_STEPS = 50  # at most: of all solvers their own, as fewer steps blur what has been learnt
WIDTHS = (0.05, 0.2, 0.8)  # of the signal's kernels, in data units
SAMPLES = 4000
PAIRED_ITEMS = 2000  # of them whose distances are all taken
BATCH = 1000
STREAMS = {"train": 0, "signal": 1, "real": 2, "held_out": 3}


@dataclass
class Points:
    """A split in memory."""

    images: Stored
    labels: None = None
    item = POINT

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: npt.NDArray[np.int64]) -> Stored:
        return self.images[indices]


class KernelSignal:
    """A reading of a few samples while a model trains: their maximum mean discrepancy to real points.

    Gretton et al. 2012, 'A kernel two-sample test', eq. 5, with a sum of Laplace kernels from a mode's width to the plane's. A
    distance that sees the whole plane alone, as the energy distance does, would keep weights from before modes are told apart.
    """

    def __init__(self, toy: Toy, *, seed: int) -> None:
        self.real = to_points(points_of(toy, "signal", SIGNAL_ITEMS, seed=seed))
        self.within_real = _likeness(self.real, self.real)

    def __call__(self, images: Stored) -> Reading:
        points = to_points(images)
        return Reading(distance=self.within_real + _likeness(points, points) - 2 * _likeness(points, self.real))


def points_of(toy: Toy, stream: str, n: int, *, seed: int) -> Stored:
    """Real points that no other stream shares, uint8 [N, 1, 1, 2]."""
    return toy.images(n, np.random.default_rng([seed, STREAMS[stream]]))


def train(
    model: str,
    toy: Toy,
    folder: Path,
    *,
    items: int,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
) -> tuple[Family, Checkpoint]:
    """The best weights of `model`, as 'family/variant', after so many items seen, in one thread."""
    split = Points(points_of(toy, "train", TRAIN_ITEMS, seed=seed))
    family, variant = model.split("/")
    dataset = _dataset(toy, split)
    spec = DataSpec.of(dataset)
    plan = TrainPlan(
        family=family,  # type: ignore[arg-type]
        variant=variant,
        config=dict(config or {}),
        spec=spec,
        dataset=dataset,
        folder=str(folder),
        run_id="toy",
        threads=1,
        seed=seed,
        items_seen=items,
        state_every_s=math.inf,
        signal_images=SIGNAL_SAMPLES,
        signal_steps=SIGNAL_STEPS,
    )
    signal = KernelSignal(toy, seed=seed)
    checkpoint = Trainer(build(plan), plan, split=split, quality=signal, tracker=Untracked()).run()
    return restore_best(plan, checkpoint), checkpoint


def measure(family: Family, toy: Toy, *, seed: int = 0) -> tuple[Stored, dict[str, Metric]]:
    """Samples, uint8 [N, 1, 1, 2], and what the truth says of them.

    nats        mean of -log p of the samples under the true density; `nats_real` of as many real ones
    near        share within three deviations of a centre
    least_part  share of the rarest of the toy's eight parts, within three deviations; an eighth of `near` is best
    energy      energy distance to real points, in units of what real points get: 1 is the truth
    bits_per_dim, above_entropy    of held-out points, where the family has a likelihood, and how far above the truth's own
    """
    boot = Bootstrap(seed=seed)
    sampler = TorchSampler(family, subject="torch:toy", batch=BATCH)
    images = sampler(sample_seeds(seed, SAMPLES))
    points, real = to_points(images), to_points(points_of(toy, "real", SAMPLES, seed=seed))
    hits_N8 = toy.near(points)
    metrics = {
        "nats": boot.mean(-toy.log_density(points), stream="samples", better="lower"),
        "nats_real": boot.mean(-toy.log_density(real), stream="real"),
        "near": boot.share(hits_N8.any(1), stream="samples", better="higher"),
        "least_part": boot.share(hits_N8[:, hits_N8.sum(0).argmin()], stream="samples", better="higher"),
        "energy": energy(points[:PAIRED_ITEMS], real[:PAIRED_ITEMS], boot),
    }
    return images, metrics | likelihood(family, toy, boot, seed=seed)


def energy(points_N2: Floats, real_N2: Floats, boot: Bootstrap) -> Metric:
    """(2 E|X - Y| - E|X - X'| - E|Y - Y'|) over what two samples of the truth get, which is 2 E|Y - Y'| / N.

    Szekely & Rizzo 2013, 'Energy statistics: a class of statistics based on distances'; over all pairs, those of a point with
    itself included. The interval is that of the points; the real ones stay.
    """
    n = len(points_N2)
    assert n == len(real_N2)
    across_N, within_NN, real = cdist(points_N2, real_N2).mean(1), cdist(points_N2, points_N2), cdist(real_N2, real_N2).mean()
    share_RN = boot.counts(n, stream="samples") / n
    draws_R = 2 * share_RN @ across_N - ((share_RN @ within_NN) * share_RN).sum(1) - real
    value = 2 * across_N.mean() - within_NN.mean() - real
    truth = 2 * real / n
    return boot.metric(float(value / truth), draws_R / truth, n=n, better="lower", least=0)


@torch.no_grad()
def likelihood(family: Family, toy: Toy, boot: Bootstrap, *, seed: int = 0, n: int = SAMPLES) -> dict[str, Metric]:
    """bits/dim of n held-out points and, paired, what they are above those of the true masses; nothing without a likelihood."""
    if family.card.likelihood == "none":
        return {}
    held_out = points_of(toy, "held_out", n, seed=seed)
    model: Any = family.eval()
    starts = range(0, n, BATCH)
    batches = ((to_data_units(held_out[at : at + BATCH], family.spec.item), noise_from(at, seed=seed)) for at in starts)
    nats_N = torch.cat([model.log_prob(x_BCHW, rng=rng) for x_BCHW, rng in batches]).double().numpy()
    bits_N = -nats_N / (2 * math.log(2))
    truth_N = -np.log2(toy.masses()[tuple(held_out.reshape(-1, 2).T)]) / 2
    return {
        "bits_per_dim": boot.mean(bits_N, stream="held_out", better="lower"),
        "above_entropy": boot.mean(bits_N - truth_N, stream="held_out", better="lower"),
    }


def _likeness(x_N2: Floats, y_M2: Floats) -> float:
    """The mean over all pairs of exp(-|x - y| / s), summed over three widths s."""
    distances_NM = cdist(x_N2, y_M2)
    return float(sum(np.exp(-distances_NM / width).mean() for width in WIDTHS))


def _dataset(toy: Toy, split: Points) -> LocalDataset:
    mean, std = (tuple(of(split.images, axis=(0, 1, 2)).tolist()) for of in (np.mean, np.std))
    return LocalDataset(
        name=toy.name,
        path="",
        repo=".",
        rev="HEAD",
        md5=f"toy-{toy.name}",
        item=POINT,
        count=len(split),
        classes=(),
        splits={"train": len(split)},
        mean=mean,
        std=std,
    )
