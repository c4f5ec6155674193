"""What commands share: the arguments that several take, and the one JSON document that they answer with."""

from pathlib import Path
from typing import Annotated, Any

import typer

from components.runtime.progress import stage
from components.runtime.screen import SCREEN

QUIET_S = 10.0  # away from a terminal, before a line says that a command is at work

BriefFile = Annotated[Path, typer.Argument(help="a brief, for example briefs/digits.yaml", metavar="BRIEF")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output, and nothing else there")]
References = Annotated[
    list[str] | None, typer.Argument(help="one or more of NAME, NAME@alias or NAME/version", metavar="MODEL...")
]
Reference = Annotated[str, typer.Argument(help="NAME, NAME@alias or NAME/version", metavar="MODEL")]


def working(context: typer.Context) -> None:
    """Of a group of commands: what one does is shown until it answers."""
    if context.invoked_subcommand is not None and not context.resilient_parsing:
        context.with_resource(stage(f"{context.info_name} {context.invoked_subcommand}", quiet_s=QUIET_S, until_next=True))


def say(line: str) -> None:
    """A line of the answer, on standard output."""
    SCREEN.clear()
    typer.echo(line)


def print_json(document: Any) -> None:
    import json

    SCREEN.clear()
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=True))
