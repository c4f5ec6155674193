"""The picture of all variants on all toys: a row a toy, a column a variant, the truth before them; families in two bands.

A panel is the plane from -1 to 1 in 64 by 64 bins, the darker the denser, with the truth's densest bin as its darkest.
"""

import base64
import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planar.densities import LEVELS, Floats, Toy
from components.core.arrays import Stored
from components.core.files import write_whole

BINS = 64
COLOURS = {
    "truth": "#30343b",
    "autoencoder": "#7a5c1e",
    "vae": "#1d6b45",
    "gan": "#a3262f",
    "flow": "#1b5e8c",
    "diffusion": "#5b3590",
    "autoregressive": "#8c3a6c",
}
PALETTE = 160  # colours of the file, so chosen that hues stay apart
INCHES, DPI = 12.0, 110


def pack(images: Stored) -> str:
    """The counts of uint8 [N, 1, 1, 2] in each bin, as text for a line of results."""
    bins_N2 = images.reshape(-1, 2).astype(np.int64) * BINS // LEVELS
    counts = np.bincount(bins_N2[:, 0] * BINS + bins_N2[:, 1], minlength=BINS * BINS)
    return base64.b85encode(zlib.compress(counts.astype("<u2").tobytes(), 9)).decode()


def unpack(text: str) -> Floats:
    """The share of each bin, [64, 64], the first channel's first."""
    counts = np.frombuffer(zlib.decompress(base64.b85decode(text)), "<u2").astype(np.float64)
    return counts.reshape(BINS, BINS) / counts.sum()


def true_shares(toy: Toy) -> Floats:
    """The exact mass of each bin."""
    each = LEVELS // BINS
    return toy.masses().reshape(BINS, each, BINS, each).sum((1, 3))


def bands(models: Sequence[str]) -> list[list[str]]:
    """Models as 'family/variant' in two groups, as even as can be without parting a family; the order stays."""
    starts = [at for at in range(1, len(models)) if models[at].split("/")[0] != models[at - 1].split("/")[0]]
    if not starts:
        return [list(models)]
    cut = min(starts, key=lambda at: abs(len(models) - 2 * at))
    return [list(models[:cut]), list(models[cut:])]


def draw(shares: Mapping[tuple[str, str], Floats], models: Sequence[str], toys: Sequence[Toy], path: Path) -> None:
    """Write the picture of `shares[model, toy name]`; where there are none the panel stays empty."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = bands(models)
    columns = 1 + max(map(len, groups))
    cell = INCHES / (columns + 0.35)
    heads = 0.62  # inches above each band
    figure = Figure(figsize=(INCHES, len(groups) * (heads + len(toys) * cell) + 0.08), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    width, height = figure.get_size_inches()
    top = height
    for group in groups:
        top -= heads
        for column, model in enumerate(["truth/", *group]):
            left = (column + (0.12 if column else 0.04)) * cell
            _head(figure, model, left / width, top / height, first=column < 2 or group[column - 2].split("/")[0] not in model)
            for row, toy in enumerate(toys):
                place = (left / width, (top - (row + 1) * cell) / height, 0.94 * cell / width, 0.94 * cell / height)
                panel = true_shares(toy) if not column else shares.get((model, toy.name))
                _panel(figure.add_axes(place), panel, most=float(true_shares(toy).max()), colour=COLOURS[model.split("/")[0]])
        top -= len(toys) * cell
    write_whole(path, _png(figure))


def _head(figure: Any, model: str, left: float, bottom: float, *, first: bool) -> None:
    """The variant's name, and above it that of the family over its first column."""
    family, variant = model.split("/")
    colour = COLOURS[family]
    if first:
        figure.text(left, bottom + 0.052, family, fontsize=10.5, color=colour, weight="bold", va="bottom")
    name = variant.replace("-", "-\n", 1) if len(variant) > 10 else variant
    figure.text(left, bottom + 0.006, name, fontsize=8.5, color=colour, va="bottom", linespacing=0.95)


def _panel(axes: Any, shares: Floats | None, *, most: float, colour: str) -> None:
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from scipy.ndimage import gaussian_filter

    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color="#d9d9de", linewidth=0.6)
    if shares is None:
        return
    shades = LinearSegmentedColormap.from_list("shades", ["#ffffff", colour, "#101014"])
    smooth = gaussian_filter(shares, 0.6)
    axes.imshow(smooth.T, origin="lower", cmap=shades, norm=PowerNorm(0.5, 0, most, clip=True), interpolation="bilinear")


def _png(figure: Any) -> bytes:
    """The figure with a palette, which is a third of the size."""
    from PIL import Image

    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png")
    raw.seek(0)
    picture = Image.open(raw).convert("RGB").quantize(PALETTE, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()
