"""From a brief to the best of several candidates, trained under one equal budget."""

from functools import partial
from typing import Annotated

import typer

from flows.cli.arguments import AsJson, BriefFile, print_json
from flows.settings import load_backends

bakeoff_app = typer.Typer()

Top = Annotated[int, typer.Option(help="candidates to train, the policy's own choice among them", min=2, max=8)]
Samples = Annotated[int, typer.Option(help="of each candidate at each rung, the same for all", min=32, max=50_000)]


@bakeoff_app.command()
def bakeoff(brief: BriefFile, top: Top = 3, samples: Samples = 500, as_json: AsJson = False) -> None:
    """Train the best candidates of a brief under one equal budget, stop the worse half early, and release the winner."""
    from components.core.brief import base_of
    from components.pipeline.bakeoff.candidates import candidates
    from components.pipeline.bakeoff.run import bakeoff as carry_on
    from components.pipeline.bakeoff.run import ending
    from components.pipeline.briefs import load_brief
    from components.pipeline.durations import starting
    from components.pipeline.report import print_bakeoff
    from components.runtime.collection import uncollected
    from flows.engines import carry_out

    backends = load_backends()
    with starting(brief, backends), uncollected():
        runs = candidates(load_brief(brief, backends), backends, base=base_of(brief), top=top)
    work = partial(carry_on, runs, samples, backends)
    found = carry_out("bakeoff", runs[0].reference, work, backends, show=not as_json, ending=ending)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_bakeoff(found, backends)
    if (error := ending(found).error) is not None:
        raise error
