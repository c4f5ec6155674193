"""Which copies are found, and how many honest items are taken for copies? Before: by pixels as they are; now: by every variant.

    .venv/bin/python benchmarks/copies.py data/prepared/digits data/prepared/mnist data/prepared/cifar10

Of each prepared set, training items are changed in the ways of CHANGES and looked for among all; one half of the held-out items
sets what is honest, the other half is honest. `before` is the rule that stood here until ADR 0017: the distance of the pixels
to the nearest item over the mean to the 50 nearest, below that of 1 % of held-out items. Writes benchmarks/results/copies.json.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared import RESULTS, circumstances
from components.data.joined import REFERENCE, JoinedSplit
from components.data.shards import open_split
from components.evaluation.copies import NEIGHBOURS, Copies
from components.evaluation.neighbours import Distances, nearest

Images = npt.NDArray[np.uint8]  # [N, H, W, C]
COPIED = 500  # training items changed in each way
HONEST = 2000  # held-out items, at most, on either side


def levels(values: npt.NDArray[np.floating[Any]]) -> Images:
    """The nearest of the 256 levels."""
    found: Images = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return found


def shifted(images: Images, *, by: int, fill: str = "edge") -> Images:
    """By so many pixels, each item in one of eight directions; the edge is repeated, black or comes from the other side."""
    padded = np.pad(images, ((0, 0), (by, by), (by, by), (0, 0)), mode=fill)  # type: ignore[call-overload]
    out, (height, width) = np.empty_like(images), images.shape[1:3]
    ways = [(dy, dx) for dy in (-by, 0, by) for dx in (-by, 0, by) if dy or dx]
    for at, (dy, dx) in enumerate(ways):
        out[at :: len(ways)] = padded[at :: len(ways), by + dy : by + dy + height, by + dx : by + dx + width]
    return out


def tinted(images: Images) -> Images:
    """Each channel at a gain and an offset of its own."""
    rng, shape = np.random.default_rng(0), (len(images), 1, 1, images.shape[3])
    return levels(images * rng.uniform(0.7, 1.1, shape) + rng.uniform(-15, 15, shape))


def noisy(images: Images, *, std: float) -> Images:
    return levels(images + np.random.default_rng(0).normal(0, std, images.shape))


CHANGES: dict[str, Callable[[Images], Images]] = {
    "exact": lambda x: x,
    "shifted by a pixel": lambda x: shifted(x, by=1),
    "shifted by a pixel, black": lambda x: shifted(x, by=1, fill="constant"),
    "shifted by a pixel, round": lambda x: shifted(x, by=1, fill="wrap"),
    "mirrored": lambda x: x[:, :, ::-1],
    "contrast 0.85": lambda x: levels(0.85 * x),
    "contrast 0.6, brighter": lambda x: levels(0.6 * x + 40.0),
    "gain 1.2, cut off": lambda x: levels(1.2 * x),
    "gamma 0.8": lambda x: levels(255 * (x / 255.0) ** 0.8),
    "tinted": tinted,
    "shifted, mirrored, contrast 0.85": lambda x: levels(0.85 * shifted(x[:, :, ::-1], by=1) + 10.0),
    "noise of 5 levels": lambda x: noisy(x, std=5),
}
# What the variants do not hold, or not on small images: how far it reaches.
BEYOND: dict[str, Callable[[Images], Images]] = {
    "shifted by two pixels": lambda x: shifted(x, by=2),
    "shifted by half a pixel": lambda x: levels((x[:, :, :] + shifted(x, by=1).astype(float)) / 2),
    "noise of 20 levels": lambda x: noisy(x, std=20),
    "upside down": lambda x: x[:, ::-1],
}


def before(items: Images, train: Any) -> Distances:
    """The closeness that was measured before: of pixels in [0, 1], averaged down to at most 1,024 values."""
    chunks = (_pixels(train.take(np.arange(at, min(at + 4096, len(train))))) for at in range(0, len(train), 4096))
    distances, _ = nearest(_pixels(items), chunks, k=min(NEIGHBOURS, len(train)))
    near: Distances = distances[:, 0] / np.maximum(distances.mean(axis=1), np.finfo(np.float64).tiny)
    return near


def _pixels(images: Images) -> npt.NDArray[np.float32]:
    n, height, width, channels = images.shape
    size = next(size for size in range(1, 99) if -(-height // size) * -(-width // size) * channels <= 1024)
    padded = np.pad(images, ((0, 0), (0, -height % size), (0, -width % size), (0, 0)), mode="edge")
    blocks = padded.reshape(n, padded.shape[1] // size, size, padded.shape[2] // size, size, channels)
    means: npt.NDArray[np.float32] = (blocks.mean(axis=(2, 4)) / 255).reshape(n, -1).astype(np.float32)
    return means


def measured(folder: Path) -> dict[str, Any]:
    """The shares that are flagged, by both rules, and the seconds that 2,000 items take."""
    train, rest = open_split(folder, "train"), JoinedSplit([open_split(folder, name) for name in REFERENCE])
    rng = np.random.default_rng(0)
    held_out = rest.take(rng.permutation(len(rest))[: 2 * HONEST].astype(np.int64))
    judging, honest = held_out[::2], held_out[1::2]
    chosen = train.take(np.sort(rng.permutation(len(train))[:COPIED]).astype(np.int64))
    asked = {"held out": honest, **{name: change(chosen) for name, change in (CHANGES | BEYOND).items()}}
    items, ends = np.concatenate([*asked.values()]), np.cumsum([len(part) for part in asked.values()])[:-1]
    known, started = Copies(train, judging, seed=0), time.perf_counter()
    bound, bound_s = known.bound, time.perf_counter() - started
    near, now_s = _timed(lambda: known.closeness(known.neighbours(items)))
    plain, before_s = _timed(lambda: before(items, train))
    limit = float(np.quantile(before(judging, train), 0.01, method="lower"))
    shares = zip(asked, np.split(near <= bound, ends), np.split(plain <= limit, ends), strict=True)
    return {
        "items": {"train": len(train), "judging": len(judging), "honest": len(honest), "copied": len(chosen)},
        "bound": round(bound, 4),
        "held_out_flagged": round(float((known.held_out_closeness <= bound).mean()), 4),
        "flagged": {name: {"before": _share(old), "now": _share(new)} for name, new, old in shares},
        "seconds_for_2000": {key: round(2000 * s / len(items), 2) for key, s in (("before", before_s), ("now", now_s))},
        "seconds_of_the_real_side": round(bound_s, 2),
    }


def _timed(run: Callable[[], Distances]) -> tuple[Distances, float]:
    started = time.perf_counter()
    return run(), time.perf_counter() - started


def _share(hits: npt.NDArray[np.bool_]) -> float:
    return round(float(hits.mean()), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folders", nargs="+", type=Path)
    results = RESULTS / "copies.json"
    found = json.loads(results.read_text()) if results.is_file() else {}
    for folder in parser.parse_args().folders:
        found[folder.name] = measured(folder) | circumstances("numpy")
        print(json.dumps({folder.name: found[folder.name]}, indent=1))
        results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
