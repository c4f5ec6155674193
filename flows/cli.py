"""The command line. Commands import what they need when they run, so `--help` and `plan` answer at once.

Exit codes: 0 done, 1 failed while running, 2 the input is wrong, 3 a gate said no or undecided, 130 interrupted.
"""

import atexit
import gc
import io
import math
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from components.core.errors import GenwrightError
from components.runtime.interruption import EXIT_CODE, WATCH
from components.serving.limits import Limits
from flows.arguments import QUIET_S, AsJson, BriefFile, Reference, References, print_json
from flows.data import data_app
from flows.latent import latent_app
from flows.release import release_app
from flows.settings import Settings, name_user

app = typer.Typer(
    help="A brief goes in, a proven generator comes out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data_app, name="data")
app.add_typer(latent_app, name="latent")
app.add_typer(release_app)


@app.command()
def plan(brief: BriefFile, as_json: AsJson = False) -> None:
    """Say which family the policy chooses, and why. Fetches and trains nothing."""
    from components.core.brief import base_of, read_brief
    from flows import deciding
    from flows.place import Place

    facts, decision = deciding.plan(read_brief(brief), Place(), base=base_of(brief))
    if as_json:
        print_json(decision.model_dump(mode="json"))
        return
    from components.policy.view import view
    from flows.show import console

    console().print(view(facts, decision))


@app.command()
def families(as_json: AsJson = False) -> None:
    """List the families that can be produced, with their cards."""
    from components.families import cards

    found = [card for card, _, _ in cards().values()]
    if as_json:
        print_json([card.model_dump(mode="json") for card in found])
        return
    from rich.table import Table

    from flows.show import console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("family", "p(x)", "steps", "what it is, and its paper"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("family", "p(x)", "steps"))
    for card in found:
        about = f"{card.title} [dim]{card.references[0]}[/]"  # conditioning and the other references are in --json
        table.add_row(f"{card.family}/{card.variant}", card.likelihood, str(card.steps), about)
    console().print(table)


@app.command()
def produce(brief: BriefFile, as_json: AsJson = False) -> None:
    """Take a brief down the whole road: data, training, proof, export, registry, promotion."""
    from flows import embedded, standing
    from flows.place import Place

    place = Place()
    with _starting(brief, place):
        known = _unchanged(brief, place)
        if known is None:
            embedded.prepare(place.settings.root)
            from flows.produce import produce as flow

            produced = flow(str(brief), show=not as_json)
    if known is not None:
        produced, sentence = known
        if not as_json:
            from flows.show import console, produced_lines

            for line in (sentence, *produced_lines(produced)):
                console().print(line, soft_wrap=True)
    if as_json:
        print_json(produced.model_dump(mode="json"))
    standing.refuse_unless_passed(produced)


def _starting(what: object, place: Any) -> AbstractContextManager[Any]:
    """Shown until the first stage begins: what follows imports Prefect and torch. Quick answers and refusals come without it."""
    from flows.durations import timed

    return timed("Starting", place, note=str(what), quiet_s=QUIET_S, until_next=True)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection: it takes a quarter of the time of importing MLflow and DVC, and finds nothing there."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@_uncollected()
def _unchanged(brief: Path, place: Any) -> tuple[Any, str] | None:
    """What stands already for this brief, found without Prefect. Refuses what cannot be produced before anything is fetched."""
    from components.core.brief import base_of, read_brief
    from components.core.errors import BriefError, DataError
    from components.data.versions import check_named
    from flows import deciding, stages, standing

    read, base, planned = read_brief(brief), base_of(brief), None
    dataset = deciding.known_dataset(read, place, base=base)
    with suppress(BriefError):  # neither declared nor prepared yet: decided once the data is here
        planned = deciding.decide(read, place, dataset=dataset, base=base)
    try:
        if planned is not None:
            deciding.check(read, *planned, dataset, base=base)
    except DataError:
        _ = place.settings.root  # a home that cannot be is said first
        raise
    _ = place.settings.root
    check_named(read.data, base=base)
    if not (place.settings.root / "work" / read.name).exists():
        return None
    run = stages.fetch(read, place, base=base)
    known = standing.standing(run, place)
    if known is not None:
        standing.begin(run, place)
    return (known, standing.nothing_to_do(run, known)) if known else None


@app.command()
def retrain(brief: BriefFile) -> None:
    """Produce again when the data, the brief or genwright has changed; else do nothing and say why."""
    from flows import embedded
    from flows.place import Place

    place = Place()
    with _starting(brief, place):
        known = _unchanged(brief, place)
        if known is None:
            embedded.prepare(place.settings.root)
            from flows.produce import retrain as flow

            said = flow(str(brief))
        else:
            said = known[1]
    typer.echo(said)


@app.command()
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
    adversarial: Annotated[float, typer.Option(help="weight of a critic's word in the second half of training", min=0)] = 0.0,
    name: Annotated[str | None, typer.Option("--as", help="the student's model; MODEL-distilled by default")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the cheapest student of a diffusion model that is fast enough and no worse, and release it."""
    from components.core.errors import InputError

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device}", allowed="auto, cpu, cuda")
    from flows import distilling, embedded
    from flows.latent_inputs import numbers
    from flows.place import Place
    from flows.settings import device_for

    place = Place()
    with _starting(reference, place):
        wish = distilling.wish_of(
            reference,
            place,
            name=name,
            steps=None if steps is None else numbers("--steps", steps, int),
            widths=numbers("--widths", widths, float),
            precisions=None if precisions is None else [each.strip() for each in precisions.split(",")],
            minutes=minutes,
            adversarial=adversarial,
            latency_ms=latency_ms,
            device=device_for(device),  # type: ignore[arg-type]
        )
        embedded.prepare(place.settings.root)
        from flows.distil import distil as flow

        curve, produced = flow(reference, wish, show=not as_json)
    if as_json:
        print_json({"curve": curve.model_dump(mode="json"), "produced": produced and produced.model_dump(mode="json")})
    else:
        from flows.show import console, curve_table, near, produced_lines

        out = console()
        out.print()
        out.print(curve_table(curve))
        out.print(f"[bold]Curve[/]  {near(str(distilling.picture_of(wish.name, place)))}", soft_wrap=True)
        for line in produced_lines(produced) if produced else ():
            out.print(line, soft_wrap=True)
    distilling.refuse_unless_one_passed(curve, wish.name)


@app.command()
def serve(
    references: References,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one", min=0, max=65535)] = 8000,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes what this machine allows", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    follow: Annotated[bool, typer.Option(help="take each new champion over while serving")] = True,
    deadline_s: Annotated[float, typer.Option(help="seconds from the queue to an answer, else 503", min=0.001)] = Limits.answer_s,
    queue: Annotated[
        int, typer.Option(help="images of a model that may wait; more are answered with 429", min=1)
    ] = Limits.queued,
    log: Annotated[str, typer.Option(help="text, or json: a line for every request too")] = "text",
) -> None:
    """Serve releases: the Open Inference Protocol, and /v1/generate and a page for people. A champion is followed."""
    from components.core.errors import InputError

    for option, given, allowed in (("device", device, ("auto", "cpu", "cuda")), ("log", log, ("text", "json"))):
        if given not in allowed:
            raise InputError(f"--{option} {given}", allowed=", ".join(allowed))
    if not math.isfinite(deadline_s):
        raise InputError(f"--deadline-s {deadline_s}", allowed="seconds, above 0")
    from components.runtime.progress import stage
    from components.runtime.screen import answer
    from components.serving.log import Log
    from components.serving.server import serve as run_server
    from flows.place import Place
    from flows.serving import sources_of, tokens_of
    from flows.settings import device_for

    place = Place()
    on = device_for(device)  # type: ignore[arg-type]
    limits = Limits(answer_s=deadline_s, queued=queue)
    with stage(f"Loading {', '.join(references)}", quiet_s=math.inf):  # away from a terminal the server's log has its own lines
        sources = sources_of(references, place, device=on, threads=threads, follow=follow)
        run_server(sources, host=host, port=port, tokens=tokens_of(place), limits=limits, log=Log(log), announce=answer)  # type: ignore[arg-type]


def main() -> None:
    """The entry point: errors become one line and the documented exit code."""
    WATCH.early = False
    atexit.register(gc.freeze)  # the interpreter's last collection would walk through all of MLflow, and free nothing that stays
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # of a terminal without this letter: another one is better than no answer
    try:
        name_user()
        code = _run()
    except GenwrightError as error:
        _fail(f"genwright: {error}", error.exit_code)
    except typer.TyperException as error:
        _fail_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        _fail(WATCH.line(), EXIT_CODE)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if Settings.load().debug:
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        _fail(f"genwright: {type(error).__name__}: {first}; this is a defect: set GENWRIGHT_DEBUG=1 to see where", 1)
    sys.exit(code or 0)


def _run() -> int | None:
    """The command; after a signal nothing but its end is said, whatever it raised then."""
    try:
        code: int | None = app(standalone_mode=False)  # else typer draws a box around a usage error
        if code == EXIT_CODE:  # typer returns it in place of KeyboardInterrupt
            raise KeyboardInterrupt
    except BaseException as error:
        if WATCH.first is None:
            raise
        WATCH.end(WATCH.line_of(error))
    return code


def _fail_usage(error: typer.TyperException) -> None:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "genwright"
    what = " ".join(error.format_message().split()).rstrip(".")
    if not what:  # a bare `genwright`: its help was printed
        sys.exit(error.exit_code)
    _fail(f"{command}: {what}; see {command} --help", error.exit_code)


def _fail(line: str, code: int) -> None:
    sys.stderr.write(line + "\n")
    sys.exit(code)


if __name__ == "__main__":
    WATCH.arm()
    main()
