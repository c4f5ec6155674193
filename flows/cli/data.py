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
    modality: Annotated[str, typer.Option(help="of the files in a folder, zip or tar")] = "image",
    as_json: AsJson = False,
    **reading: Any,
) -> None:
    """Write a dataset as shards and put it under DVC, ready to be named in a brief."""
    from components.data.prepare import QUARANTINE_MAX, prepare, sheet_path
    from components.data.versions import check_trackable, track
    from components.data.words import lines, warnings

    settings = Settings.load()
    reports: list[Any] = []
    check_trackable(to)
    manifest = prepare(
        source,
        to,
        seed=seed,
        limit_items=limit,
        quarantine_max=QUARANTINE_MAX if quarantine_max is None else quarantine_max,
        classes=classes,  # type: ignore[arg-type]
        modality=modality,
        mirror=settings.data_mirror,
        cache=Home(settings.root).data,
        told=reports.append,
        **reading,
    )
    track(to)
    sheet = sheet_path(Home(settings.root).data, to.absolute())
    if as_json:
        print_json(
            {
                "dataset": manifest.model_dump(mode="json"),
                "report": reports[0].model_dump(mode="json"),
                "warnings": warnings(manifest, reports[0]),
                "sheet": str(sheet),
            }
        )
        return
    for line in (*lines(manifest, reports[0], to=to, sheet=sheet), "  tracked by DVC"):
        say(line)


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
