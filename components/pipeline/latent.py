"""The tools of components.latent on a trained model and its data: each draws a picture and tells what it measured."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from components.core.arrays import Stored
from components.core.files import write_whole
from components.core.labels import labelled_png
from components.core.modality import find_modality
from components.evaluation.bootstrap import Bootstrap
from components.latent.anomaly import compare, ranked, remarks, score
from components.latent.arithmetic import add, attribute, beside_originals
from components.latent.compression import curve
from components.latent.interpolation import between_items, between_seeds, framed, gaussian, samples
from components.latent.picture_codecs import beside, picture_points
from components.latent.rate_plot import rate_plot
from components.latent.space import Items, LatentSpace, cloud, spread_over, take
from components.latent.traversal import traverse as move
from components.latent.variations import vary
from components.pipeline.latent_inputs import shares
from components.pipeline.loaded_model import LoadedModel

TRAIN_ITEMS = 10_000  # at most, whose codes say where codes lie
HELD_OUT_ITEMS = 1_000  # at most, that scores are told beside
SHOWN = 8  # images a row

Told = tuple[dict[str, Any], list[str]]  # for a program, and line by line for a person


def interpolate(
    model: LoadedModel, ends: Sequence[tuple[int, int]], out: Path, *, by_seeds: bool, label: int, points: int
) -> Told:
    """Walk on a sphere between two samples, or two held-out images, a row for each pair."""
    if by_seeds and gaussian(model.family):
        walks = [between_seeds(model.family, two, points=points, label=label, device=model.device) for two in ends]
        rows, names = [path for path, _ in walks], shares(points)
    else:
        space, z_NU = _space(model, vectors=True)
        around = cloud(z_NU)
        drawn = partial(samples, model.family, label=label, device=model.device)
        both = [drawn(two) if by_seeds else take(model.held_out, two) for two in ends]
        walks = [between_items(space, two, around, points=points) for two in both]
        rows = [framed(path, two) for (path, _), two in zip(walks, both, strict=True)]
        names = ["from", *shares(points), "to"]
    _draw(model, np.concatenate(rows), out, rows=[f"{'seed' if by_seeds else 'item'} {a} to {b}" for a, b in ends], columns=names)
    told = [{"ends": two, **walk.model_dump(mode="json")} for two, (_, walk) in zip(ends, walks, strict=True)]
    lines = [f"{a} to {b}: {walk.sentence}" for (a, b), (_, walk) in zip(ends, walks, strict=True)]
    return {"between": "seeds" if by_seeds else "items", "rows": told}, lines


def traverse(model: LoadedModel, item: int, out: Path, *, units: int, points: int) -> Told:
    """Move one unit of the code of a held-out image at a time, a row for each of the most active units."""
    space, z_NU = _space(model, vectors=True)
    images, told = move(space, take(model.held_out, [item]), cloud(z_NU), units=units, points=points)
    deviations = [f"{-told.sigmas + 2 * told.sigmas * at / (points - 1):+.2g}" for at in range(points)]
    _draw(model, images, out, rows=[f"unit {each.unit}" for each in told.units], columns=deviations)
    rows = ", ".join(f"unit {each.unit} (deviation {each.std:.2g})" for each in told.units)
    lines = [f"{told.units_active} of {told.units_total} units are active", f"rows: {rows}"]
    return {"item": item, **told.model_dump(mode="json")}, lines


def arithmetic(
    model: LoadedModel, plus: Items, minus: Items, items: Sequence[int], out: Path, *, strengths: Sequence[float]
) -> Told:
    """Add the difference of two groups' mean codes to held-out images, a column for each strength."""
    space, z_NU = _space(model, vectors=True)
    v_U, told = attribute(space.encode(plus), space.encode(minus), cloud(z_NU))
    changed = take(model.held_out, items)
    _draw(
        model,
        beside_originals(add(space, changed, v_U, strengths=strengths), changed),
        out,
        rows=[f"item {at}" for at in items],
        columns=["original", *(f"{strength:g} x" for strength in strengths)],
    )
    line = (
        f"mean of {told.plus} codes less that of {told.minus}: norm {told.norm:.3g}; codes lie {told.spread:.3g} from their mean"
    )
    return {**told.model_dump(mode="json"), "strengths": list(strengths)}, [line]


