"""From a brief to a champion: plan, families, produce, import, retrain."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import AsJson, BriefFile, print_json
from flows.settings import load_backends

if TYPE_CHECKING:
    from components.core.records import Decision, Facts
    from components.pipeline.backends import Backends
    from components.pipeline.run import Produced, Run

produce_app = typer.Typer()


@produce_app.command()
def plan(
    brief: BriefFile,
    measure: Annotated[
        bool, typer.Option("--measure", help="time, memory, cost and latency by a dry run of seconds here; the data is fetched")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say which family the policy chooses, and why. Fetches and trains nothing, but for what --measure needs."""
    from components.core.brief import base_of
    from components.pipeline import resolve
    from components.pipeline.briefs import load_brief

    backends = load_backends()
    if measure:
        facts, decision = _measured(brief, backends)
    else:
        facts, decision = resolve.plan(load_brief(brief, backends), backends, base=base_of(brief))
    if as_json:
        return print_json(decision.model_dump(mode="json"))
    from components.pipeline.view import console
    from components.policy.view import view

    return console().print(view(facts, decision))


def _measured(path: Path, backends: "Backends") -> "tuple[Facts, Decision]":
    from components.pipeline.dry_run import dry_run, with_dry_run

    with _resolved(path, backends) as run:
        return run.facts, with_dry_run(run, dry_run(run, backends), backends)


@produce_app.command()
def families(as_json: AsJson = False) -> None:
    """List the families that can be produced, with their cards."""
    from components.families import cards

    found = [card for card, _, _ in cards().values()]
    if as_json:
        return print_json([card.model_dump(mode="json") for card in found])
    from components.pipeline.view import console, families_table

    return console().print(families_table(found))


@produce_app.command()
def produce(brief: BriefFile, as_json: AsJson = False) -> None:
    """Take a brief down the whole road: data, training, proof, export, registry, promotion."""
    from components.pipeline.production import find_or_produce

    backends = load_backends()
    with _resolved(brief, backends) as run:
        found = find_or_produce(run, backends, partial(_produced, run, backends, show=not as_json))
    _answer(found, backends, as_json=as_json)


@produce_app.command(name="import")
def import_model(
    model: Annotated[
        str, typer.Argument(help="a diffusers folder, hf:ORG/NAME[@REVISION], or models:/NAME@ALIAS", metavar="MODEL")
    ],
    name: Annotated[str, typer.Option("--as", help="the registered model's name")],
    data: Annotated[str, typer.Option(help="the prepared data that it is proved against, a folder of DVC", metavar="PATH")],
    use: Annotated[str | None, typer.Option(help="commercial or research: what it is for")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda: what it is proved and served on")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Release a model that was made elsewhere as it is: proved, exported, registered and promoted, and nothing trained."""
    from components.core.brief import base_of
    from components.pipeline.durations import starting
    from components.pipeline.imported import brief_of_import
    from components.pipeline.production import find_or_produce
    from components.pipeline.resolve import resolve_placed
    from components.runtime.collection import uncollected

    backends, base = load_backends(), base_of(Path.cwd() / "brief.yaml")
    brief = brief_of_import(model, backends, name=name, data=data, use=use, device=device, here=Path.cwd(), base=base)
    with starting(model, backends), uncollected():
        run = resolve_placed(brief, backends, base=base)
    found = find_or_produce(run, backends, partial(_produced, run, backends, show=not as_json))
    _answer(found, backends, as_json=as_json)


def _answer(found: "tuple[Produced, str]", backends: "Backends", *, as_json: bool) -> None:
    """What was produced, or why nothing was. Raises GateRefused."""
    from components.pipeline.existing import refuse_unless_passed

    produced, nothing_done = found
    if as_json:
        print_json(produced.model_dump(mode="json"))
    elif nothing_done:
        from components.pipeline.report import print_standing

        print_standing(nothing_done, produced, backends.workspace)
    refuse_unless_passed(produced)


@produce_app.command()
def retrain(brief: BriefFile) -> None:
    """Produce again when the data, the brief or genwright has changed; else do nothing and say why."""
    from components.pipeline import production

    backends = load_backends()
    with _resolved(brief, backends) as run:
        ending = production.retrain(run, backends, partial(_produced, run, backends, show=False))
    if ending.error is not None:
        raise ending.error
    typer.echo(ending.sentence)


@contextmanager
def _resolved(path: Path, backends: "Backends") -> "Iterator[Run]":
    """The run of a brief, for the one who asks whether it was produced before."""
    from components.pipeline.durations import starting
    from components.pipeline.resolve import resolve_file
    from components.runtime.collection import uncollected

    with starting(path, backends), uncollected():
        yield resolve_file(path, backends)


def _produced(run: "Run", backends: "Backends", *, show: bool) -> "Produced":
    from components.pipeline import production
    from components.pipeline.endings import judged
    from flows.engines import carry_out

    gc.enable()
    work = partial(production.produce, run, backends)
    made: Produced = carry_out("produce", run.reference, work, backends, show=show, ending=partial(judged, run))
    return made
