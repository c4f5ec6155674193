"""`genwright watch`: aliases that hands move in MLflow, and versions that people approve there."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import AsJson, print_json, say
from flows.settings import Settings, load_backends

if TYPE_CHECKING:
    from components.pipeline.receiver import Hints

watch_app = typer.Typer()

Models = Annotated[
    list[str] | None, typer.Argument(help="registered models; all of genwright's by default", metavar="[MODEL]...")
]
Every = Annotated[float, typer.Option(help="seconds between looks", min=1.0)]
Listen = Annotated[str | None, typer.Option(help="HOST:PORT where MLflow's webhooks come in", metavar="HOST:PORT")]
Register = Annotated[str | None, typer.Option(help="have MLflow's server call this address, of --listen", metavar="URL")]


@watch_app.command()
def watch(
    models: Models = None,
    every: Every = 30.0,
    once: Annotated[bool, typer.Option("--once", help="look once, and end")] = False,
    listen: Listen = None,
    register: Register = None,
    unregister: Annotated[bool, typer.Option("--unregister", help="have MLflow's server call no more, and end")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch MLflow: follow or undo the aliases that hands move (GENWRIGHT_HAND_MOVES), promote what people approved there."""
    from components.core.errors import InputError
    from components.pipeline.receiver import Hints
    from components.pipeline.watch import Watcher
    from flows.events import emit

    backends = load_backends()
    if unregister:
        from components.registry.webhooks import Webhooks

        return say(f"{Webhooks(backends.settings.mlflow_uri).unregister()} webhooks removed")
    if register and not listen:
        raise InputError("--register needs --listen HOST:PORT, where the webhooks come in")
    if as_json and not once:
        raise InputError("--json answers once: add --once")
    for model in models or ():
        backends.versions.aliases(model)  # UnknownModel, now and not at each look
    watcher = Watcher(backends, models or (), (lambda line: None) if as_json else say, emit)
    if once:
        looked = watcher.once()
        return print_json([each.model_dump(mode="json") for each in looked]) if as_json else None
    with ExitStack() as stack:
        hints = Hints()
        if listen:
            stack.enter_context(_listening(listen, register, hints))
        try:
            watcher.run(hints, every_s=every)
        except KeyboardInterrupt:  # as people and systemd end it
            return say("genwright watch has ended")


def _listening(listen: str, register: str | None, hints: "Hints") -> ExitStack:
    """The door of webhooks, until it is closed; MLflow's server is asked to call it."""
    from components.core.errors import InputError, SettingsError
    from components.pipeline.receiver import PATH, Receiver, receiving
    from components.registry.webhooks import Webhooks

    settings, backends = Settings.load(), load_backends()
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"--listen {listen}", allowed="HOST:PORT, as 0.0.0.0:8765")
    if settings.webhook_secret is None:
        do = "set it to 16 characters or more, as `openssl rand -hex 32` gives"
        raise SettingsError("GENWRIGHT_WEBHOOK_SECRET: not set, and webhooks are known by it alone", do=do)
    stack = ExitStack()
    at = stack.enter_context(receiving(host, int(port), Receiver(settings.webhook_secret, backends.store, hints)))
    say(f"webhooks come in at http://{host}:{at}{PATH}")
    if register:
        webhooks = Webhooks(settings.mlflow_uri)
        url = register.rstrip("/") + ("" if register.rstrip("/").endswith(PATH) else PATH)
        why_not = webhooks.test(webhooks.register(url, settings.webhook_secret))
        say(f"MLflow calls {url}" + (f", and does not reach it: {why_not}" if why_not else ", and reaches it"))
    return stack
