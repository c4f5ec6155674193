"""The command line as a whole: its groups of commands, and how errors and signals become one line and an exit code.

Exit codes: 0 done, 1 failed while running, 2 the input is wrong, 3 a gate said no or undecided, 130 interrupted.
"""

import io
import sys

import typer

from components.core.errors import GenwrightError
from components.runtime.interruption import EXIT_CODE, WATCH
from flows.cli.automations import automations_app
from flows.cli.bakeoff import bakeoff_app
from flows.cli.data import data_app
from flows.cli.distil import distil_app
from flows.cli.evidence import evidence_app
from flows.cli.kubeflow import kubeflow_app
from flows.cli.latent import latent_app
from flows.cli.produce import produce_app
from flows.cli.release import release_app
from flows.cli.schedule import schedule_app
from flows.cli.serve import serve_app
from flows.cli.stack import stack_app
from flows.cli.stage import stage_app
from flows.cli.watch import watch_app
from flows.settings import Settings, name_user

app = typer.Typer(
    help="A brief goes in, a proven generator comes out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for group in (produce_app, bakeoff_app, stage_app, distil_app, serve_app, release_app, automations_app, watch_app, stack_app):
    app.add_typer(group)
app.add_typer(data_app, name="data")
app.add_typer(schedule_app, name="schedule")
app.add_typer(latent_app, name="latent")
app.add_typer(evidence_app, name="evidence")
app.add_typer(kubeflow_app, name="kubeflow")


def main() -> None:
    """The entry point: errors become one line and the documented exit code."""
    WATCH.early = False
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
        code: int | None = app(prog_name="genwright", standalone_mode=False)  # else typer draws a box around a usage error
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
