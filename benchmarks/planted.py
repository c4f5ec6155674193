"""Faults of known kind and size, planted in real images: what a metric is to see, and in which direction it is to move.

N images, uint8 [N, H, W, C]. The first level of each fault is none. A fault of a share of the samples is planted in the same
samples at each level, and in more of them at the next, so that nothing but the fault changes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clean:
    """Real images that nobody trained on, to plant faults in; more of them than samples are made. And training images to copy."""

    images: Images
    labels: Labels
    train: Images
    samples: int

    def draw(self, share_K: npt.NDArray[np.float64] | None = None) -> Images:
        """So many samples, of classes in these proportions; None: as they come.

        Of a class that has too few, images come again, with up to 8 grey levels of noise: exact repeats are another fault.
        """
        order = np.random.default_rng(0).permutation(len(self.images))
        if share_K is None:
            return self.images[order[: self.samples]]
        counts_K = np.floor(share_K * self.samples + 0.5).astype(int)
        of_class = [order[self.labels[order] == label] for label in range(len(share_K))]
        chosen = np.concatenate([np.resize(own, count) for own, count in zip(of_class, counts_K, strict=True)])
        again = np.ones(len(chosen), bool)
        again[np.unique(chosen, return_index=True)[1]] = False
        images = self.images[chosen].astype(int)
        images[again] += np.random.default_rng(3).integers(-8, 9, images[again].shape)
        return np.clip(images, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Fault:
    """One fault at several levels. `moves`: the metrics, by id, that grow or fall with it from level to level."""

    name: str
    unit: str
    levels: tuple[float, ...]
    moves: dict[str, Literal["up", "down"]]
    plant: Callable[[Clean, float], Images]


def collapse(clean: Clean, classes: float) -> Images:
    """The first classes alone, in their own proportions."""
    counts_K = np.bincount(clean.labels).astype(float)
    counts_K[int(classes) :] = 0
    return clean.draw(counts_K / counts_K.sum())


def imbalance(clean: Clean, share: float) -> Images:
    """So large a share of one class; the others share the rest as they did."""
    counts_K = np.bincount(clean.labels).astype(float)
    rest = counts_K / counts_K[1:].sum() * (1 - share)
    return clean.draw(np.concatenate([[share], rest[1:]]) if share else counts_K / counts_K.sum())


def copies(changed: Callable[[Images], Images]) -> Callable[[Clean, float], Images]:
    """Training images, changed so, in the place of a share of the samples."""

    def plant(clean: Clean, share: float) -> Images:
        images, count = clean.draw(), round(share * clean.samples)
        chosen = np.random.default_rng(1).permutation(len(clean.train))[: clean.samples]
        images[:count] = changed(clean.train[chosen[:count]])
        return images

    return plant


def shifted(images: Images) -> Images:
    """By one pixel to the right; the column at the edge stays."""
    return np.concatenate([images[:, :, :1], images[:, :, :-1]], axis=2)


def contrast(clean: Clean, factor: float) -> Images:
    """Grey levels times a factor."""
    return recoloured(clean.draw(), factor)


def recoloured(images: Images, factor: float = 0.85) -> Images:
    """Grey levels times a factor."""
    return (images * factor).round().astype(np.uint8)


def blur(clean: Clean, sigma: float) -> Images:
    """A Gaussian of this deviation in pixels."""
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(clean.draw().astype(np.float64), sigma=(0, sigma, sigma, 0))
    return blurred.round().astype(np.uint8)


def noise(clean: Clean, deviation: float) -> Images:
    """Normal noise of this deviation in grey levels; the same noise, scaled, at every level."""
    images = clean.draw()
    noisy = images + deviation * np.random.default_rng(2).standard_normal(images.shape)
    return np.clip(noisy.round(), 0, 255).astype(np.uint8)


SHARES = (0.0, 0.01, 0.05, 0.2)
FAULTS = (
    Fault(
        "collapse",
        "classes of 10",
        (10, 8, 5, 2),
        {"fd": "up", "kid": "up", "recall": "down", "coverage": "down"},
        collapse,
    ),
    Fault("deep collapse", "classes of 10", (10, 5, 2, 1), {"diversity": "down"}, collapse),  # blind to two lost of ten
    Fault(
        "imbalance",
        "share of one class",
        (0.0, 0.3, 0.6, 0.9),
        {"fd": "up", "kid": "up", "class_share_min": "down"},
        imbalance,
    ),
    Fault("exact copies", "share of samples", SHARES, {"memorised": "up"}, copies(lambda images: images)),
    Fault("shifted copies", "share of samples, by one pixel", SHARES, {"memorised": "up"}, copies(shifted)),
    Fault("recoloured copies", "share of samples, at 0.85 contrast", SHARES, {"memorised": "up"}, copies(recoloured)),
    Fault(
        "blur",
        "pixels of deviation",
        (0.0, 0.7, 1.0, 1.3),
        {"fd": "up", "kid": "up", "coverage": "down", "roughness": "down"},
        blur,
    ),
    Fault(
        "noise",
        "grey levels of deviation",
        (0.0, 50.0, 75.0, 100.0),
        {"fd": "up", "kid": "up", "precision": "down", "roughness": "up"},
        noise,
    ),
    Fault(
        "contrast",
        "factor of grey levels",
        (1.0, 0.8, 0.6, 0.4),
        {"fd": "up", "kid": "up", "precision": "down", "contrast": "down"},
        contrast,
    ),
)


def in_order(values: list[float], way: Literal["up", "down"]) -> bool:
    """Whether each value lies beyond the one before it."""
    steps = np.diff(values)
    return bool((steps > 0).all() if way == "up" else (steps < 0).all())
