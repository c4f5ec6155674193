"""The rate-distortion plot: PSNR over bits a dimension, the model beside the picture codecs."""

import io
from collections.abc import Sequence

from components.latent.compression import Point
from components.latent.picture_codecs import PicturePoint

DPI = 110


def rate_plot(points: Sequence[Point], rivals: Sequence[PicturePoint], *, name: str) -> bytes:
    """PNG bytes. Lossless points have no PSNR: they are drawn as vertical lines at their rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    curves = {name: [(point.bits_per_dim, point.psnr_db) for point in points]}
    for rival in rivals:
        curves.setdefault(rival.codec, []).append((rival.bits_per_dim, rival.psnr_db))
    for number, (label, curve) in enumerate(curves.items()):
        colour, marker = f"C{number}", "o" if label == name else "."
        lossy = sorted((rate, psnr) for rate, psnr in curve if psnr is not None)
        if lossy:
            axes.plot(*zip(*lossy, strict=True), marker=marker, color=colour, label=label)
        for rate in (rate for rate, psnr in curve if psnr is None):
            axes.axvline(rate, color=colour, linestyle=":", label=f"{label}, lossless")
    axes.set(xscale="log", xlabel="rate, bits a dimension", ylabel="PSNR, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
