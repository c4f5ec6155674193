"""`genwright data`: datasets as shards under DVC, and which version a brief names."""

from pathlib import Path
from typing import Annotated, Any

import typer

from components.core.home import Home
from flows.cli.arguments import AsJson, BriefFile, print_json, say, working
from flows.cli.reading import PrepareCommand, with_reading_options
from flows.settings import Settings

data_app = typer.Typer(help="Prepare and inspect datasets.", no_args_is_help=True, callback=working)


@data_app.command("prepare", cls=PrepareCommand)
@with_reading_options
def data_prepare(
    source: Annotated[str, typer.Argument()],
    to: Annotated[Path, typer.Option(help="the folder to write")],
    seed: Annotated[int, typer.Option(help="of the split")] = 0,
    limit: Annotated[int | None, typer.Option(help="take so many items, spread evenly", min=1)] = None,
    quarantine_max: Annotated[
        float | None, typer.Option(help="the share of unusable items that may be set aside; 0.01", min=0, max=1)
    ] = None,
    classes: Annotated[
        str, typer.Option(help="auto: labels, else folders; folders: these alone, chunks and splits too; none")
    ] = "auto",
    captions: Annotated[
        str,
        typer.Option(
            help="auto: metadata.jsonl or .csv, else NAME.txt beside NAME.png; metadata, sidecar: that alone; folders: their "
            'names; none; or a template such as "a photo of a {class}"'
        ),
    ] = "auto",
    captions_missing_max: Annotated[
        float, typer.Option(help="the share of items without a caption that may be set aside", min=0, max=1)
    ] = 0.01,
    captions_repeated_max: Annotated[
        float, typer.Option(help="the share of items that may have the caption of an earlier one", min=0, max=1)
    ] = 1.0,
    modality: Annotated[str, typer.Option(help="of the files in a folder, zip or tar")] = "image",
    as_json: AsJson = False,
    **reading: Any,
) -> None:
    """Write a dataset as shards and put it under DVC, ready to be named in a brief."""
    from components.data.tracked import prepare_and_track

    settings = Settings.load()
    rules = {
        "classes": classes,
        "captions": captions,
        "captions_missing_max": captions_missing_max,
        "captions_repeated_max": captions_repeated_max,
        "seed": seed,
        "limit_items": limit,
        "modality": modality,
        "mirror": settings.data_mirror,
    } | reading
    document, lines = prepare_and_track(source, to, cache=Home(settings.root).data, quarantine_max=quarantine_max, **rules)
    print_json(document) if as_json else say("\n".join(lines))


@data_app.command("show")
def data_show(brief: BriefFile, as_json: AsJson = False) -> None:
    """Fetch the dataset of a brief and say which version it is."""
    from components.core.brief import base_of, read_brief
    from components.data.versions import fetch

    settings = Settings.load()
    data, base = read_brief(brief).data, base_of(brief)
    dataset = fetch(data, cache=Home(settings.root).data, mirror=settings.data_mirror, base=base)
    if as_json:
        print_json(dataset.model_dump(mode="json"))
        return
    say(f"{dataset.path}: {dataset.count:,} items of {dataset.item.text}, version {dataset.md5} at {dataset.rev}")
