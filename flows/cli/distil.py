"""From a release to a faster student of it."""

from functools import partial
from typing import Annotated

import typer

from flows.cli.arguments import AsJson, Reference, print_json
from flows.settings import load_backends

distil_app = typer.Typer()

Latency = Annotated[float | None, typer.Option(help="p95 of one item on --device; the brief's by default", min=0.001)]
Device = Annotated[str, typer.Option(help="where it will be served: auto, cpu or cuda")]
Steps = Annotated[str | None, typer.Option(help="network evaluations to try, as 4,2,1")]
Widths = Annotated[str, typer.Option(help="widths to try, as shares of the teacher's")]
Precisions = Annotated[str | None, typer.Option(help="to try; fp32,int8 by default, on a GPU fp32,fp16")]
Minutes = Annotated[float, typer.Option(help="for all trainings together", min=0.001)]
Adversarial = Annotated[
    bool | None, typer.Option(help="also train the student in one step on against a critic; by default where one can judge it")
]
Name = Annotated[str | None, typer.Option("--as", help="the student's model; MODEL-distilled by default")]


@distil_app.command()
def distil(
    reference: Reference,
    latency_ms: Latency = None,
    device: Device = "auto",
    steps: Steps = None,
    widths: Widths = "1,0.5",
    precisions: Precisions = None,
    minutes: Minutes = 30.0,
    adversarial: Adversarial = None,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Find the cheapest student of a diffusion model that is fast enough and no worse, and release it."""
    from components.pipeline.distil import curve as curves
    from components.pipeline.distil import run
    from components.pipeline.distil.request import read_request
    from components.pipeline.durations import starting
    from components.pipeline.report import print_distilled
    from flows.engines import carry_out

    backends = load_backends()
    asked = {"name": name, "steps": steps, "widths": widths, "precisions": precisions, "device": device}
    limits = {"minutes": minutes, "adversarial": adversarial, "latency_ms": latency_ms}
    with starting(reference, backends):
        request = read_request(reference, backends, **asked, **limits)  # type: ignore[arg-type]
        work, ending = partial(run.distil, reference, request, backends), partial(curves.ending, request.name)
        curve, produced = carry_out("distil", reference, work, backends, show=not as_json, ending=ending)
    if as_json:
        print_json({"curve": curve.model_dump(mode="json"), "produced": produced and produced.model_dump(mode="json")})
    else:
        print_distilled(curve, produced, request.name, backends)
    curves.refuse_unless_one_passed(curve, request.name)
