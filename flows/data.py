"""`genwright data`: datasets as shards under DVC, and which version a brief names."""

from pathlib import Path
from typing import Annotated

import typer

from flows.arguments import AsJson, BriefFile, print_json, say, working
from flows.settings import Settings

data_app = typer.Typer(help="Prepare and inspect datasets.", no_args_is_help=True, callback=working)


@data_app.command("prepare")
def data_prepare(
    source: Annotated[str, typer.Argument(help="uci-digits, mnist, cifar10, emoji, or a folder, zip, tar or npz of images")],
    to: Annotated[Path, typer.Option(help="the folder to write")],
    side: Annotated[int | None, typer.Option(help="resize and crop to this many pixels", min=2)] = None,
    seed: Annotated[int, typer.Option(help="of the split")] = 0,
    limit: Annotated[int | None, typer.Option(help="take only the first items", min=1)] = None,
    quarantine_max: Annotated[
        float | None, typer.Option(help="the share of unusable images that may be set aside; 0.01", min=0, max=1)
    ] = None,
) -> None:
    """Write a dataset as shards and put it under DVC, ready to be named in a brief."""
    from components.data.prepare import QUARANTINE_MAX, prepare
    from components.data.versions import check_trackable, track

    settings = Settings.load()
    check_trackable(to)
    manifest = prepare(
        source,
        to,
        side=side,
        seed=seed,
        limit_items=limit,
        quarantine_max=QUARANTINE_MAX if quarantine_max is None else quarantine_max,
        mirror=settings.data_mirror,
        cache=settings.root / "data",
    )
    track(to)
    height, width, channels = manifest.shape
    set_aside = manifest.quarantine.count
    say(f"{to}: {manifest.count:,} items of {height}x{width}x{channels}, {set_aside} in quarantine; tracked by DVC")


@data_app.command("show")
def data_show(brief: BriefFile, as_json: AsJson = False) -> None:
    """Fetch the dataset of a brief and say which version it is."""
    from components.core.brief import base_of, read_brief
    from components.data.versions import fetch

    settings = Settings.load()
    data, base = read_brief(brief).data, base_of(brief)
    dataset = fetch(data, cache=settings.root / "data", mirror=settings.data_mirror, base=base)
    if as_json:
        print_json(dataset.model_dump(mode="json"))
        return
    say(f"{dataset.path}: {dataset.count:,} items of {'x'.join(map(str, dataset.shape))}, version {dataset.md5} at {dataset.rev}")
