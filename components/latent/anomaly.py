"""How unlike its training data a model finds an image: the higher the score, the stranger.

    reconstruction = sqrt(mean (decode(encode(x)) - x)^2)     in grey levels, where the card claims a latent space
    bits_per_dim   = -log2 p(x) / (C H W)                     where it claims a likelihood (of a bound: its upper bound)

A likelihood alone can be fooled: smooth images, an empty one above all, are more likely than the data itself (Nalisnick et al.
2019, arXiv:1810.09136). Both scores are therefore told where there are both.

N items scored, M items held out or normal, R resamples; B batch, C channels, H height, W width.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from components.core.arrays import Stored
from components.core.errors import InputError
from components.core.family import Family
from components.core.protocols import Resampling
from components.core.randomness import noise_from
from components.core.record import Record
from components.core.records import Metric
from components.latent.space import Items, LatentSpace, batches

Floats = npt.NDArray[np.float64]
UNUSUAL = 0.95  # the quantile of the held-out images above which an image counts as unusual
EXACT = 0.5  # grey levels: whoever rebuilds everything within rounding says nothing by it


class Scored(Record):
    """One score of a set of images beside the held-out ones. `quantiles`: the share of held-out images that score lower."""

    scores: tuple[float, ...]
    quantiles: tuple[float, ...]
    median: float
    median_held_out: float
    unusual_above: float
    unusual_share: float
    auc: Metric | None = None  # against images that are given as normal

    @property
    def sentence(self) -> str:
        """For a person."""
        area = f"; AUC {self.auc.value:.3f} [{self.auc.low:.3f}, {self.auc.high:.3f}]" if self.auc else ""
        return (
            f"median {self.median:.3g}, of held-out images {self.median_held_out:.3g}; {self.unusual_share:.0%} lie above "
            f"{self.unusual_above:.3g}, the {UNUSUAL:.0%} quantile of those{area}"
        )


def score(family: Family, items: Items, *, device: str = "cpu") -> dict[str, Floats]:
    """Each score that the card allows, scores_N. Raises InputError when it allows none."""
    family = family.eval().to(device)
    scores = {}
    if family.card.latent:
        error = LatentSpace(family, device=device).rebuild(items).astype(np.float64) - items.images
        scores["reconstruction"] = np.sqrt(np.square(error).mean(tuple(range(1, error.ndim))))
    if family.card.likelihood != "none":
        scores["bits_per_dim"] = _bits_per_dim(family, items, device)
    if not scores:
        name = f"{family.card.family}/{family.card.variant}"
        raise InputError(f"{name} can neither rebuild an image nor tell its likelihood", allowed="a model that can do either")
    return scores


def compare(scores_N: Floats, held_out_M: Floats, *, normal_M: Floats | None = None, boot: Resampling) -> Scored:
    """Scores beside those of held-out images, and beside those of `normal_M` where these are given."""
    limit = float(np.quantile(held_out_M, UNUSUAL))
    return Scored(
        scores=tuple(scores_N.tolist()),
        quantiles=tuple(np.searchsorted(np.sort(held_out_M), scores_N) / len(held_out_M)),
        median=float(np.median(scores_N)),
        median_held_out=float(np.median(held_out_M)),
        unusual_above=limit,
        unusual_share=float((scores_N > limit).mean()),
        auc=None if normal_M is None else auc(scores_N, normal_M, boot),
    )


def auc(scores_N: Floats, normal_M: Floats, boot: Resampling) -> Metric:
    """P(score > normal score) + P(equal) / 2, the area under the ROC curve, with a bootstrap interval over both sets.

    Where the sets are apart no resample differs; then the interval is that of a share of 0 or 1 of the smaller set, for the
    variance of the area is at most a (1 - a) / min(N, M) (Birnbaum & Klose 1957, doi:10.1214/aoms/1177706794).
    """
    above_NM = (scores_N[:, None] > normal_M) + 0.5 * (scores_N[:, None] == normal_M)
    value, least = float(above_NM.mean()), min(above_NM.shape)
    if value in (0.0, 1.0):
        return boot.share(np.full(least, bool(value)), stream="auc", better="higher")
    draws_RN, draws_RM = boot.counts(len(scores_N), stream="auc"), boot.counts(len(normal_M), stream="auc-normal")
    areas_R = ((draws_RN @ above_NM) * draws_RM).sum(1) / above_NM.size
    return boot.metric(value, areas_R, n=least, better="higher", least=0, most=1)


def remarks(held_out: Mapping[str, Floats]) -> list[str]:
    """What a person should know before believing a score, given those of held-out images."""
    errors_M = held_out.get("reconstruction")
    if errors_M is None or np.median(errors_M) >= EXACT:
        return []
    return ["note: this model rebuilds every image exactly, so its reconstruction error says nothing"]


def ranked(family: Family, items: Items, scores_N: Floats, *, columns: int, device: str = "cpu") -> tuple[Stored, list[str], int]:
    """A grid for people, the names of its rows and its columns: a row of the highest scores and one of the lowest, each with what
    the model makes of them below, where it can encode them. Of few images there is one row."""
    order = np.argsort(-scores_N, kind="stable")
    columns = min(columns, len(order))
    ends = [order[:columns]] if len(order) < 2 * columns else [order[:columns], order[-columns:]]
    rows, names = [], []
    for end, which in zip(ends, ("highest", "lowest"), strict=False):
        chosen = Items(items.images[end], None if items.labels is None else items.labels[end])
        rows += [chosen.images, *([LatentSpace(family, device=device).rebuild(chosen)] if family.card.latent else [])]
        names += [f"{which} scores", *(["as rebuilt"] if family.card.latent else [])]
    return np.concatenate(rows), names, columns


@torch.no_grad()
def _bits_per_dim(family: Family, items: Items, device: str) -> Floats:
    model: Any = family  # log_prob is there because the card says so
    nats = [
        model.log_prob(x_BCHW, labels_B, rng=noise_from(number, device=device))
        for number, (x_BCHW, labels_B) in enumerate(batches(family, items, device))
    ]
    bits_N: Floats = -torch.cat(nats).double().cpu().numpy() / (math.log(2) * math.prod(family.spec.shape))
    return bits_N
