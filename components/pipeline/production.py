"""The one order of the stages, and a production from end to end. Every engine reads the order here; none repeats it.

An engine is a `Call`: it is given a stage and the records that the stage takes, and returns the stage's record. `in_process` is
the engine of one machine; flows/produce.py has Prefect's.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed

from components.core import store_keys
from components.core.errors import Conflict, InputError, RegistryError, StorageError
from components.core.record import Record
from components.core.records import StoredBundle
from components.pipeline import existing, stages
from components.pipeline.backends import Backends
from components.pipeline.durations import timed
from components.pipeline.lease import lease
from components.pipeline.resolve import check_device
from components.pipeline.run import Exported, Produced, Proof, Run, Trained, package_version, record_key

PASSING = (StorageError, RegistryError, Conflict)  # failures of networks and stores, which pass
RETRY_DELAYS_S = (1, 5, 20)
RUN_NAME = re.compile(r"\w[\w.-]*/\w+")  # MODEL/KEY


@dataclass(frozen=True)
class Stage:
    """One step of a run: `run(*records, backends)` gives a record, of the records that it `takes`, by their stages' names."""

    name: str
    run: Callable[..., Record]
    takes: tuple[str, ...]
    title: str | None = None  # under which people see it, with what it took before; None: it shows its own progress
    retried: bool = False  # whether another try may help: what it does passes through networks and stores

    def execute(self, records: Sequence[Any], backends: Backends) -> Record:
        """Run it, its expected time beside it. `records` begin with the run."""
        if self.title is None:
            return self.run(*records, backends)
        with timed(self.title, backends, records[0]):
            return self.run(*records, backends)


STAGES = (
    Stage("train", stages.train, takes=("run", "lease")),
    Stage("export", stages.export, takes=("run", "train"), title="Export"),
    Stage("prove", stages.prove, takes=("run", "train", "export"), title="Proof"),
    Stage("seal", stages.seal, takes=("run", "train", "export", "prove"), title="Release", retried=True),
    Stage("register", stages.register, takes=("run", "lease", "train", "seal", "prove"), retried=True),
    Stage("promote", stages.promote_if_proven, takes=("run", "lease", "train", "seal", "register", "prove"), retried=True),
)

Call = Callable[[Stage, Sequence[Record]], Record]
After = Callable[[str, Any], None]


def silent(_name: str, _record: Record) -> None:
    """For `after`: nobody is told."""


def in_process(backends: Backends) -> Call:
    """The engine of one machine: a stage is a function call, tried again where that may help."""

    def call(stage: Stage, records: Sequence[Record]) -> Record:
        if not stage.retried:
            return stage.execute(records, backends)
        waits = wait_chain(*map(wait_fixed, RETRY_DELAYS_S))
        tries = Retrying(
            retry=retry_if_exception_type(PASSING), stop=stop_after_attempt(1 + len(RETRY_DELAYS_S)), wait=waits, reraise=True
        )
        return tries(stage.execute, records, backends)

    return call


def run_stages(records: dict[str, Any], names: Sequence[str], call: Call, after: After = silent) -> None:
    """Run the named stages, in their order. `records` holds the run and what ran before, by name; theirs are added."""
    for stage in STAGES:
        if stage.name in names:
            records[stage.name] = call(stage, [records[name] for name in stage.takes])
            after(stage.name, records[stage.name])


def produce(run: Run, backends: Backends, call: Call, after: After = silent) -> Produced:
    """Take a run through all stages to its release, whatever its gates say. Raises Conflict where the model is being produced."""
    records: dict[str, Any] = {"run": run}
    with lease(run.brief.name, backends) as records["lease"]:
        put_run(run, backends)
        after("run", run)
        run_stages(records, [stage.name for stage in STAGES], call, after)
    produced: Produced = records["promote"]
    return produced


def put_run(run: Run, backends: Backends) -> None:
    """Leave the inputs of a run in the store, for who goes on with it by its name; the first to write them counts."""
    backends.workspace.read_or_make(record_key(run, "run"), Run, lambda: run)


def run_stage(name: str, reference: str, backends: Backends, call: Call) -> Record:
    """Run one stage of the run MODEL/KEY alone, with what the stages before it left in the store; returns its record.

    Raises InputError for a stage or a run that is not known, and for one whose stages before it have not run.
    """
    stage = next((each for each in STAGES if each.name == name), None)
    if stage is None:
        raise InputError(f"stage {name}", allowed=", ".join(each.name for each in STAGES))
    model, _, key = reference.partition("/")
    run = backends.workspace.read(store_keys.run_record(model, key, "run"), Run) if RUN_NAME.fullmatch(reference) else None
    if run is None:
        raise InputError(f"--run {reference}: no such run in {backends.store.uri}", allowed="MODEL/KEY, as `produce` shows it")
    if run.genwright != package_version():
        what = f"--run {reference}: of genwright {run.genwright}, and this is {package_version()}"
        raise InputError(what, do="produce it again, or run that version")
    if run.key("seal") != key:
        raise InputError(f"--run {reference}: the run there has the key {run.key('seal')}", do="produce it again")
    device = run.student.device if run.student and name == "train" else run.facts.device
    check_device(run.facts.model_copy(update={"device": device}))
    with lease(model, backends) as held:
        records: dict[str, Any] = {"run": run, "lease": held}
        for before in stage.takes:
            if before not in records:
                records[before] = _recorded(before, run, records, backends)
        return call(stage, [records[each] for each in stage.takes])


RECORDED: dict[str, type[Record]] = {"train": Trained, "export": Exported, "prove": Proof, "seal": StoredBundle}


def _recorded(name: str, run: Run, records: dict[str, Any], backends: Backends) -> Record:
    """What a stage left; a registration, which leaves no record of its own, is asked for again and finds what is there."""
    if name == "register":
        proof = _recorded("prove", run, records, backends)
        return stages.register(run, records["lease"], records["train"], records["seal"], proof, backends)  # type: ignore[arg-type]
    beside = None
    if name in ("prove", "seal"):
        beside = run.student.teacher.bundle_sha256 if run.student else existing.rival_of(run, backends)
    found = backends.workspace.read(record_key(run, name, beside=beside), RECORDED[name])  # type: ignore[arg-type]
    if found is None:
        raise InputError(f"{run.brief.name}: its stage {name} has not run yet", do=f"genwright stage {name} first")
    return found


def unchanged(run: Run, backends: Backends) -> tuple[Produced, str] | None:
    """What an earlier run with the same inputs produced, and one line that says so; None where there is work to do."""
    known = existing.find_existing_result(run, backends)
    if known is None:
        return None
    existing.begin(run, backends)
    return known, existing.nothing_to_do(run, known)
