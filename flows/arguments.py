"""What commands share: the arguments that several take, and the one JSON document that they answer with."""

from pathlib import Path
from typing import Annotated, Any

import typer

BriefFile = Annotated[Path, typer.Argument(help="a brief, for example briefs/digits.yaml", metavar="BRIEF")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output, and nothing else there")]
References = Annotated[list[str], typer.Argument(help="one or more of NAME, NAME@alias or NAME/version", metavar="MODEL...")]
Reference = Annotated[str, typer.Argument(help="NAME, NAME@alias or NAME/version", metavar="MODEL")]


def print_json(document: Any) -> None:
    import json

    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=True))
