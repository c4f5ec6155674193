"""What `genwright data prepare` offers that is found by name: the options of every modality, and the sources."""

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import typer
from typer.core import TyperCommand

from components.core.modality import reading_options


class PrepareCommand(TyperCommand):
    """Looks for the sources when its help is read: that takes a while."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from components.data.sources.find import allowed

        source: Any = next(each for each in self.params if each.name == "source")
        source.help = allowed()
        super().format_help(ctx, formatter)


def with_reading_options(command: Callable[..., None]) -> Any:
    """Give a command that takes `**reading` an option for each option of a modality."""
    takes = signature(command)
    found = [each for each in takes.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    for option, text in reading_options():
        default = typer.Option(None, help=text, min=option.least)
        found.append(Parameter(option.name, Parameter.KEYWORD_ONLY, default=default, annotation=option.kind | None))
    command.__signature__ = takes.replace(parameters=found)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in found} | {"return": None}
    return command
