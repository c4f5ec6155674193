"""What was measured: the evidence that the policy looks at, listed, exported, and merged with that of other teams."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.arguments import say, working
from flows.settings import load_backends

evidence_app = typer.Typer(help="What was measured of all models, which outranks the guides' priors in a plan.")

Into = Annotated[Path | None, typer.Option("--json", help="write the whole table to this file", metavar="FILE")]
Files = Annotated[list[Path], typer.Argument(help="what `genwright evidence --json FILE` wrote", metavar="FILE...")]


@evidence_app.callback(invoke_without_command=True)
def evidence(context: typer.Context, into: Into = None) -> None:
    """List what was measured, what MLflow has of others included; or write it to a file."""
    working(context)
    if context.invoked_subcommand is not None:
        return None
    from components.pipeline import evidence as evidences

    backends = load_backends()
    new = evidences.collect(backends)
    if into is not None:
        count = len(evidences.export(into, backends).rows)
        return say(f"{into}: {count} rows, {new} of them new from MLflow")
    from components.pipeline.view import print_evidence

    return print_evidence(evidences.table(backends))


@evidence_app.command()
def merge(files: Files) -> None:
    """Add what other teams measured, in any order; of one measurement the last stays. Merging twice changes nothing."""
    from components.pipeline import evidence as evidences

    backends = load_backends()
    _ = backends.settings.root
    new = evidences.merge(files, backends)
    say(f"{new} new rows of {len(files)} files; {len(evidences.table(backends).rows)} in all")
