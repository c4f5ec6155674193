"""What a step of a Kubeflow pipeline does, in its pod or process: without kfp.

A pod is told of a run by its name alone, MODEL/KEY: records and files are in the store. Its settings are GENWRIGHT_* variables.
"""

import atexit
import gc
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from components.core.errors import GenwrightError
from components.pipeline import existing, production
from components.pipeline.briefs import load_brief
from components.pipeline.endings import judged
from components.pipeline.resolve import resolve
from components.pipeline.run import Produced
from components.runtime.collection import uncollected
from components.runtime.threads import rest_when_idle
from flows.settings import load_backends, name_user

REFUSED = "Refused: "


def begin(text: str, base: str) -> tuple[str, str]:
    """The run, MODEL/KEY, of a brief's text, left in the store; and why nothing is to be done, where it was produced before.

    `base`: the folder that the brief's paths are relative to; "" in a pod, where none is.
    """
    backends = load_backends()
    with TemporaryDirectory() as folder:
        path = Path(folder, "brief.yaml")
        path.write_text(text, encoding="utf-8")
        brief = load_brief(path, backends)
    with uncollected():
        run = resolve(brief, backends, base=Path(base) if base else None, elsewhere=not base)
        known = existing.find_existing_result(run, backends)
        existing.begin(run, backends)
    production.put_run(run, backends)
    return run.reference, f"Unchanged: {existing.nothing_to_do(run, known, backends)}" if known else ""


def carry_out(first: str, last: str, run: str) -> str:
    """Run the stages from one to another; a line on what became of them, which begins with Promoted or Refused at the end of the
    order: that a gate refuses is a result, and no failure."""
    rest_when_idle()
    backends = load_backends()
    record = production.run_stage(first, run, backends, production.in_process(backends), through=last)
    if not isinstance(record, Produced):
        return f"{run}: {last} is done"
    ending = judged(None, record)
    return f"{ending.name}: {ending.sentence}"


def said(step: str, *arguments: str) -> str | tuple[str, str]:
    """What a step returns; an error of ours becomes its one line and the documented exit code."""
    atexit.register(gc.freeze)  # else the last collection walks through torch and MLflow for two seconds, and frees nothing
    try:
        name_user()
        return begin(*arguments) if step == "begin" else carry_out(*arguments)
    except GenwrightError as error:
        sys.stderr.write(f"genwright: {error}\n")
        sys.exit(error.exit_code)
