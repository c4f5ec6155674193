"""The server of releases."""

import math
from functools import partial
from typing import Annotated

import typer

from components.serving.limits import Limits
from flows.cli.arguments import References
from flows.settings import Settings, load_backends

serve_app = typer.Typer()


@serve_app.command()
def serve(
    references: References = None,
    every: Annotated[bool, typer.Option("--all", help="each model that has a champion, now or later")] = False,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one", min=0, max=65535)] = 8000,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes what this machine allows", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    follow: Annotated[bool, typer.Option(help="take each new champion over while serving")] = True,
    deadline_s: Annotated[float, typer.Option(help="seconds from the queue to an answer, else 503", min=0.001)] = Limits.answer_s,
    queue: Annotated[int, typer.Option(help="items of a model that may wait; more are answered with 429", min=1)] = Limits.queued,
    log: Annotated[str, typer.Option(help="text, or json: a line for every request too")] = "text",
) -> None:
    """Serve releases: the Open Inference Protocol, and /v1/generate and a page for people. A champion is followed."""
    from components.core.errors import InputError
    from components.pipeline.serving import channelled, sources_of
    from components.runtime.devices import device_for
    from components.runtime.progress import stage
    from components.runtime.screen import answer
    from components.serving.log import Log
    from components.serving.server import serve as run_server
    from components.serving.tokens import digests_of

    if every == bool(references):
        raise InputError("serve: names no model" if not every else "serve --all: names models, too", allowed="MODEL..., or --all")
    on, backends, settings = device_for(device), load_backends(), Settings.load()
    tokens = digests_of(settings.token, settings.token_sha256)
    limits, events = Limits(answer_s=deadline_s, queued=queue), Log(log)
    find = partial(channelled, backends, device=on, threads=threads) if every else None
    # Away from a terminal the server's log has its own lines.
    with stage(f"Loading {', '.join(references or ['what has a champion'])}", quiet_s=math.inf):
        sources = sources_of(references or [], backends, device=on, threads=threads, follow=follow)
        run_server(sources, host=host, port=port, tokens=tokens, limits=limits, log=events, find=find, announce=answer)
