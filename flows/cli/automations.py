"""`genwright automations`: what a Prefect server does by itself about our runs."""

from typing import Annotated, Any

import typer

from flows.cli.arguments import AsJson, print_json, say
from flows.settings import Settings

automations_app = typer.Typer()

Webhook = Annotated[str | None, typer.Option(help="address that hears of failures and refusals; GENWRIGHT_NOTIFY_URL by default")]
Silent = Annotated[int | None, typer.Option(help="seconds without a heartbeat after which a run is Crashed; 600 by default")]


@automations_app.command()
def automations(
    webhook: Webhook = None,
    silent_s: Silent = None,
    remove: Annotated[bool, typer.Option("--remove", help="remove them and the address")] = False,
    as_json: AsJson = False,
) -> None:
    """Let the Prefect server set runs that died Crashed, and tell a webhook of failures, refusals and reached budgets."""
    from flows import automations as found

    limit = {} if silent_s is None else {"silent_s": silent_s}
    done: list[Any] = found.remove() if remove else found.put(webhook or Settings.load().notify_url, **limit)
    if as_json:
        return print_json([each.model_dump(mode="json") for each in done])
    for each in done:
        say(f"{each.name}: {each.became}. {each.does}")
    return None if done else say("there were none")
