"""The commands that move and explain releases: promote, rollback, history, explain, adapters, deploy. They train nothing."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.arguments import AsJson, Reference, print_json
from flows.settings import load_backends

release_app = typer.Typer()

Model = Annotated[str, typer.Argument(help="the registered model's name", metavar="MODEL")]
Why = Annotated[str, typer.Option("--why", help="goes into the ledger")]


@release_app.command()
def promote(
    reference: Reference,
    why: Why = "",
    force: Annotated[bool, typer.Option(help="past the gates; say --why")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a candidate the champion, when its gates passed beside the champion."""
    from components.pipeline import release_commands

    _print_outcome(release_commands.promote(reference, load_backends(), why=why, force=force), as_json)


@release_app.command()
def rollback(
    model: Model,
    to: Annotated[int | None, typer.Option(help="the version to go back to")] = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """Go back to the version before the champion. No training, no bundle is lost."""
    from components.pipeline import release_commands

    _print_outcome(release_commands.rollback(model, load_backends(), why=why, to=to), as_json)


@release_app.command()
def reconcile(model: Model, as_json: AsJson = False) -> None:
    """Repair what a crash or a hand in the MLflow UI left different between registry, ledger and channel."""
    from components.pipeline import release_commands

    _print_outcome(release_commands.reconcile(model, load_backends()), as_json)


@release_app.command()
def history(model: Model, as_json: AsJson = False) -> None:
    """The ledger of a model: every promotion and rollback, who, when and why; and where MLflow or the channel differ from it."""
    from components.pipeline.existing import history_of
    from components.pipeline.view import print_history

    entries, differing = history_of(model, load_backends())
    for line in differing:
        typer.echo(line, err=as_json)
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in entries])
    elif entries or not differing:
        print_history(model, entries)


@release_app.command()
def explain(reference: Reference, as_json: AsJson = False) -> None:
    """Why a release is what it is: its decision, scorecard, gates and lineage; and where ledger, alias and channel differ."""
    from components.pipeline.release_commands import explanation_of
    from components.pipeline.view import console, print_explanation

    backends = load_backends()
    release, bundle, differing = explanation_of(reference, backends)
    if not as_json:
        return print_explanation(console(), release, bundle, differing, backends)
    for line in differing:
        typer.echo(line, err=True)
    return print_json(bundle.model_dump(mode="json"))


@release_app.command()
def adapters(
    base: Annotated[str, typer.Argument(help="a model's name, or that of one made elsewhere, as hf:ORG/NAME", metavar="BASE")],
    as_json: AsJson = False,
) -> None:
    """The adapters of a base: every release by LoRA of its versions, its data and scores, and whether it is stale."""
    from components.pipeline.descendants import adapters_of
    from components.pipeline.view import print_adapters

    found = adapters_of(base, load_backends())
    if as_json:
        return print_json([each.model_dump(mode="json") for each in found])
    return print_adapters(base, found)


@release_app.command()
def deploy(
    reference: Reference,
    store: Annotated[str | None, typer.Option(help="publish to this store instead of GENWRIGHT_STORE")] = None,
    write: Annotated[str | None, typer.Option(help="only write files for it: kserve, triton, container or diffusers")] = None,
    to: Annotated[Path, typer.Option(help="the folder that --write writes into")] = Path("out/deploy"),
    image: Annotated[str, typer.Option(help="what --write kserve runs; infra/Dockerfile makes it")] = "genwright:latest",
    as_json: AsJson = False,
) -> None:
    """Publish the bundle of a release and point its channel at it; or write what another platform deploys it from."""
    from components.pipeline import platforms, release_commands

    if write is not None:
        files = [str(path) for path in platforms.write_deployment(reference, load_backends(), form=write, to=to, image=image)]
        return print_json({"written": files}) if as_json else typer.echo("\n".join(f"wrote {path}" for path in files))
    channel = release_commands.deploy(reference, load_backends(), store=store)
    if as_json:
        return print_json(channel.model_dump(mode="json"))
    return typer.echo(f"channel {channel.model} names version {channel.version}, bundle {channel.bundle_sha256[:12]}")


def _print_outcome(outcome: Any, as_json: bool) -> None:
    if as_json:
        return print_json(outcome.model_dump(mode="json"))
    from components.pipeline.view import outcome_lines

    return typer.echo("\n".join(outcome_lines(outcome)))
