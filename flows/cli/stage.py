"""One stage of a run alone, as a worker, a pod and a test call it; `train`, `export` and `evaluate` are plain names of three."""

from typing import Annotated

import typer

from components.pipeline.order import STAGES
from flows.cli.arguments import AsJson, print_json, say
from flows.settings import load_backends, machine

stage_app = typer.Typer()

RunKey = Annotated[str, typer.Option("--run", help="a run in the store, as `produce` names it", metavar="MODEL/KEY")]


@stage_app.command("stage")
def stage(
    name: Annotated[str, typer.Argument(help=", ".join(each.name for each in STAGES), metavar="NAME")],
    run: RunKey,
    as_json: AsJson = False,
) -> None:
    """Run one stage of a run, with what the stages before it left in the store."""
    _run(name, run, as_json)


def _plain(name: str, command: str, about: str) -> None:
    """A plain name for a stage."""

    def one(run: RunKey, as_json: AsJson = False) -> None:
        _run(name, run, as_json)

    stage_app.command(command, help=about)(one)


_plain("train", "train", "Train what a run decided: its stage `train`.")
_plain("export", "export", "Export what a run trained as an ONNX graph: its stage `export`.")
_plain("prove", "evaluate", "Score what a run exported beside the champion: its stage `prove`.")


def _run(name: str, run: str, as_json: bool) -> None:
    from components.pipeline import production
    from components.pipeline.durations import starting
    from components.runtime.threads import rest_when_idle

    rest_when_idle()
    backends = load_backends()
    backends.machine = machine()
    with starting(f"{name} of {run}", backends):
        if not backends.machine.leads:
            production.take_part(name, run, backends)
            if as_json:
                return print_json(backends.machine.model_dump(mode="json"))
            return say(f"{run}: {backends.machine.text} took part in stage {name}")
        record = production.run_stage(name, run, backends, production.in_process(backends))
    if as_json:
        return print_json(record.model_dump(mode="json"))
    return say(f"{run}: stage {name} is done")
