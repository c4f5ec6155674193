"""From a brief to a champion: plan, families, produce, retrain."""

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flows.cli.arguments import QUIET_S, AsJson, BriefFile, print_json
from flows.settings import Settings, load_backends

if TYPE_CHECKING:
    from components.pipeline.backends import Backends
    from components.pipeline.run import Produced, Run

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
    from components.pipeline.view import console
    from components.policy.view import view

    console().print(view(facts, decision))


@produce_app.command()
def families(as_json: AsJson = False) -> None:
    """List the families that can be produced, with their cards."""
    from components.families import cards

    found = [card for card, _, _ in cards().values()]
    if as_json:
        print_json([card.model_dump(mode="json") for card in found])
        return
    from components.pipeline.view import console, families_table

    console().print(families_table(found))


@produce_app.command()
def produce(brief: BriefFile, as_json: AsJson = False) -> None:
    """Take a brief down the whole road: data, training, proof, export, registry, promotion."""
    from components.pipeline.existing import refuse_unless_passed
    from components.pipeline.production import find_or_produce

    backends = load_backends()
    with _resolved(brief, backends) as run:
        produced, nothing_done = find_or_produce(run, backends, partial(_produced, run, backends, show=not as_json))
    if as_json:
        print_json(produced.model_dump(mode="json"))
    elif nothing_done:
        from components.pipeline.report import produced_lines
        from components.pipeline.view import console

        for line in (nothing_done, *produced_lines(produced, backends.workspace)):
            console().print(line, soft_wrap=True)
    refuse_unless_passed(produced)


@produce_app.command()
def retrain(brief: BriefFile) -> None:
    """Produce again when the data, the brief or genwright has changed; else do nothing and say why."""
    from components.pipeline import production

    backends = load_backends()
    with _resolved(brief, backends) as run:
        line = production.retrain(run, backends, partial(_produced, run, backends, show=False))
    typer.echo(line)


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


@contextmanager
def _resolved(path: Path, backends: "Backends") -> "Iterator[Run]":
    """The run of a brief, for the one who asks whether it was produced before."""
    from components.core.brief import base_of
    from components.pipeline.briefs import load_brief
    from components.pipeline.resolve import resolve

    with starting(path, backends), _uncollected():
        yield resolve(load_brief(path, backends), backends, base=base_of(path))


def _produced(run: "Run", backends: "Backends", *, show: bool) -> "Produced":
    """What becomes of a run under the engine that the settings name."""
    from components.pipeline import production
    from components.pipeline.report import Report
    from components.runtime.threads import rest_when_idle
    from flows import engines

    gc.enable()
    rest_when_idle()
    after = Report(backends.workspace, enabled=show)
    job = engines.Job("produce", run.reference, lambda call: production.produce(run, backends, call, after))
    return engines.run(Settings.load().engine, job, backends)
