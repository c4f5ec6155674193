"""The commands that move and explain releases: promote, rollback, reconcile, history, explain, deploy. They train nothing."""

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
    """Make a candidate the champion, when its gates passed beside the one that reigns."""
    from components.pipeline import release_commands

    if force and not why:
        from components.core.errors import InputError

        raise InputError("--force needs a reason for the ledger", do="add --why '...'")
    _print_outcome(release_commands.promote(reference, load_backends(), why=why, force=force), as_json)


@release_app.command()
def rollback(
    model: Model,
    to: Annotated[int | None, typer.Option(help="the version to go back to")] = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """Let the version before the champion reign again. No training, no bundle is lost."""
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
    from components.pipeline.existing import disagreements

    backends = load_backends()
    backends.versions.releases(model)
    entries = backends.registry.ledger.entries(model)
    differing = disagreements(model, backends)
    for line in differing:
        typer.echo(line, err=as_json)
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in entries])
        return
    if not entries:
        if not differing:
            typer.echo(f"{model}: nothing was promoted yet")
        return
    from rich.table import Table

    from flows.cli.show import console

    table = Table("#", "when", "what", "version", "bundle", "who", "why")
    for entry in entries:
        moved = f"{entry.from_version or '-'} → {entry.to_version}"
        table.add_row(str(entry.sequence), entry.when[:19], entry.action, moved, entry.to_bundle[:12], entry.who, entry.why)
    console().print(table)


@release_app.command()
def explain(reference: Reference, as_json: AsJson = False) -> None:
    """Why a release is what it is: its decision, scorecard, gates and lineage; and where ledger, alias and channel differ."""
    from components.pipeline import release_commands
    from components.pipeline.existing import disagreements

    backends = load_backends()
    release = release_commands.explained(reference, backends)
    _, bundle = release_commands.bundle_of(release, backends)
    differing = disagreements(release.model, backends)
    if as_json:
        for line in differing:
            typer.echo(line, err=True)
        print_json(bundle.model_dump(mode="json"))
        return
    from rich.markup import escape

    from components.pipeline.distil.curve import stale
    from components.policy.view import Footnotes, sentence
    from flows.cli.show import console, gate_table, scorecard_table

    out = console()
    lineage = bundle.lineage
    out.print(f"[bold]{release.model} version {release.version}[/]  {', '.join(release.aliases) or 'no alias'}")
    for line in differing:
        out.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    out.print(f"bundle {release.bundle_sha256}", f"MLflow run {lineage.run_id}", sep="\n")
    if because := stale(bundle, backends):
        out.print(f"[yellow]{escape(because)}[/]", soft_wrap=True)
    if lineage.teacher:
        out.print(f"learnt from bundle {lineage.teacher}")
    if lineage.base:
        out.print(f"began with the weights of bundle {lineage.base}")
    out.print(f"{bundle.family}/{bundle.variant}, data {lineage.dataset_md5[:12]} at {lineage.dataset_rev[:12]}")
    notes = Footnotes()
    for reason in lineage.decision.reasons:
        out.print(f"  - {escape(sentence(reason.text))} [dim]{escape(notes.cite(reason.source))}[/]")
    for source, number in notes:
        out.print(f"    [dim]{escape(f'[{number}]')} {escape(source)}[/]")
    out.print(scorecard_table(bundle.scorecard))
    out.print(gate_table(bundle.gates))


@release_app.command()
def deploy(
    reference: Reference,
    store: Annotated[str | None, typer.Option(help="publish to this store instead of GENWRIGHT_STORE")] = None,
    write: Annotated[str | None, typer.Option(help="only write files for it: kserve, triton or container")] = None,
    to: Annotated[Path, typer.Option(help="the folder that --write writes into")] = Path("out/deploy"),
    image: Annotated[str, typer.Option(help="what --write kserve runs; infra/Dockerfile makes it")] = "genwright:latest",
    as_json: AsJson = False,
) -> None:
    """Publish the bundle of a release and point its channel at it; or write what another platform deploys it from."""
    from components.pipeline import release_commands

    if write is not None:
        written = release_commands.write_deployment(reference, load_backends(), form=write, to=to, image=image)
        if as_json:
            print_json({"written": [str(path) for path in written]})
        else:
            typer.echo("\n".join(f"wrote {path}" for path in written))
        return
    channel = release_commands.deploy(reference, load_backends(), store=store)
    if as_json:
        print_json(channel.model_dump(mode="json"))
    else:
        typer.echo(f"channel {channel.model} names version {channel.version}, bundle {channel.bundle_sha256[:12]}")


def _print_outcome(outcome: Any, as_json: bool) -> None:
    if as_json:
        print_json(outcome.model_dump(mode="json"))
        return
    for note in outcome.notes:
        typer.echo(note)
    if outcome.release is None:
        typer.echo(f"{outcome.model}: no version reigns")
    else:
        done = "reigns now" if outcome.changed else "reigns already; nothing changed"
        typer.echo(f"{outcome.model} version {outcome.release.version} {done}, bundle {outcome.release.bundle_sha256[:12]}")
