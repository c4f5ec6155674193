"""`genwright latent`: the tools of components.latent on a release, its held-out images and those of the user.

Every command writes a picture, and says or prints as JSON what it measured.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.arguments import AsJson, Reference, print_json, say, working

if TYPE_CHECKING:
    from torch import Tensor

    from components.core.protocols import Images
    from components.latent.space import LatentSpace
    from components.pipeline.loaded_model import LoadedModel

TRAIN_ITEMS = 10_000  # at most, whose codes say where codes lie
HELD_OUT_ITEMS = 1_000  # at most, that scores are told beside
SHOWN = 8  # images a row

latent_app = typer.Typer(
    help="Look into the latent space of a model; each command writes a picture.", no_args_is_help=True, callback=working
)

Out = Annotated[Path, typer.Option(help="the picture to write", metavar="FILE.png")]
Points = Annotated[int, typer.Option(help="pictures a row", min=2, max=99)]
Limit = Annotated[int, typer.Option(help="images to look at, at most", min=1)]


@latent_app.command()
def interpolate(
    reference: Reference,
    items: Annotated[str, typer.Option(help="held-out images, two for the ends of each row")] = "0,1",
    seeds: Annotated[str | None, typer.Option(help="two seeds a row: samples in place of held-out images")] = None,
    label: Annotated[str | None, typer.Option("--class", help="of the samples, where the model is told one")] = None,
    points: Points = 9,
    out: Out = Path("latent-interpolate.png"),
    as_json: AsJson = False,
) -> None:
    """Walk on a sphere from one image to another."""
    from functools import partial

    import numpy as np

    from components.latent.interpolation import between_items, between_seeds, framed, gaussian, samples
    from components.latent.space import cloud, take
    from components.pipeline.latent_inputs import pairs, sample_class, shares

    ends = pairs("--seeds", seeds) if seeds else pairs("--items", items)
    model = _opened(reference, out)
    kind = sample_class(label, model) if seeds else 0
    if seeds and gaussian(model.family):
        walks = [between_seeds(model.family, two, points=points, label=kind, device=model.device) for two in ends]
        rows, names = [path for path, _ in walks], shares(points)
    else:
        space, z_NU = _space(model, vectors=True)
        around = cloud(z_NU)
        drawn = partial(samples, model.family, label=kind, device=model.device)
        both = [drawn(two) if seeds else take(model.held_out, two) for two in ends]
        walks = [between_items(space, two, around, points=points) for two in both]
        rows = [framed(path, two) for (path, _), two in zip(walks, both, strict=True)]
        names = ["from", *shares(points), "to"]
    _draw(np.concatenate(rows), out, rows=[f"{'seed' if seeds else 'item'} {a} to {b}" for a, b in ends], columns=names)
    told = [{"ends": two, **walk.model_dump(mode="json")} for two, (_, walk) in zip(ends, walks, strict=True)]
    lines = [f"{a} to {b}: {walk.sentence}" for (a, b), (_, walk) in zip(ends, walks, strict=True)]
    _answer(model, {"between": "seeds" if seeds else "items", "rows": told}, lines, out, as_json)


@latent_app.command()
def traverse(
    reference: Reference,
    item: Annotated[int, typer.Option(help="the held-out image to begin with", min=0)] = 0,
    units: Annotated[int, typer.Option(help="rows: the most active units", min=1, max=99)] = 8,
    points: Points = 9,
    out: Out = Path("latent-traverse.png"),
    as_json: AsJson = False,
) -> None:
    """Move one unit of a code at a time, from -3 to 3 standard deviations."""
    from components.latent.space import cloud, take
    from components.latent.traversal import traverse as move

    model = _opened(reference, out)
    space, z_NU = _space(model, vectors=True)
    around = cloud(z_NU)
    images, told = move(space, take(model.held_out, [item]), around, units=units, points=points)
    deviations = [f"{-told.sigmas + 2 * told.sigmas * at / (points - 1):+.2g}" for at in range(points)]
    _draw(images, out, rows=[f"unit {each.unit}" for each in told.units], columns=deviations)
    rows = ", ".join(f"unit {each.unit} (deviation {each.std:.2g})" for each in told.units)
    lines = [f"{told.units_active} of {told.units_total} units are active", f"rows: {rows}"]
    _answer(model, {"item": item, **told.model_dump(mode="json")}, lines, out, as_json)


@latent_app.command()
def arithmetic(
    reference: Reference,
    plus: Annotated[str | None, typer.Option(help="the class that has the attribute")] = None,
    minus: Annotated[str | None, typer.Option(help="the class that has it not")] = None,
    plus_items: Annotated[str | None, typer.Option(help="or training images that have it")] = None,
    minus_items: Annotated[str | None, typer.Option(help="or training images that have it not")] = None,
    items: Annotated[str | None, typer.Option(help="held-out images to change; by default six of the class --minus")] = None,
    strengths: Annotated[str, typer.Option(help="how often the attribute is added, a column each")] = "0,0.5,1,1.5",
    out: Out = Path("latent-arithmetic.png"),
    as_json: AsJson = False,
) -> None:
    """Add an attribute, the difference of two mean codes, to held-out images."""
    from components.latent.arithmetic import add, attribute, beside_originals
    from components.latent.space import cloud, take
    from components.pipeline.latent_inputs import first_held_out, numbers, training_group

    times = numbers("--strengths", strengths, float)
    chosen = numbers("--items", items, int) if items else None
    model = _opened(reference, out)
    space, z_NU = _space(model, vectors=True)
    around = cloud(z_NU)
    with_it = space.encode(training_group("--plus", plus, plus_items, model))
    without = space.encode(training_group("--minus", minus, minus_items, model))
    v_U, told = attribute(with_it, without, around)
    changed = take(model.held_out, chosen or first_held_out(model, minus, 6))
    _draw(
        beside_originals(add(space, changed, v_U, strengths=times), changed),
        out,
        rows=[f"item {at}" for at in chosen or first_held_out(model, minus, 6)],
        columns=["original", *(f"{strength:g} x" for strength in times)],
    )
    line = (
        f"mean of {told.plus} codes less that of {told.minus}: norm {told.norm:.3g}; codes lie {told.spread:.3g} from their mean"
    )
    _answer(model, {**told.model_dump(mode="json"), "strengths": times}, [line], out, as_json)


@latent_app.command()
def anomaly(
    reference: Reference,
    images: Annotated[
        str, typer.Argument(help="train, validation, test, or a picture, folder, zip, tar or npz", metavar="IMAGES")
    ],
    normal: Annotated[str | None, typer.Option(help="normal ones: tells how well a score divides the two sets")] = None,
    limit: Limit = 1000,
    out: Out = Path("latent-anomaly.png"),
    as_json: AsJson = False,
) -> None:
    """Score how unlike the training data images are, beside the held-out ones."""
    from components.evaluation.bootstrap import Bootstrap
    from components.latent.anomaly import compare, ranked, remarks, score
    from components.latent.space import spread_over
    from components.pipeline.latent_inputs import named_images

    model = _opened(reference, out)
    scored, names = named_images(images, model, at_most=limit)
    found = score(model.family, scored, device=model.device)
    held_out = score(model.family, spread_over(model.held_out, at_most=HELD_OUT_ITEMS), device=model.device)
    others = score(model.family, named_images(normal, model, at_most=limit)[0], device=model.device) if normal else {}
    boot = Bootstrap(seed=0)
    told = {name: compare(found[name], held_out[name], normal_M=others.get(name), boot=boot) for name in found}
    by = list(told)[-1]
    picture, rows, columns = ranked(model.family, scored, found[by], columns=SHOWN, device=model.device)
    _draw(picture, out, rows=rows, columns=[str(at + 1) for at in range(columns)])
    lines = [f"{name}: {each.sentence}" for name, each in told.items()]
    lines += [*remarks(held_out), f"the picture begins with the highest {by} and ends with the lowest"]
    document = {"by": by, "images": names, "scores": {name: each.model_dump(mode="json") for name, each in told.items()}}
    _answer(model, document, lines, out, as_json)


@latent_app.command()
def compress(
    reference: Reference,
    steps: Annotated[str, typer.Option(help="of the quantiser, in deviations of the codes")] = "2,1,0.5,0.25,0.125",
    limit: Limit = 500,
    out: Out = Path("latent-compress.png"),
    plot: Annotated[
        Path | None, typer.Option(help="the rate-distortion plot; by default OUT-rates.png", metavar="FILE.png")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compress held-out images to bytes and back: rate and distortion beside PNG, JPEG and WebP."""
    import numpy as np

    from components.core.files import write_whole
    from components.latent.compression import curve
    from components.latent.picture_codecs import beside, picture_points
    from components.latent.rate_plot import rate_plot
    from components.latent.space import spread_over
    from components.pipeline.latent_inputs import numbers

    widths = numbers("--steps", steps, float)
    plot = plot or out.with_name(f"{out.stem}-rates.png")
    model = _opened(reference, out, plot)
    space, z_NU = _space(model)
    items = spread_over(model.held_out, at_most=limit)
    measured = curve(space, z_NU, items, steps=widths)
    points, rivals = [point for _, point in measured], picture_points(items.images)
    rows = [items.images[:SHOWN], *(back[:SHOWN] for back, _ in measured)]
    names = ["original", *(f"{_step(point.step)}{point.bits_per_dim:.2f} bits/dim" for point in points)]
    _draw(np.concatenate(rows), out, rows=names, columns=[""] * len(rows[0]))
    write_whole(plot, rate_plot(points, rivals, name=space.name))
    told = [
        {**point.model_dump(mode="json"), "beside": {name: each.model_dump() for name, each in beside(point, rivals).items()}}
        for point in points
    ]
    others = [rival.model_dump(mode="json") for rival in rivals]
    document = {"items": len(items), "points": told, "picture_codecs": others, "plot": str(plot)}
    _answer(model, document, [*_rates(told, others), f"plot     {plot}"], out, as_json)


