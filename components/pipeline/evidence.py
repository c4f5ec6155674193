"""The evidence table: a row of each proof and each rung of a bake-off, in MLflow beside its training and in the store for `plan`.

MLflow has a row as a tag of the run that trained, so that whoever shares the MLflow collects it; the store has all rows in one
object, which a plan reads in milliseconds, and for each decision the rows that it looked at, by their digest. No row has what
only a proof sees, so no choice of a candidate can look at it.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.core import store_keys
from components.core.brief import Brief
from components.core.errors import BriefError, Conflict, GenwrightError, InputError, RunError, SettingsError
from components.core.files import write_whole
from components.core.records import (
    Case,
    Checkpoint,
    Decision,
    DryRun,
    EvidenceRow,
    EvidenceTable,
    Figure,
    GateReport,
    Machine,
    Metric,
    Scorecard,
)
from components.evaluation.definitions import words
from components.pipeline.backends import Backends
from components.pipeline.run import Run, package_version
from components.policy.view import amount
from components.runtime.devices import Device
from components.runtime.hardware import machine
from components.runtime.threads import default_threads
from components.training.start import find_start

if TYPE_CHECKING:
    from components.policy.tables import Tables

NONE = "none"  # of a brief: the tables alone decide
WRITTEN = "a file that `genwright evidence --json FILE` wrote"
ATTEMPTS = 20  # while others write the table, too


def known_evidence(brief: Brief, backends: Backends) -> EvidenceTable:
    """What a decision on a brief looks at: the table as it is, or the rows that the brief names by their digest.

    A table that cannot be read is said on standard error, and is none. Raises BriefError for rows that are not there.
    """
    asked = brief.evidence
    begun = backends.settings.store is not None or backends.named_home.store.is_dir()
    if asked == NONE or (asked is None and not begun):
        return EvidenceTable()
    if asked is None:
        try:
            return table(backends)
        except GenwrightError as error:
            sys.stderr.write(f"genwright: the evidence cannot be read, the tables alone decide: {error}\n")
            return EvidenceTable()
    found = backends.workspace.read(store_keys.evidence(asked), EvidenceTable)
    if found is None:
        what = f"evidence: {asked}: no decision here looked at such rows"
        raise BriefError(what, allowed="the digest that a plan names, or none", do="leave it out to take what is known now")
    return found


def table(backends: Backends) -> EvidenceTable:
    """All rows of the store."""
    return _read(backends.store.get(store_keys.evidence()), backends)


def _read(found: tuple[bytes, str] | None, backends: Backends) -> EvidenceTable:
    """What the store has of the table, as rows."""
    if found is None:
        return EvidenceTable()
    try:
        return EvidenceTable.model_validate_json(found[0])
    except ValueError as error:
        what = f"{backends.store.uri}/{store_keys.evidence()}: not the evidence of this version"
        raise RunError(what, do="move it away, then `genwright evidence` collects what MLflow has") from error


def add(rows: Iterable[EvidenceRow], backends: Backends) -> int:
    """Put rows into the table, without what only a proof sees; how many were new. Of one origin the one that was measured last
    stays, so doing it twice, or in another order, gives the same."""
    new = tuple(row.model_copy(update={"metrics": _seen(row.metrics)}) for row in rows)
    for _ in range(ATTEMPTS):
        found = backends.store.get(store_keys.evidence())
        before = _read(found, backends)
        after = before.with_rows(new)
        if not (more := after.beyond(before)):
            return 0
        with suppress(Conflict):
            backends.store.swap(store_keys.evidence(), after.canonical(), expected=found and found[1])
            return more
    raise Conflict(f"{backends.store.uri}/{store_keys.evidence()}: others keep writing it", do="run the command again")


def keep_used(decision: Decision, looked_at: EvidenceTable, backends: Backends) -> None:
    """Leave the rows that a decision looked at in the store, so that the same can be decided again."""
    used = decision.evidence
    if used is None or not used.cases:
        return
    names = {case.row for case in used.cases}
    rows = EvidenceTable(rows=tuple(row for row in looked_at.rows if row.digest() in names))
    backends.store.put_if_absent(store_keys.evidence(used.sha256), rows.canonical())


def row_of(
    run: Run,
    checkpoint: Checkpoint,
    scorecard: Scorecard,
    backends: Backends,
    *,
    kind: str,
    record: str = "",
    dry: DryRun | None = None,
    gates: GateReport | None = None,
    share: float = 1.0,
) -> EvidenceRow:
    """What a scorecard says of a training, and what that took; asked on the machine that timed the graph. `record`: where the
    store has what a proof was measured for; a rung is told by its kind and samples. Figures have six digits, as MLflow's tag has
    little room."""
    facts, decision = run.facts, run.decision
    factors = decision.evidence.factors if decision.evidence else {}
    expected = {name: getattr(decision.estimate, name).value for name in ("training_s", "memory_gb", "latency_ms")}
    parameters, memory = decision.estimate.parameters_m, checkpoint.memory
    ends, on = ("value", "low", "high"), Machine(training=checkpoint.machine, drawing=machine(facts.device))
    return EvidenceRow(
        family=decision.family,
        variant=checkpoint.variant if decision.mode != "scratch" else decision.variant,
        mode=decision.mode,
        delivery=decision.delivery,
        case=Case(
            modality=facts.modality,
            conditioning=facts.conditioning,
            side=facts.side,
            items=facts.items,
            tier=facts.tier,
            items_seen=checkpoint.items_seen,
            seconds=_short(checkpoint.train_s),
            latency_ms=facts.latency_ms,
            device=facts.device,
        ),
        protocol=scorecard.protocol,
        metrics={
            name: metric.model_copy(update={end: _short(getattr(metric, end)) for end in ends})
            for name, metric in _seen(scorecard.metrics).items()
        },
        verdict=gates.verdict if gates else None,
        share=share,
        seed=run.brief.seed,
        train_s=_short(checkpoint.train_s),
        items_seen=checkpoint.items_seen,
        parameters_m=parameters.value if parameters else None,
        memory_gb=_short(memory.peak_gb) if memory and memory.peak_gb else None,
        expected={name: _short(value / factors.get(name, 1.0)) for name, value in expected.items() if share == 1.0},
        dry=_dry(dry, on=on) if dry and share == 1.0 else {},
        stopped_by=checkpoint.stopped_by,
        collapse=checkpoint.collapse,
        genwright=package_version(),
        model=run.brief.name,
        who=backends.settings.who,
        run_id=checkpoint.run_id,
        kind=kind,
        record=record,
        measured_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        machine=on,
    )


def machine_of(brief: Brief, device: Device) -> Machine:
    """This one, as a production of a brief here would use it."""
    compute = brief.compute
    threads = compute.threads or default_threads(shared_by=compute.workers)
    return Machine(training=machine(device, threads=threads), drawing=machine(device))


def _seen(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics that others than a proof may look at."""
    known = words()
    return {name: each for name, each in metrics.items() if name not in known or not known[name].proof_only}


