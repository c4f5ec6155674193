"""A production from end to end, in the order of components/pipeline/order.py, whichever engine runs the stages.

An engine is a `Call`: it is given a stage and the records that the stage takes, and returns the stage's record, as `execute`
does. `in_process` is the engine of one machine; flows/engines has what runs the stages of a command.
"""

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, get_type_hints

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed

from components.core import store_keys
from components.core.errors import Conflict, InputError, RegistryError, StorageError
from components.core.record import Record
from components.pipeline import existing, stages, training
from components.pipeline.backends import Backends
from components.pipeline.durations import timed
from components.pipeline.endings import Ending, judged
from components.pipeline.lease import Lease, check_held, lease
from components.pipeline.needs import device_of
from components.pipeline.order import STAGES, Stage
from components.pipeline.refusals import check_device
from components.pipeline.run import Produced, Run, Trained, folder_of, package_version, record_key

PASSING = (StorageError, RegistryError, Conflict)  # failures of networks and stores, which pass
RETRY_DELAYS_S = (1, 5, 20)
RUN_NAME = re.compile(r"\w[\w.-]*/\w+")  # MODEL/KEY

Call = Callable[[Stage, Sequence[Record]], Record]
After = Callable[[str, Any], None]


def silent(_name: str, _record: Record) -> None:
    """For `after`: nobody is told."""


def execute(stage: Stage, records: Sequence[Any], backends: Backends) -> Record:
    """Run a stage here, its expected time beside it. `records`: those that it takes, of which the run is the first."""
    work = _function_of(stage)
    if stage.title is None:
        return work(*records, backends)
    with timed(stage.title, backends, records[0]):
        return work(*records, backends)


def _function_of(stage: Stage) -> Callable[..., Record]:
    found: Callable[..., Record] = getattr(stages, stage.name)
    return found


def in_process(backends: Backends) -> Call:
    """The engine of one machine: a stage is a function call, tried again where that may help."""

    def call(stage: Stage, records: Sequence[Record]) -> Record:
        if not stage.retried:
            return execute(stage, records, backends)
        waits = wait_chain(*map(wait_fixed, RETRY_DELAYS_S))
        tries = Retrying(
            retry=retry_if_exception_type(PASSING), stop=stop_after_attempt(1 + len(RETRY_DELAYS_S)), wait=waits, reraise=True
        )
        return tries(execute, stage, records, backends)

    return call


def run_stages(records: dict[str, Any], call: Call, after: After = silent, *, through: str | None = None) -> None:
    """Run the stages whose records are not there yet, in their order, up to and with `through`; all of them by default.

    `records` holds the run and what ran before, by name; theirs are added.
    """
    for stage in STAGES:
        if stage.name not in records:
            records[stage.name] = call(stage, [records[name] for name in stage.takes])
            after(stage.name, records[stage.name])
        if stage.name == through:
            return


def produce(run: Run, backends: Backends, call: Call, after: After = silent) -> Produced:
    """Take a run through all stages to its release, whatever its gates say. Raises Conflict where the model is being produced."""
    records: dict[str, Any] = {"run": run}
    with lease(run.brief.name, backends) as records["lease"]:
        put_run(run, backends)
        after("run", run)
        run_stages(records, call, after)
    produced: Produced = records["promote"]
    return produced


def find_or_produce(run: Run, backends: Backends, make: Callable[[], Produced]) -> tuple[Produced, str]:
    """What an earlier run with the same inputs produced, with one line that says why nothing is done; else what `make` produces,
    and an empty line."""
    known = existing.find_existing_result(run, backends)
    if known is None:
        if line := existing.what_is_followed(run, backends):
            sys.stderr.write(f"genwright: {line}\n")
        return make(), ""
    existing.begin(run, backends)
    return known, existing.nothing_to_do(run, known, backends)


def retrain(run: Run, backends: Backends, make: Callable[[], Produced]) -> Ending:
    """Produce where anything has changed that a stage depends on; else nothing, and the ending says why."""
    produced, nothing_done = find_or_produce(run, backends, make)
    return Ending("Unchanged", nothing_done, run, produced) if nothing_done else judged(run, produced)


