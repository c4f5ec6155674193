"""Which stages go to the pool with GPUs, what it is asked for, what is said while one waits, and how its end comes back."""

import inspect
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.core import errors
from components.core.brief import Brief, DataBrief
from components.core.errors import GenwrightError, InputError, RunError
from components.pipeline import placement
from components.pipeline.deployments import document, lines, stage_document
from components.pipeline.order import STAGES
from components.pipeline.origins import on_gpus, reachable
from components.pipeline.placement import LOST_MAX, Lost, Pods, is_placed, job_variables, waits_for
from components.pipeline.schedules import Schedule
from flows import schedules
from flows.settings import Settings

NOW = datetime(2026, 11, 30, 3, tzinfo=UTC)
ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GenwrightError)]


def pool(*variables: str, kind: str = "process", paused: bool = False) -> dict[str, Any]:
    known = {"variables": {"properties": {name: {} for name in variables}}}
    return {"name": "genwright-gpu", "type": kind, "is_paused": paused, "base_job_template": known}


def on(run: Any, device: str, workers: int = 1) -> Any:
    compute = run.brief.compute.model_copy(update={"device": device, "workers": workers})
    return run.model_copy(
        update={
            "brief": run.brief.model_copy(update={"compute": compute}),
            "facts": run.facts.model_copy(update={"device": device}),
        }
    )


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: str(stage.name))
def test_what_trains_is_placed_on_any_device_and_what_serves_on_a_gpu(stage: Any, a_run: Any) -> None:
    assert is_placed(stage, on(a_run, "cpu")) == (stage.device == "training")
    assert is_placed(stage, on(a_run, "cuda")) == (stage.device is not None)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: str(stage.name))
def test_a_pool_that_counts_gpus_is_asked_for_those_of_the_brief(stage: Any, a_run: Any) -> None:
    wanted = 0 if stage.device is None else 4 if stage.device == "training" else 1
    assert job_variables(stage, on(a_run, "cuda", workers=4), pool("gpus", "image", kind="kubernetes")) == {"gpus": wanted}
    assert job_variables(stage, on(a_run, "cpu", workers=4), pool("gpus")) == {"gpus": 0}
    assert job_variables(stage, on(a_run, "cuda"), pool("working_dir")) == {}


def test_what_a_cluster_is_told_goes_as_job_variables_and_is_refused_where_a_pool_has_none() -> None:
    pods = Pods("reg/genwright:1", "32Gi", "8Gi", ("pool=gpu", "zone=a"), ("nvidia.com/gpu",))
    known = ("image", "memory", "shared_memory", "node_selector", "tolerations", "gpus")
    assert pods.variables(pool(*known, kind="kubernetes")) == {
        "image": "reg/genwright:1",
        "memory": "32Gi",
        "shared_memory": "8Gi",
        "node_selector": {"pool": "gpu", "zone": "a"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    }
    assert Pods().variables(pool()) == {}
    with pytest.raises(InputError, match="memory: the work pool genwright-gpu, of type process, has no such job variable"):
        Pods(memory="32Gi").variables(pool("env"))
    with pytest.raises(InputError, match="--node-selector gpu; allowed: LABEL=VALUE"):
        Pods(node_selector=("gpu",)).variables(pool(*known))


def test_the_pool_of_the_flow_gets_its_image_and_no_gpu() -> None:
    pods = Pods(image="i", memory="32Gi")
    assert pods.of_flow(pool("image", "gpus"), placed=True) == {"image": "i", "gpus": 0}
    assert pods.of_flow(pool("working_dir"), placed=True) == {}
    assert Pods(image="i").of_flow(pool("image", "gpus"), placed=False) == {"image": "i"}
    with pytest.raises(InputError, match="image: the work pool genwright-gpu, of type process"):
        Pods(image="i").of_flow(pool("working_dir"), placed=False)
    with pytest.raises(InputError, match="options of GPU pods are given and no --gpu-pool"):
        pods.of_flow(pool("image", "memory"), placed=False)


def worker(status: str, ago_s: float) -> dict[str, Any]:
    return {"status": status, "last_heartbeat_time": (NOW - timedelta(seconds=ago_s)).isoformat()}


@pytest.mark.parametrize(
    ("state", "of", "workers", "said"),
    [
        ("SCHEDULED", pool(), [], "no worker of pool genwright-gpu has polled yet; prefect worker start --pool genwright-gpu"),
        (
            "SCHEDULED",
            pool(),
            [worker("OFFLINE", 300), worker("OFFLINE", 90)],
            "no worker of pool genwright-gpu has polled for 90 s",
        ),
        (
            "SCHEDULED",
            pool(),
            [worker("OFFLINE", 90), worker("ONLINE", 2)],
            "it waits for its turn in pool genwright-gpu, 60 s so far",
        ),
        ("SCHEDULED", pool(paused=True), [worker("ONLINE", 2)], "pool genwright-gpu is paused; prefect work-pool resume"),
        ("PENDING", pool(), [worker("ONLINE", 2)], "took it 60 s ago and has not begun it: it may wait for a node"),
    ],
)
def test_one_that_waits_says_for_what(state: str, of: dict[str, Any], workers: list[dict[str, Any]], said: str) -> None:
    assert said in waits_for(state, 60.0, of, workers, NOW)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: str(kind.__name__))
