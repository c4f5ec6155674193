"""From a release to a faster student of it."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import AsJson, Reference, print_json
from flows.cli.produce import starting
from flows.settings import load_backends

if TYPE_CHECKING:
    from components.pipeline.backends import Backends
    from components.pipeline.distil.curve import Curve
    from components.pipeline.distil.request import DistillRequest
    from components.pipeline.run import Produced

distil_app = typer.Typer()


@distil_app.command()
def distil(
    reference: Reference,
    latency_ms: Annotated[
        float | None, typer.Option(help="p95 of one item on --device; the brief's by default", min=0.001)
    ] = None,
    device: Annotated[str, typer.Option(help="where it will be served: auto, cpu or cuda")] = "auto",
    steps: Annotated[str | None, typer.Option(help="network evaluations to try, as 4,2,1")] = None,
    widths: Annotated[str, typer.Option(help="widths to try, as shares of the teacher's")] = "1,0.5",
    precisions: Annotated[str | None, typer.Option(help="to try; fp32,int8 by default, on a GPU fp32,fp16")] = None,
    minutes: Annotated[float, typer.Option(help="for all trainings together", min=0.001)] = 30.0,
    adversarial: Annotated[float, typer.Option(help="weight of a discriminator's loss in the second half", min=0)] = 0.0,
    name: Annotated[str | None, typer.Option("--as", help="the student's model; MODEL-distilled by default")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the cheapest student of a diffusion model that is fast enough and no worse, and release it."""
    from components.core.errors import InputError

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device}", allowed="auto, cpu, cuda")
    from components.pipeline.distil.curve import picture_of, refuse_unless_one_passed
    from components.pipeline.distil.request import request_of
    from components.pipeline.latent_inputs import numbers
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
            device=device_for(device),  # type: ignore[arg-type]
        )
        curve, produced = _distil(reference, request, backends, show=not as_json)
    if as_json:
        print_json({"curve": curve.model_dump(mode="json"), "produced": produced and produced.model_dump(mode="json")})
    else:
        from components.pipeline.report import near, produced_lines
        from components.pipeline.view import console, curve_table

        out = console()
        out.print()
        out.print(curve_table(curve))
        out.print(f"[bold]Curve[/]  {near(str(picture_of(request.name, backends)))}", soft_wrap=True)
        for line in produced_lines(produced, backends.workspace) if produced else ():
            out.print(line, soft_wrap=True)
    refuse_unless_one_passed(curve, request.name)


def _distil(reference: str, request: "DistillRequest", backends: "Backends", *, show: bool) -> "tuple[Curve, Produced | None]":
    """In this process; or as a run of Prefect's flow, where the user named a server."""
    from components.pipeline import production
    from components.pipeline.distil.run import distil as run
    from components.pipeline.report import Report
    from components.runtime.threads import rest_when_idle
    from flows import prefect_server

    rest_when_idle()
    if prefect_server.is_named():
        prefect_server.prepare()
        from flows.distil import distil as flow

        curve, produced = flow(reference, request, show=show)
        return curve, produced
    return run(reference, request, backends, production.in_process(backends), Report(backends.workspace, enabled=show))
