"""`genwright schedule`: when briefs are retrained, as deployments of a Prefect server."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.cli.arguments import AsJson, BriefFile, print_json, say, working
from flows.settings import load_backends


class BriefOrCommand(TyperGroup):
    """`schedule BRIEF` is the command `of`, so that the usual case needs no more words."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = next((each for each in args if not each.startswith("-")), None)
        return super().parse_args(ctx, args if first in (None, *self.commands) else ["of", *args])


schedule_app = typer.Typer(
    cls=BriefOrCommand, help="When briefs are retrained: BRIEF, list, remove.", no_args_is_help=True, callback=working
)


GpuPool = Annotated[str | None, typer.Option(help="the work pool that trains, and computes what needs a GPU; --pool by default")]
Image = Annotated[str | None, typer.Option(help="of the pods; the pools' own by default")]
Memory = Annotated[str | None, typer.Option(metavar="QUANTITY", help="of a GPU pod, as 32Gi")]
SharedMemory = Annotated[str | None, typer.Option(metavar="QUANTITY", help="that a GPU pod's processes share, as 8Gi")]
NodeSelector = Annotated[list[str], typer.Option(metavar="LABEL=VALUE", help="of the nodes with GPUs; may be given again")]
Toleration = Annotated[list[str], typer.Option(metavar="KEY", help="of a taint of the nodes with GPUs; may be given again")]


@schedule_app.command("of", hidden=True)
def schedule_brief(
    brief: BriefFile,
    pool: Annotated[str, typer.Option(help="the work pool whose workers run it")] = "genwright",
    gpu_pool: GpuPool = None,
    image: Image = None,
    memory: Memory = None,
    shared_memory: SharedMemory = None,
    node_selector: NodeSelector = [],  # noqa: B006
    toleration: Toleration = [],  # noqa: B006
    here: Annotated[bool, typer.Option("--here", help="run it in this folder, which only this machine has")] = False,
    as_json: AsJson = False,
) -> None:
    """Create or update the deployment that retrains BRIEF as its `schedule:` says; what it no longer asks for is removed."""
    from components.pipeline.placement import Pods
    from components.pipeline.schedules import schedule_of
    from flows import deployments, schedules

    with deployments.server():
        schedule = schedule_of(brief, load_backends(), here=here)
    pods = Pods(image, memory, shared_memory, tuple(node_selector), tuple(toleration))
    schedules.put(schedule, pool=pool, gpu_pool=gpu_pool, pods=pods)
    _print([each for each in deployments.planned() if each.name == schedule.name], as_json)


@schedule_app.command("list")
def schedule_list(as_json: AsJson = False) -> None:
    """What will run when, and why; and how each ended last."""
    from flows import deployments

    _print(deployments.planned(), as_json)


@schedule_app.command("remove")
def schedule_remove(name: Annotated[str, typer.Argument(help="the name in the brief", metavar="NAME")]) -> None:
    """Remove the deployment of a brief and its schedules. Versions, runs and the brief stay."""
    from flows import deployments

    deployments.remove(name)
    say(f"{name}: nothing is scheduled any more")


def _print(planned: list[Any], as_json: bool) -> None:
    if as_json:
        return print_json([each.model_dump(mode="json") for each in planned])
    from components.pipeline.view import console, schedule_table

    return console().print(schedule_table(planned)) if planned else say("nothing is scheduled: genwright schedule BRIEF")
