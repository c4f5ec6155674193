"""A plan priced by a dry run: what it says of time, memory, money and latency, and what becomes of its error."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.core import store_keys
from components.core.errors import InputError
from components.core.records import DryRun, DryTraining, Machine, UsedEvidence
from components.pipeline.backends import Backends
from components.pipeline.dry_run import dry_run, keep_told, known_dry_run, with_dry_run
from components.pipeline.evidence import _dry
from components.pipeline.resolve import resolve
from components.pipeline.training import Tracked
from components.runtime.hardware import machine
from components.runtime.threads import default_threads
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import First

TRAINING = DryTraining(items_seen=1280, steps=10, step_s=2.0, readings=6, reading_s=0.5, fit_s=1.0, encoding_s=1.0, peak_gb=0.8)
FOUND = DryRun(device="cpu", training=TRAINING, latency_ms=4.0, took_s=9.0)


def test_a_training_takes_its_steps_its_readings_and_what_comes_before() -> None:
    assert TRAINING.seconds == 10 * 2.0 + 6 * 0.5 + 1.0 + 1.0
    assert TRAINING.text == "10 steps x 2 s + 6 readings x 0.5 s + 2 s"


def test_a_plan_has_the_figures_of_the_dry_run_and_what_they_are_made_of(a_run: Any, tmp_path: Path) -> None:
    backends = Backends(Settings(home=tmp_path))
    estimate = with_dry_run(a_run, FOUND, backends).estimate
    assert (estimate.training_s.value, estimate.memory_gb.value, estimate.latency_ms.value) == (25.0, 0.8, 4.0)
    assert estimate.training_s.basis == f"measured: a dry run of 9 s on this cpu: {TRAINING.text}"
    assert estimate.cost_usd.value == pytest.approx(25 / 3600 * 0.1, rel=0.01)
    unservable = FOUND.model_copy(update={"latency_ms": None, "refused": "no graph"})
    assert with_dry_run(a_run, unservable, backends).estimate.latency_ms == a_run.decision.estimate.latency_ms


def test_what_earlier_dry_runs_were_wrong_by_corrects_the_next(a_run: Any, tmp_path: Path) -> None:
    used = UsedEvidence(sha256="a" * 64, rows=1, metric="fd", decided=False, dry_factors={"training_s": 0.5, "memory_gb": 1.1})
    run = a_run.model_copy(update={"decision": a_run.decision.model_copy(update={"evidence": used})})
    estimate = with_dry_run(run, FOUND, Backends(Settings(home=tmp_path))).estimate
    assert (estimate.training_s.value, estimate.memory_gb.value, estimate.latency_ms.value) == (12.5, 0.88, 4.0)
    assert estimate.training_s.basis.endswith("times 0.5, as earlier dry runs of this kind were wrong by")


def test_several_processes_are_refused_in_one_line(a_run: Any, tmp_path: Path) -> None:
    compute = a_run.brief.compute.model_copy(update={"workers": 2})
    run = a_run.model_copy(update={"brief": a_run.brief.model_copy(update={"compute": compute})})
    with pytest.raises(InputError, match=r"--measure: compute.workers: 2; allowed: 1"):
        dry_run(run, Backends(Settings(home=tmp_path)))


def test_the_last_dry_run_before_the_training_began_is_kept(a_run: Any, tmp_path: Path) -> None:
    backends = Backends(Settings(home=tmp_path))
    for latency_ms in (4.0, 5.0):
        told = FOUND.model_copy(update={"latency_ms": latency_ms})
        keep_told(a_run, told, backends)
        assert known_dry_run(a_run, backends) == told
    tracked = store_keys.run_record(a_run.brief.name, a_run.key("train"), "tracked")
    backends.store.put_if_absent(tracked, Tracked(run_id="r").canonical())
    keep_told(a_run, FOUND, backends)
    assert known_dry_run(a_run, backends) == told, "one that is told later foretells nothing"


def test_a_row_has_what_the_clock_of_a_dry_run_said_on_the_same_machine_alone() -> None:
    here = Machine(training="Xeon, 2 threads", drawing="Xeon, 4 threads")
    told = FOUND.model_copy(update={"machine": here})
    assert _dry(told, on=here) == {"training_s": TRAINING.seconds, "memory_gb": 0.8, "latency_ms": 4.0} == _dry(told)
    assert _dry(told, on=Machine(training="Celeron, 2 threads", drawing="Celeron, 4 threads")) == {"memory_gb": 0.8}


@pytest.mark.slow
def test_a_dry_run_of_real_digits_measures_every_figure_and_is_found_again(first: "First", tmp_path: Path) -> None:
    road = first.road.beside(tmp_path / "road")
    backends = road.backends()
    run = resolve(road.brief(), backends)
    found = dry_run(run, backends)
    assert found.training.items_seen == 4000
    assert found.training.steps == -(-4000 // 64)
    assert 0 < found.training.seconds < 600
    assert 0.1 < found.training.peak_gb < 4
    assert found.latency_ms is not None
    assert found.machine == Machine(
        training=machine("cpu", threads=run.brief.compute.threads or default_threads()), drawing=machine("cpu")
    )
    assert known_dry_run(run, backends) == found
