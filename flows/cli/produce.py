"""From a brief to a champion: plan, families, produce, retrain."""

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flows.cli.arguments import QUIET_S, AsJson, BriefFile, print_json
from flows.settings import Settings, load_backends

if TYPE_CHECKING:
    from components.pipeline.backends import Backends
    from components.pipeline.run import Produced

produce_app = typer.Typer()


@produce_app.command()
def plan(brief: BriefFile, as_json: AsJson = False) -> None:
    """Say which family the policy chooses, and why. Fetches and trains nothing."""
    from components.core.brief import base_of
    from components.pipeline import resolve
    from components.pipeline.briefs import load_brief

    backends = load_backends()
    facts, decision = resolve.plan(load_brief(brief, backends), backends, base=base_of(brief))
    if as_json:
        print_json(decision.model_dump(mode="json"))
        return
    from components.policy.view import view
    from flows.cli.show import console

    console().print(view(facts, decision))


@produce_app.command()
def families(as_json: AsJson = False) -> None:
    """List the families that can be produced, with their cards."""
    from components.families import cards

    found = [card for card, _, _ in cards().values()]
    if as_json:
        print_json([card.model_dump(mode="json") for card in found])
        return
    from rich.table import Table

    from flows.cli.show import console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("family", "p(x)", "steps", "what it is, and its paper"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("family", "p(x)", "steps"))
    for card in found:
        about = f"{card.title} [dim]{card.references[0]}[/]"  # conditioning and the other references are in --json
        table.add_row(f"{card.family}/{card.variant}", card.likelihood, str(card.steps), about)
    console().print(table)


@produce_app.command()
def produce(brief: BriefFile, as_json: AsJson = False) -> None:
    """Take a brief down the whole road: data, training, proof, export, registry, promotion."""
    from components.pipeline.existing import refuse_unless_passed

    produced, nothing_done = _produced(brief, show=not as_json)
    if as_json:
        print_json(produced.model_dump(mode="json"))
    elif nothing_done:
        from flows.cli.show import console, produced_lines

        for line in (nothing_done, *produced_lines(produced, load_backends().workspace)):
            console().print(line, soft_wrap=True)
    refuse_unless_passed(produced)


@produce_app.command()
def retrain(brief: BriefFile) -> None:
    """Produce again when the data, the brief or genwright has changed; else do nothing and say why."""
    from components.pipeline.existing import produced_line, refuse_unless_passed

    produced, nothing_done = _produced(brief, show=False)
    if not nothing_done:
        refuse_unless_passed(produced)
    typer.echo(nothing_done or produced_line(produced))


def starting(what: object, backends: "Backends") -> AbstractContextManager[Any]:
    """Shown until the first stage begins: what follows imports torch and MLflow. Quick answers and refusals come without it."""
    from components.pipeline.durations import timed

    return timed("Starting", backends, note=str(what), quiet_s=QUIET_S, until_next=True)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection: it takes a quarter of the time of importing MLflow and DVC, and finds nothing there."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _produced(path: Path, *, show: bool) -> "tuple[Produced, str]":
    """What stands for this brief once the command has ended, and why nothing had to be done; empty where something was."""
    from components.core.brief import base_of
    from components.pipeline import production
    from components.pipeline.briefs import load_brief
    from components.pipeline.resolve import resolve

    backends = load_backends()
    with starting(path, backends):
        with _uncollected():
            run = resolve(load_brief(path, backends), backends, base=base_of(path))
            known = production.unchanged(run, backends)
        if known:
            return known
        from components.runtime.threads import rest_when_idle
        from flows.engines import produced

        rest_when_idle()
        return produced(Settings.load().engine, run, path, backends, show=show), ""
