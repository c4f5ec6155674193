"""`genwright up`, `down`, `doctor`, `gc`: what an operator does with the servers and the stores of this machine."""

from typing import Annotated, Any

import typer

from flows.cli.arguments import AsJson, print_json, say
from flows.settings import Settings, load_backends

stack_app = typer.Typer()

Port = Annotated[int | None, typer.Option(min=1, max=65535, help="another than its default, or than that of before")]


@stack_app.command()
def up(
    team: Annotated[bool, typer.Option("--team", help="on PostgreSQL and S3 (SeaweedFS), as a team has it")] = False,
    port_prefect: Port = None,
    port_mlflow: Port = None,
    port_serve: Port = None,
    port_s3: Port = None,
    port_postgres: Port = None,
    as_json: AsJson = False,
) -> None:
    """Start the servers and workers of this machine that do not run yet, and say where everything is."""
    from components.core.home import Home
    from components.operations.stack import commands
    from components.operations.stack.page import page
    from components.runtime.screen import say as tell

    asked = {"prefect": port_prefect, "mlflow": port_mlflow, "serve": port_serve, "s3": port_s3, "postgres": port_postgres}
    given = {name: port for name, port in asked.items() if port is not None}
    started = commands.up(Home(Settings.load().root), team=team, asked_ports=given, say=tell)
    if any(each.began and each.name == "prefect" for each in started.running):
        _put_automations(started)
    if as_json:
        print_json(_document(started))
    else:
        say(page(started))


@stack_app.command()
def down(as_json: AsJson = False) -> None:
    """End what `up` started, and nothing else. What is stored stays."""
    from components.core.home import Home
    from components.operations.stack import commands
    from components.runtime.screen import say as tell

    ended = commands.down(Home(Settings.load().root), say=tell)
    print_json({"ended": ended}) if as_json else say(f"{ended} processes ended" if ended else "nothing of `genwright up` runs")


@stack_app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look what is wrong, line by line with what to do. Exit code 1 where something fails."""
    from pathlib import Path

    from components.operations.doctor import examine, is_well
    from components.operations.finding import Installation
    from components.operations.page import findings_page
    from flows import prefect_server

    notifies = Settings.load().notify_url is not None
    lines = examine(Installation(load_backends(), prefect_server.api(), Path.cwd(), notifies))
    well = is_well(lines)
    if as_json:
        print_json({"well": well, "findings": [each.model_dump(mode="json") for each in lines]})
    else:
        say(findings_page(lines))
    raise typer.Exit(0 if well else 1)


@stack_app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="free it; without it, only say what may go")] = False,
    older_than: Annotated[str, typer.Option(metavar="AGE", help="what is younger stays: 7d, 12h, 30m, 0")] = "7d",
    as_json: AsJson = False,
) -> None:
    """Free what no ledger, alias, channel nor young run needs: candidates of before, their trainings and files, caches."""
    from components.operations.page import freed_page
    from components.operations.unused import free
    from components.operations.unused.age import seconds_of
    from components.runtime.progress import stage

    older_s, backends = seconds_of(older_than), load_backends()
    with stage("Freeing" if yes else "Looking", quiet_s=10.0):
        found = (free.free if yes else free.show)(backends, older_s=older_s)
    if as_json:
        room = {kind: {"count": count, "bytes": size} for kind, (count, size) in found.room.items()}
        print_json({"freed": yes, "kinds": room, "bytes": found.size_bytes, "busy": list(found.busy)})
    else:
        say(freed_page(found, older=older_than, done=yes))


def _put_automations(started: Any) -> None:
    import os

    os.environ["PREFECT_API_URL"] = started.stack.exports["PREFECT_API_URL"]
    from flows import automations

    automations.put(Settings.load().notify_url)


def _document(started: Any) -> dict[str, Any]:
    return {
        "team": started.stack.form.team,
        "services": [each.model_dump(mode="json") for each in started.running],
        "exports": dict(started.stack.exports),
        "source": str(started.stack.exports_file),
    }
