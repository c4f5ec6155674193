"""`genwright latent`: the tools of components.latent on a release, its held-out images and those of the user.

Every command writes a picture, and says or prints as JSON what it measured.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import AsJson, Reference, print_json, say, working

if TYPE_CHECKING:
    from components.pipeline.latent import Told
    from components.pipeline.loaded_model import LoadedModel

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
    label: Annotated[str | None, typer.Option("--class", help="of the samples, where the model takes one")] = None,
    points: Points = 9,
    out: Out = Path("latent-interpolate.png"),
    as_json: AsJson = False,
) -> None:
    """Walk on a sphere from one image to another."""
    from components.pipeline import latent
    from components.pipeline.latent_inputs import pairs, sample_class

    ends = pairs("--seeds", seeds) if seeds else pairs("--items", items)
    model = _opened(reference, out)
    kind = sample_class(label, model) if seeds else 0
    _answer(model, latent.interpolate(model, ends, out, by_seeds=bool(seeds), label=kind, points=points), out, as_json)


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
    from components.pipeline import latent

    model = _opened(reference, out)
    _answer(model, latent.traverse(model, item, out, units=units, points=points), out, as_json)


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
    from components.pipeline import latent
    from components.pipeline.latent_inputs import first_held_out, numbers, training_group

    times = numbers("--strengths", strengths, float)
    chosen = numbers("--items", items, int) if items else None
    model = _opened(reference, out)
    with_it = training_group("--plus", plus, plus_items, model)
    without = training_group("--minus", minus, minus_items, model)
    changed = chosen or first_held_out(model, minus, 6)
    _answer(model, latent.arithmetic(model, with_it, without, changed, out, strengths=times), out, as_json)


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
    from components.pipeline import latent
    from components.pipeline.latent_inputs import named_images

    model = _opened(reference, out)
    scored, names = named_images(images, model, at_most=limit)
    beside = named_images(normal, model, at_most=limit)[0] if normal else None
    _answer(model, latent.anomaly(model, scored, names, beside, out), out, as_json)


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
    from components.pipeline import latent
    from components.pipeline.latent_inputs import numbers

    widths = numbers("--steps", steps, float)
    plot = plot or out.with_name(f"{out.stem}-rates.png")
    model = _opened(reference, out, plot)
    _answer(model, latent.compress(model, widths, out, plot, at_most=limit), out, as_json)


def _opened(reference: str, *pictures: Path) -> "LoadedModel":
    """The model of a release, once the pictures are known to be something that can be written."""
    from components.core.errors import InputError
    from components.pipeline.loaded_model import load_model
    from flows.settings import load_backends

    for path in pictures:
        if path.suffix != ".png":
            raise InputError(f"{path}: a picture is written as PNG", allowed="a name that ends in .png")
    return load_model(reference, load_backends())


def _answer(model: "LoadedModel", told: "Told", out: Path, as_json: bool) -> None:
    """The document for a program, or the lines for a person."""
    (document, lines), release, card = told, model.release, model.family.card
    if as_json:
        about = {"model": release.model, "version": release.version, "family": card.family, "variant": card.variant}
        print_json({**about, **document, "picture": str(out)})
        return
    for line in (f"{release.model} version {release.version}, {card.family}/{card.variant}", *lines, f"picture  {out}"):
        say(line)