def check_ranked(tables: "Tables", *, where: str) -> None:
    """Raises SettingsError where a team's tables rank measured cases by what no row has."""
    allowed = [name for name, word in words().items() if not word.proof_only]
    for goal, row in tables.goals.items():
        if row.measured is not None and row.measured not in allowed:
            why = "only a proof sees it, so no choice may look at it" if row.measured in words() else "no metric has this name"
            raise SettingsError(f"{where}: goals.{goal}.measured: {row.measured}: {why}", allowed=", ".join(allowed))


def _dry(found: DryRun, *, on: Machine | None = None) -> dict[str, float]:
    """What a dry run said; `on`: of what a clock measured, only where its machine was alike."""
    told = {"training_s": found.training.seconds, "memory_gb": found.training.peak_gb, "latency_ms": found.latency_ms}
    unlike = {
        "training_s": on is not None and found.machine.training != on.training,
        "latency_ms": on is not None and found.machine.drawing != on.drawing,
    }
    return {name: _short(value) for name, value in told.items() if value and not unlike.get(name)}


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def leave_evidence(row: EvidenceRow, backends: Backends) -> None:
    """Put a row where MLflow has its training, and into the table. What stops it is said: no proof depends on it."""
    from components.registry.evidence import put_row

    try:
        put_row(backends.settings.mlflow_uri, row)
        add([row], backends)
    except GenwrightError as error:
        sys.stderr.write(f"genwright: what was measured is not in the evidence: {error}\n")


def is_evidence(run: Run) -> bool:
    """Whether it says something of a choice: a student learns from a teacher, and some starts learn nothing."""
    return run.student is None and find_start(run.decision.mode).learns


def collect(backends: Backends) -> int:
    """Take what MLflow has and the table has not; how many rows."""
    from components.registry.evidence import rows

    return add(_readable(rows(backends.settings.mlflow_uri), where="MLflow"), backends)


def _readable(texts: Iterable[str], *, where: str) -> list[EvidenceRow]:
    """The rows; how many are of another version, and so left out, is said on standard error."""
    found, others = [], 0
    for text in texts:
        try:
            found.append(EvidenceRow.model_validate_json(text))
        except ValueError:
            others += 1
    if others:
        count = "1 row is" if others == 1 else f"{others} rows are"
        sys.stderr.write(f"genwright: {where}: {count} of another version of genwright, and left out\n")
    return found


def read_file(path: Path) -> list[EvidenceRow]:
    """The rows of a table that `genwright evidence --json` wrote. Raises InputError for what is none."""
    try:
        rows = json.loads(path.read_bytes())["rows"]
        texts = [json.dumps({**row}) for row in rows]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", allowed=WRITTEN) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: holds no table of evidence", allowed=WRITTEN) from error
    return _readable(texts, where=str(path))


def merge(paths: Sequence[Path], backends: Backends) -> int:
    """Add the tables of files; how many rows were new."""
    return add([row for path in paths for row in read_file(path)], backends)


def export(path: Path, backends: Backends) -> EvidenceTable:
    """Write the table to a file: the same rows give the same bytes."""
    found = EvidenceTable().with_rows(table(backends).rows)
    write_whole(path, found.model_dump_json(indent=1).encode() + b"\n")
    return found


def estimated_and_measured(run: Run, checkpoint: Checkpoint, scorecard: Scorecard, dry: DryRun | None = None) -> dict[str, str]:
    """For the page: what the decision estimated, or a dry run where there was one, beside what it came to."""
    estimate, latency = run.decision.estimate, scorecard.metrics.get("latency_p95_ms")
    peak = checkpoint.memory.peak_gb if checkpoint.memory else 0.0
    told = {
        "training": ("training_s", estimate.training_s, checkpoint.train_s),
        "memory": ("memory_gb", estimate.memory_gb, peak),
        "latency p95": ("latency_ms", estimate.latency_ms, latency.value if latency else 0.0),
    }
    measured = _dry(dry) if dry else {}
    rows = []
    for name, (key, figure, actual) in told.items():
        before = f"{_amount(measured[key], figure)} by a dry run" if key in measured else f"{amount(figure)} estimated"
        rows += [f"{name} {before}, {_amount(actual, figure)} measured"] if actual else []
    return {"Estimated and measured": "; ".join(rows)} if rows and is_evidence(run) else {}


def _amount(value: float, like: Figure) -> str:
    return amount(Figure(value=value, unit=like.unit, basis=""))
