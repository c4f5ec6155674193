"""From a release to a faster student of it."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import AsJson, Reference, print_json
from flows.cli.produce import starting
from flows.settings import Settings, load_backends

if TYPE_CHECKING:
    from components.pipeline.backends import Backends
    from components.pipeline.distil.curve import Curve
    from components.pipeline.distil.request import DistillRequest
    from components.pipeline.run import Produced

distil_app = typer.Typer()

Latency = Annotated[float | None, typer.Option(help="p95 of one item on --device; the brief's by default", min=0.001)]
Device = Annotated[str, typer.Option(help="where it will be served: auto, cpu or cuda")]
Steps = Annotated[str | None, typer.Option(help="network evaluations to try, as 4,2,1")]
Widths = Annotated[str, typer.Option(help="widths to try, as shares of the teacher's")]
Precisions = Annotated[str | None, typer.Option(help="to try; fp32,int8 by default, on a GPU fp32,fp16")]
Minutes = Annotated[float, typer.Option(help="for all trainings together", min=0.001)]
Adversarial = Annotated[float, typer.Option(help="weight of a discriminator's loss in the second half", min=0)]
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
    adversarial: Adversarial = 0.0,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Find the cheapest student of a diffusion model that is fast enough and no worse, and release it."""
    from components.pipeline.distil.curve import refuse_unless_one_passed
    from components.pipeline.distil.request import request_of
    from components.pipeline.latent_inputs import numbers
    from components.pipeline.report import print_distilled
    from components.runtime.devices import device_for

    backends = load_backends()
    with starting(reference, backends):
        request = request_of(
            reference,
            backends,
            name=name,
            steps=None if steps is None else numbers("--steps", steps, int),
            widths=numbers("--widths", widths, float),
            precisions=None if precisions is None else [each.strip() for each in precisions.split(",")],
            minutes=minutes,
            adversarial=adversarial,
            latency_ms=latency_ms,
            device=device_for(device),
        )
        curve, produced = _distilled(reference, request, backends, show=not as_json)
    if as_json:
        print_json({"curve": curve.model_dump(mode="json"), "produced": produced and produced.model_dump(mode="json")})
    else:
        print_distilled(curve, produced, request.name, backends)
    refuse_unless_one_passed(curve, request.name)


def _distilled(reference: str, request: "DistillRequest", backends: "Backends", *, show: bool) -> "tuple[Curve, Produced | None]":
    """What comes of it under the engine that the settings name."""
    from components.pipeline.distil import run
    from components.pipeline.report import Report
    from components.runtime.threads import rest_when_idle
    from flows import engines

    rest_when_idle()
    after = Report(backends.workspace, enabled=show)
    job = engines.Job("distil", reference, lambda call: run.distil(reference, request, backends, call, after))
    return engines.run(Settings.load().engine, job, backends)