def test_an_error_comes_back_as_it_was(kind: type[GenwrightError]) -> None:
    given = kind("what was given", allowed="what is", do="what to do")
    back = placement.error_of(type(given).__name__, str(given))
    assert (type(back), str(back), back.exit_code) == (kind, str(given), kind.exit_code)


@pytest.mark.parametrize("name", ["Failed", "TimedOut", "Path", "errno", ""])
def test_what_is_no_error_of_ours_failed_while_running(name: str) -> None:
    assert type(placement.error_of(name, "it broke")) is RunError


def test_a_stage_is_begun_again_as_long_as_it_comes_on_between_losses() -> None:
    steps = iter([-1, -1, 10, 10, 20, 20, 20])
    lost = Lost(lambda: next(steps))
    assert [lost.once_more() for _ in range(6)] == [True, True, True, True, True, False]
    never = Lost(lambda: -1)
    assert [never.once_more() for _ in range(LOST_MAX)] == [True] * (LOST_MAX - 1) + [False]


def test_a_student_is_carried_out_as_its_teacher_and_trained_on_what_that_asked_for(a_run: Any) -> None:
    from components.core.records import Release
    from components.pipeline.distil.request import auto_device

    taught = a_run.model_copy(
        update={"student": type("Of", (), {"teacher": Release(model="digits", version=3, bundle_sha256="b", run_id="r")})()}
    )
    renamed = taught.model_copy(update={"brief": taught.brief.model_copy(update={"name": "digits-distilled"})})
    assert placement.deployment_of(renamed) == "digits"
    assert [auto_device(on(a_run, device)) for device in ("cpu", "cuda")] == ["cpu", "cuda"]
    assert auto_device(a_run) == "cuda"  # its brief says auto


SCHEDULE = Schedule(name="digits", brief="briefs/digits.yaml", repository="https://example.org/ours", rev="main", timings=())


def test_a_flow_is_told_of_the_pool_by_its_setting_and_its_line_says_so() -> None:
    asked = document(SCHEDULE, entrypoint="e", pool="genwright", gpu_pool="genwright-gpu", variables={"image": "i"})
    assert asked["job_variables"] == {"image": "i", "env": {"GENWRIGHT_GPU_POOL": "genwright-gpu"}}
    assert [each.gpu_pool for each in lines(asked | {"paused": False}, None)] == ["genwright-gpu"]
    plain = document(SCHEDULE, entrypoint="e", pool="genwright")
    assert plain["job_variables"] == {}
    assert [each.gpu_pool for each in lines(plain | {"paused": False}, None)] == [None]


def test_the_deployment_of_stages_needs_no_clone_and_has_no_schedule() -> None:
    asked = stage_document("digits", entrypoint="flows.stage.stage", pool="genwright-gpu", variables={"memory": "32Gi"})
    assert (asked["name"], asked["work_pool_name"], asked["job_variables"]) == ("digits", "genwright-gpu", {"memory": "32Gi"})
    assert (asked["pull_steps"], asked["schedules"]) == ([], [])
    assert set(asked["tags"]).isdisjoint(document(SCHEDULE, entrypoint="e", pool="p")["tags"])
    (step,) = stage_document("digits", entrypoint="e", pool="p", folder="/srv/ours")["pull_steps"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": "/srv/ours"}}


def test_one_pool_for_both_is_refused_where_a_flow_could_wait_for_itself() -> None:
    with pytest.raises(InputError, match=r"--gpu-pool genwright: is --pool too, .*; allowed: another work pool"):
        schedules.put(SCHEDULE, pool="genwright", gpu_pool="genwright")


@pytest.mark.parametrize(
    ("engine", "server", "pool"),
    [(None, "http://s/api", "p"), ("process", "http://s/api", None), (None, "", None), ("prefect", "", "p")],
)
def test_only_the_engine_that_knows_pools_places_stages(
    engine: str | None, server: str, pool: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server)
    assert Settings(gpu_pool="p", engine=engine).placed_on == pool


BRIEF = {"name": "digits", "modality": "image", "data": {"path": "data/digits"}}


def test_auto_means_the_gpus_of_the_pool() -> None:
    def device(asked: str) -> str:
        return on_gpus(Brief.model_validate(BRIEF | {"compute": {"device": asked}})).compute.device

    assert [device(asked) for asked in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]


def test_data_is_named_by_the_address_that_its_clone_came_from(tmp_path: Path) -> None:
    clone, data = tmp_path / "clone", DataBrief(path="data/digits", rev="v1")
    (clone / "part").mkdir(parents=True)
    assert reachable(data, clone) == data
    subprocess.run(["git", "init", "-q", "-b", "main", clone], check=True)
    assert reachable(data, clone) == data
    subprocess.run(["git", "-C", clone, "remote", "add", "origin", "https://example.org/ours"], check=True)
    assert reachable(data, clone) == DataBrief(path="data/digits", repo="https://example.org/ours", rev="v1")
    own = DataBrief(path="digits", repo="part")
    assert reachable(own, clone) == DataBrief(path="part/digits", repo="https://example.org/ours")
    for as_it_is in (data.model_copy(update={"rev": "workspace"}), data.model_copy(update={"path": str(tmp_path / "far")})):
        assert reachable(as_it_is, clone) == as_it_is
    subprocess.run(["git", "-C", clone, "remote", "set-url", "origin", "../origin.git"], check=True)
    assert reachable(data, clone).repo == (tmp_path / "origin.git").as_uri()