def anomaly(model: LoadedModel, scored: Items, names: Sequence[str], normal: Items | None, out: Path) -> Told:
    """Score how unlike the training data images are, beside the held-out ones and, where there are any, normal ones."""
    found = score(model.family, scored, device=model.device)
    held_out = score(model.family, spread_over(model.held_out, at_most=HELD_OUT_ITEMS), device=model.device)
    others = {} if normal is None else score(model.family, normal, device=model.device)
    boot = Bootstrap(seed=0)
    told = {name: compare(found[name], held_out[name], normal_M=others.get(name), boot=boot) for name in found}
    by = list(told)[-1]
    picture, rows, columns = ranked(model.family, scored, found[by], columns=SHOWN, device=model.device)
    _draw(model, picture, out, rows=rows, columns=[str(at + 1) for at in range(columns)])
    lines = [f"{name}: {each.sentence}" for name, each in told.items()]
    lines += [*remarks(held_out), f"the picture begins with the highest {by} and ends with the lowest"]
    scores = {name: each.model_dump(mode="json") for name, each in told.items()}
    return {"by": by, "images": names, "scores": scores}, lines


def compress(model: LoadedModel, steps: Sequence[float], out: Path, plot: Path, *, at_most: int) -> Told:
    """Compress held-out images at several steps of the quantiser: rate and distortion beside picture codecs."""
    space, z_NU = _space(model)
    items = spread_over(model.held_out, at_most=at_most)
    measured = curve(space, z_NU, items, steps=steps)
    points, rivals = [point for _, point in measured], picture_points(items.images)
    rows = [items.images[:SHOWN], *(back[:SHOWN] for back, _ in measured)]
    names = ["original", *(f"{_step(point.step)}{point.bits_per_dim:.2f} bits/dim" for point in points)]
    _draw(model, np.concatenate(rows), out, rows=names, columns=[""] * len(rows[0]))
    write_whole(plot, rate_plot(points, rivals, name=space.name))
    told = [
        {**point.model_dump(mode="json"), "beside": {name: each.model_dump() for name, each in beside(point, rivals).items()}}
        for point in points
    ]
    others = [rival.model_dump(mode="json") for rival in rivals]
    document = {"items": len(items), "points": told, "picture_codecs": others, "plot": str(plot)}
    return document, [*_rates(told, others), f"plot     {plot}"]


def _space(model: LoadedModel, *, vectors: bool = False) -> tuple[LatentSpace, Tensor]:
    """The model's latent space, and the codes z_NU of its training images."""
    space = LatentSpace(model.family, device=model.device, vectors=vectors)
    return space, space.encode(spread_over(model.train, at_most=TRAIN_ITEMS))


def _step(step: float | None) -> str:
    """Codes that are integers have none."""
    return "" if step is None else f"step {step:g}: "


def variations(model: LoadedModel, items: Items, names: Sequence[str], out: Path, *, seeds: Sequence[int]) -> Told:
    """Others like some images, a row for each image, a column for each seed."""
    made, told = vary(model.family, items, seeds=seeds, device=model.device)
    rows = [np.concatenate([original[None], others]) for original, others in zip(items.images, made, strict=True)]
    _draw(model, np.concatenate(rows), out, rows=names, columns=["original", *(f"seed {seed}" for seed in seeds)])
    lines = [f"variations differ from their image by {told.from_item:.3g} of -1 to 1, root mean square"]
    if told.from_one_another is not None:
        lines.append(f"variations of one image differ from one another by {told.from_one_another:.3g}")
    if told.of_items is not None:
        lines.append(f"the images differ from each other by {told.of_items:.3g}")
    return {"images": list(names), "seeds": list(seeds), **told.model_dump(mode="json")}, lines


def _draw(model: LoadedModel, items: Stored, out: Path, *, rows: Sequence[str], columns: Sequence[str]) -> None:
    item = model.dataset.item
    pictures = find_modality(item.modality).pictures(items, item)
    write_whole(out, labelled_png(pictures, rows=rows, columns=columns))


def _rates(points: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[str]:
    """A table: what each step costs and keeps, and beside it the PSNR of others at this rate and their rate at this PSNR."""
    names = list(points[0]["beside"])
    words = ["step", "bits/dim", "ideal", "PSNR", *(f"{name} {what}" for name in names for what in ("PSNR", "rate"))]
    lines = ["".join(f"{word:>12}" for word in words)]
    for point in points:
        own = (point["step"], point["bits_per_dim"], point["bits_per_dim_ideal"], point["psnr_db"])
        cells = [*own, *(cell for name in names for cell in point["beside"][name].values())]
        lines.append("".join(f"{'-' if cell is None else format(cell, '.3f'):>12}" for cell in cells))
    if names:
        lines.append(
            f"of {' and '.join(names)}: the PSNR at no more than this rate, the rate at no less than this PSNR; -: not reached"
        )
    return lines + [f"png, lossless: {other['bits_per_dim']:.3f} bits/dim" for other in others if other["codec"] == "png"]
