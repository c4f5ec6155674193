"""A plan's estimate by a dry run: time, memory, money and latency after export, from seconds on this device, before anything is
spent. What it said stands in the store, so that the production of the same training shows it beside what it came to."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from components.core import store_keys
from components.core.errors import Conflict, InputError, TrainingFailed
from components.core.files import write_whole
from components.core.records import Decision, DryRun, Estimate, Figure
from components.pipeline.backends import Backends
from components.pipeline.dry_worker import RESULT, DryOrder
from components.pipeline.encoders import embeddings_of
from components.pipeline.local_data import data_of
from components.pipeline.run import Run
from components.pipeline.train_plan import start_of, train_plan
from components.pipeline.training import has_begun
from components.policy.estimate import rounded
from components.policy.tables import load_tables
from components.runtime.progress import stage
from components.training.folder import WHY
from components.training.start import find_start

SPREAD = {"memory_gb": 1.15, "latency_ms": 1.25}  # times: by what such figures may differ; benchmarks/dry_runs.py measures it


def dry_run(run: Run, backends: Backends) -> DryRun:
    """Measure, in a process of its own, and leave the record. Raises InputError for what trains nothing or in several processes,
    TrainingFailed where it does not go."""
    if not find_start(run.decision.mode).learns:
        raise InputError(f"{run.brief.name}: --measure: {run.decision.mode} trains nothing")
    if run.brief.compute.workers > 1:
        raise InputError(f"{run.brief.name}: --measure: compute.workers: {run.brief.compute.workers}", allowed="1: one process")
    data, extractors = data_of(run, backends), backends.home.extractor(run.dataset.md5)
    start, embeddings = start_of(run, backends), embeddings_of(run, data, backends)
    with stage("Dry run", about_s=20.0, basis="estimated"), backends.workspace.scratch() as folder:
        (folder / "train").mkdir()
        order = DryOrder(
            plan=train_plan(run, folder, "dry-run", data=data, start=start, embeddings=embeddings),
            extractor=str(extractors) if extractors.is_dir() else "",
            tracking_uri=backends.settings.mlflow_uri,
            device=run.facts.device,
            levels=run.brief.serving.output == "uint8",
            precision=run.brief.serving.precision,
        )
        write_whole(folder / "order.json", order.canonical(), private=True)  # a tracking URI may hold a password
        found = _measured(folder)
    keep_told(run, found, backends)
    return found


def keep_told(run: Run, found: DryRun, backends: Backends) -> None:
    """The last one that was told before the training began stands beside what that came to; one told later foretells nothing."""
    if has_begun(run, backends):
        return
    with suppress(Conflict):  # another one is told at the same time
        backends.workspace.write(key_of(run), found)


def _measured(folder: Path) -> DryRun:
    command = [sys.executable, "-m", "components.pipeline.dry_worker", str(folder / "order.json")]
    ended = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    if ended.returncode:
        why = folder / WHY
        said = why.read_text(encoding="utf-8") if why.exists() else (ended.stderr.strip().splitlines() or ["no word of why"])[-1]
        raise TrainingFailed(f"the dry run ended before it had measured anything: {said}")
    return DryRun.read(folder / RESULT)


def key_of(run: Run) -> str:
    """Where the store has the dry run of a training."""
    return store_keys.run_record(run.brief.name, run.key("train"), "dry-run")


def known_dry_run(run: Run, backends: Backends) -> DryRun | None:
    """What a dry run of this training said, if there was one."""
    return backends.workspace.read(key_of(run), DryRun)


def with_dry_run(run: Run, found: DryRun, backends: Backends) -> Decision:
    """The decision, its figures by what was measured, times what earlier dry runs of the same kind were wrong by."""
    settings, facts, decision = backends.settings, run.facts, run.decision
    costs = load_tables(settings.policy).estimate
    factors = decision.evidence.dry_factors if decision.evidence else {}
    training = found.training
    granted = decision.budget.lowest() if decision.budget else None
    seconds = training.seconds * factors.get("training_s", 1.0)
    seconds = min(seconds, granted.seconds) if granted else seconds
    price = settings.usd_per_gpu_hour if facts.device == "cuda" else costs.usd_per_cpu_hour
    said = f"measured: a dry run of {found.took_s:.0f} s on this {found.device}"
    estimate = Estimate(
        training_s=Figure(value=rounded(seconds), unit="s", basis=f"{said}: {training.text}{_times(factors, 'training_s')}"),
        memory_gb=_figure("memory_gb", training.peak_gb, "GB", f"{said}: the most that it held", factors),
        cost_usd=Figure(
            value=rounded(seconds / 3600 * price), unit="USD", basis=f"{seconds / 3600:.3g} h at {price:g} USD an hour"
        ),
        latency_ms=decision.estimate.latency_ms,
        parameters_m=decision.estimate.parameters_m,
    )
    if found.latency_ms is not None:
        text = f"{said}: one item of the exported graph, p95"
        estimate = estimate.model_copy(update={"latency_ms": _figure("latency_ms", found.latency_ms, "ms", text, factors)})
    return decision.model_copy(update={"estimate": estimate})


def _figure(name: str, value: float, unit: str, basis: str, factors: dict[str, float]) -> Figure:
    value *= factors.get(name, 1.0)
    spread = SPREAD[name]
    return Figure(
        value=rounded(value),
        unit=unit,
        basis=basis + _times(factors, name),
        low=float(f"{value / spread:.2g}"),
        high=float(f"{value * spread:.2g}"),
    )


def _times(factors: dict[str, float], name: str) -> str:
    return f"; times {factors[name]:g}, as earlier dry runs of this kind were wrong by" if name in factors else ""