def _opened(reference: str, *pictures: Path) -> "LoadedModel":
    """The model of a release, once the pictures are known to be something that can be written."""
    from components.core.errors import InputError
    from components.pipeline.loaded_model import load_model
    from flows.settings import load_backends

    for path in pictures:
        if path.suffix != ".png":
            raise InputError(f"{path}: a picture is written as PNG", allowed="a name that ends in .png")
    return load_model(reference, load_backends())


def _space(model: "LoadedModel", *, vectors: bool = False) -> "tuple[LatentSpace, Tensor]":
    """The model's latent space, and the codes z_NU of its training images."""
    from components.latent.space import LatentSpace, spread_over

    space = LatentSpace(model.family, device=model.device, vectors=vectors)
    return space, space.encode(spread_over(model.train, at_most=TRAIN_ITEMS))


def _step(step: float | None) -> str:
    """Codes that are integers have none."""
    return "" if step is None else f"step {step:g}: "


def _draw(images: "Images", out: Path, *, rows: Sequence[str], columns: Sequence[str]) -> None:
    from components.core.files import write_whole
    from components.core.labels import labelled_png

    write_whole(out, labelled_png(images, rows=rows, columns=columns))


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


def _answer(model: "LoadedModel", document: dict[str, Any], lines: Sequence[str], out: Path, as_json: bool) -> None:
    """The document for a program, or the lines for a person."""
    release, card = model.release, model.family.card
    if as_json:
        about = {"model": release.model, "version": release.version, "family": card.family, "variant": card.variant}
        print_json({**about, **document, "picture": str(out)})
        return
    for line in (f"{release.model} version {release.version}, {card.family}/{card.variant}", *lines, f"picture  {out}"):
        say(line)