def put_run(run: Run, backends: Backends) -> None:
    """Leave the inputs of a run in the store, for who goes on with it by its name; the first to write them counts."""
    backends.workspace.read_or_make(record_key(run, "run"), Run, lambda: run)
    backends.store.touch(record_key(run, "run"))  # what is worked with is young, with all that it depends on


def run_stage(
    name: str, reference: str, backends: Backends, call: Call, *, through: str | None = None, under: Lease | None = None
) -> Record:
    """Run one stage of the run MODEL/KEY alone, or those from it `through` another, with what the stages before it left in the
    store; returns the last one's record.

    It holds the lease of the model meanwhile, or works `under` that of the production that has it run; raises Conflict where that
    one has ended. Raises InputError for a stage or a run that is not known, and for one whose stages before it have not run.
    """
    wanted = _from(name, through or name)
    run = _named(wanted, reference, backends)
    if under is not None:
        check_held(under, backends.store)
    with lease(run.brief.name, backends) if under is None else nullcontext(under) as held:
        put_run(run, backends)
        records: dict[str, Any] = {"run": run, "lease": held}
        for before in STAGES[: STAGES.index(wanted[0])]:
            if any(before.name in stage.takes for stage in wanted):
                records[before.name] = recorded(before, run, records, backends)
        for stage in wanted:
            records[stage.name] = call(stage, [records[each] for each in stage.takes])
    last: Record = records[wanted[-1].name]
    return last


def take_part(name: str, reference: str, backends: Backends) -> None:
    """Train a run as one of several machines of which another one leads: `backends.machine`. Nothing is done where it is trained
    already. Raises InputError for another stage, and what run_stage does for a run."""
    (stage,) = _from(name, name)
    run = _named((stage,), reference, backends)
    if stage.device != "training":
        raise InputError(f"stage {name} on {backends.machine.text}", allowed="train, the one that several machines share")
    if backends.workspace.read(record_key(run, stage.name), Trained) is None:
        training.take_part(run, backends, folder_of(run, backends.home, stage.name))


def _from(first: str, last: str) -> tuple[Stage, ...]:
    names = [stage.name for stage in STAGES]
    if unknown := next((each for each in (first, last) if each not in names), None):
        raise InputError(f"stage {unknown}", allowed=", ".join(names))
    return STAGES[names.index(first) : names.index(last) + 1]


def _named(wanted: Sequence[Stage], reference: str, backends: Backends) -> Run:
    """The run of a reference, where this machine can carry out these stages of it."""
    model, _, key = reference.partition("/")
    run = backends.workspace.read(store_keys.run_record(model, key, "run"), Run) if RUN_NAME.fullmatch(reference) else None
    if run is None:
        raise InputError(f"--run {reference}: no such run in {backends.store.uri}", allowed="MODEL/KEY, as `produce` shows it")
    if run.genwright != package_version():
        what = f"--run {reference}: of genwright {run.genwright}, and this is {package_version()}"
        raise InputError(what, do="produce it again, or run that version")
    if run.key("seal") != key:
        raise InputError(f"--run {reference}: the run there has the key {run.key('seal')}", do="produce it again")
    for stage in wanted:
        check_device(run.facts.model_copy(update={"device": device_of(stage, run)}))
    return run


def recorded(stage: Stage, run: Run, records: dict[str, Any], backends: Backends) -> Record:
    """What a stage left. One that leaves no record of its own, a registration, is asked for again and finds what is there.

    `records`: those of the run and of the stages before it.
    """
    if not stage.keyed:
        return _function_of(stage)(*(records[each] for each in stage.takes), backends)
    beside = None
    if "prove" in records:
        beside = records["prove"].gates.champion
    elif stage.name in ("prove", "seal"):
        beside = run.student.teacher.bundle_sha256 if run.student else existing.rival_of(run, backends)
    found: Record | None = backends.workspace.read(
        record_key(run, stage.name, beside=beside), get_type_hints(_function_of(stage))["return"]
    )
    if found is None:
        raise InputError(f"{run.brief.name}: its stage {stage.name} has not run yet", do=f"genwright stage {stage.name} first")
    return found
