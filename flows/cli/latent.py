"""`genwright latent`: the tools of components.latent on a release, its held-out images and those of the user.

Every command writes a picture, and says or prints as JSON what it measured.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.arguments import AsJson, Reference, print_json, say, working

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
    _answer("interpolate", reference, out, as_json, items=items, seeds=seeds, label=label, points=points)


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
    _answer("traverse", reference, out, as_json, item=item, units=units, points=points)


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
    groups = {"plus": plus, "minus": minus, "plus_items": plus_items, "minus_items": minus_items}
    _answer("arithmetic", reference, out, as_json, **groups, items=items, strengths=strengths)


@latent_app.command()
def anomaly(
    reference: Reference,
    images: Annotated[str, typer.Argument(help="a split, or a picture, folder, zip, tar or npz", metavar="IMAGES")],
    normal: Annotated[str | None, typer.Option(help="normal ones: tells how well a score divides the two sets")] = None,
    limit: Limit = 1000,
    out: Out = Path("latent-anomaly.png"),
    as_json: AsJson = False,
) -> None:
    """Score how unlike the training data images are, beside the held-out ones."""
    _answer("anomaly", reference, out, as_json, images=images, normal=normal, limit=limit)


@latent_app.command()
def compress(
    reference: Reference,
    steps: Annotated[str, typer.Option(help="of the quantiser, in deviations of the codes")] = "2,1,0.5,0.25,0.125",
    limit: Limit = 500,
    out: Out = Path("latent-compress.png"),
    plot: Annotated[Path | None, typer.Option(help="of rate and distortion; OUT-rates.png", metavar="FILE.png")] = None,
    as_json: AsJson = False,
) -> None:
    """Compress held-out images to bytes and back: rate and distortion beside PNG, JPEG and WebP."""
    _answer("compress", reference, out, as_json, steps=steps, limit=limit, plot=plot)


@latent_app.command()
def variations(
    reference: Reference,
    images: Annotated[str, typer.Argument(help="a split, or a picture, folder, zip, tar or npz", metavar="IMAGES")],
    seeds: Annotated[str, typer.Option(help="a column each")] = "0,1,2,3,4",
    limit: Annotated[int, typer.Option(help="images to vary, a row each, at most", min=1, max=99)] = 8,
    out: Out = Path("latent-variations.png"),
    as_json: AsJson = False,
) -> None:
    """Draw others like an image: what it is about stays, the rest is drawn anew (of models by a prior and a decoder)."""
    _answer("variations", reference, out, as_json, images=images, seeds=seeds, limit=limit)


def _answer(name: str, reference: str, out: Path, as_json: bool, **options: Any) -> None:
    """The document for a program, or the lines for a person."""
    from components.pipeline.latent_commands import answer
    from flows.settings import load_backends

    document, lines = answer(name, reference, out, load_backends(), **options)
    print_json(document) if as_json else say("\n".join(lines))
