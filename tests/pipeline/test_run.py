"""What makes a run another run: the key of each stage, in their one order; and which failures are tried again."""

import inspect
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from components.core.errors import BriefError, Conflict, RegistryError, StorageError
from components.core.record import Record
from components.core.records import Artifact
from components.evaluation import definitions, metrics
from components.pipeline import stages
from components.pipeline.backends import Backends
from components.pipeline.order import KEYED, STAGES, Stage
from components.pipeline.production import in_process
from components.pipeline.run import Trained
from flows.settings import Settings


def test_data_seed_name_and_package_are_trained_anew(a_run: Any) -> None:
    other = [
        a_run.model_copy(update={"genwright": "0.0.0"}),
        a_run.model_copy(update={"dataset": a_run.dataset.model_copy(update={"md5": "f" * 32})}),
        *(
            a_run.model_copy(update={"brief": a_run.brief.model_copy(update=change)})
            for change in ({"seed": 1}, {"conditioning": "class"})
        ),
    ]
    assert len({run.key("train") for run in (a_run, *other)}) == 1 + len(other)
    same = {"dataset": a_run.dataset.model_copy(update={"rev": "0" * 40})}
    assert a_run.model_copy(update=same).key("seal") == a_run.key("seal")  # the same bytes at another commit


def test_every_stage_is_a_function_of_the_records_that_it_takes() -> None:
    assert len({stage.name for stage in STAGES}) == len(STAGES) > 4
    before = {"run", "lease"}
    for stage in STAGES:
        work = getattr(stages, stage.name)
        assert len(inspect.signature(work).parameters) == len(stage.takes) + 1, stage.name
        assert issubclass(get_type_hints(work)["return"], Record)
        assert set(stage.takes) <= before, stage.name
        assert stage.takes[0] == "run"
        before.add(stage.name)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"schedule": {"cron": "0 4 * * 2"}}, 0),
        ({"goal": "quality"}, 0),  # which decided the same here
        ({"serving": {"batch": 3}}, 1),
        ({"gates": {"coverage_min": 0.1}}, 2),
        ({"serving": {"precision": "fp16"}}, 3),
        ({"serving": {"output": "uint8"}}, 3),
        ({"compute": {"workers": 2}}, 4),
        ({"seed": 2}, 4),
    ],
    ids=str,
)
def test_a_change_costs_the_stages_that_depend_on_it(a_run: Any, change: dict[str, Any], again: int) -> None:
    """The last stages are run again, so many of them, and none before."""
    brief = a_run.brief.model_validate(a_run.brief.model_dump(exclude_unset=True) | change)
    changed = a_run.model_copy(update={"brief": brief})
    anew = [changed.key(stage) != a_run.key(stage) for stage in KEYED]
    assert anew == [False] * (4 - again) + [True] * again


def test_a_metric_that_is_added_costs_a_proof_and_none_keeps_the_keys_of_before(
    a_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no gate, so that nothing else of the brief tells of it."""
    before = {stage: a_run.key(stage) for stage in KEYED}
    line = '"""Of nothing."""\nfrom components.core.metrics import Words\nWORDS = (Words("nothing", "Nothing", "of nothing"),)\n'
    (tmp_path / "nothing.py").write_text(line)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
            definitions.forget()
            assert [a_run.key(stage) == before[stage] for stage in KEYED] == [True, True, False, False]
    finally:
        definitions.forget()
    assert {stage: a_run.key(stage) for stage in KEYED} == before
    monkeypatch.setattr("components.pipeline.run.METRICS_AT_FIRST", frozenset(definitions.words()))
    proving = a_run._proving()
    assert set(proving) == {"gates", "latency_ms", "device", "delivery"}  # as it was before metrics were in it


def test_another_network_of_the_proof_costs_a_proof(a_run: Any) -> None:
    """It is named by its bytes: where its file lies, and what it is called, says nothing."""
    one = a_run.model_copy(update={"proof_network": Artifact(name="inception.pt", sha256="a" * 64, size_bytes=9)})
    assert [one.key(stage) == a_run.key(stage) for stage in KEYED] == [True, True, False, False]
    moved = a_run.model_copy(update={"proof_network": Artifact(name="other.pt", sha256="a" * 64, size_bytes=9)})
    assert moved.key("prove") == one.key("prove")


def test_more_looks_cost_a_proof(a_run: Any) -> None:
    brief = a_run.brief.model_copy(update={"proof": a_run.brief.proof.model_copy(update={"looks": 5})})
    often = a_run.model_copy(update={"brief": brief})
    assert [often.key(stage) == a_run.key(stage) for stage in KEYED] == [True, True, False, False]


def test_a_nearer_latency_limit_costs_a_proof(a_run: Any) -> None:
    quicker = a_run.model_copy(update={"facts": a_run.facts.model_copy(update={"latency_ms": 5.0})})
    assert [quicker.key(stage) == a_run.key(stage) for stage in KEYED] == [True, True, False, False]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (StorageError("x"), True),
        (Conflict("x"), True),
        (RegistryError("x"), True),
        (BriefError("x"), False),
    ],
    ids=str,
)
def test_only_what_passes_by_itself_is_tried_again(
    error: Exception, again: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """By the engine of one machine and by Prefect's."""
    from prefect.states import Failed

    from components.pipeline import production
    from flows.tasks import passing

    assert passing(*production.PASSING)(None, None, Failed(data=error)) is again
    monkeypatch.setattr(production, "RETRY_DELAYS_S", (0, 0, 0))
    tries: list[str] = []

    def run(_backends: Backends) -> Trained:
        tries.append("again")
        raise error

    monkeypatch.setattr(stages, "seal", run)
    call = in_process(Backends(Settings(home=tmp_path)))
    for retried, expected in ((True, 4 if again else 1), (False, 1)):
        tries.clear()
        with pytest.raises(type(error)):
            call(Stage("seal", takes=(), retried=retried), [])
        assert len(tries) == expected
