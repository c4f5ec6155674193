"""A brief as a Kubeflow pipeline: what a cluster is given, and that a brief makes the same model through KFP as without."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from elsewhere import run_elsewhere
from roads import bundles_of

from components.pipeline.needs import gpus_of, steps_of
from components.pipeline.order import STAGES

if TYPE_CHECKING:
    from roads import Command

BRIEF = """\
name: digits
modality: image
data: {path: data/digits, repo: "https://example.org/team/data", items: 1797, side: 8}
compute: {minutes: 5, workers: 2, device: DEVICE}
"""


@pytest.fixture
def compiled(cli: "Command", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `kubeflow compile` writes for a device: the pipeline, and what is of the platform."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-ours")

    def compile_(device: str, *options: str) -> tuple[dict[str, Any], dict[str, Any]]:
        (brief := tmp_path / "brief.yaml").write_text(BRIEF.replace("DEVICE", device))
        said = cli("kubeflow", "compile", brief, "--image", "registry.example/genwright:1", "--to", tmp_path / "p.yaml", *options)
        assert said.code == 0, said.err
        text = (tmp_path / "p.yaml").read_text()
        assert "a-secret-of-ours" not in text
        pipeline, platform = yaml.safe_load_all(text)
        return pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    return compile_


def test_a_pipeline_has_the_stages_in_their_order_with_what_each_needs(compiled: Any) -> None:
    pipeline, platform = compiled("auto", "--node-selector", "pool=gpu", "--toleration", "nvidia.com/gpu")
    (tasks,) = [_tasks(each) for each in pipeline["components"].values() if "carry-out" in _tasks(each)]
    groups, before = steps_of("cuda", 2), list[str]()
    assert [[stage.name for stage in stages] for stages in groups] == [
        ["train"], ["export"], ["prove", "seal"], ["register", "promote"],
    ]  # fmt: skip
    assert len(tasks) == len(groups)
    for stages in groups:
        title = ", ".join(stage.name for stage in stages)
        ((name, task),) = [each for each in tasks.items() if each[1]["taskInfo"]["name"] == title]
        given = task["inputs"]["parameters"]
        ends = [given[each]["runtimeValue"]["constant"] for each in ("first", "last")]
        assert ends == [stages[0].name, stages[-1].name]
        assert task.get("dependentTasks", []) == before[-1:]
        assert task.get("cachingOptions", {}) == {}
        before.append(name)
        label = pipeline["components"][task["componentRef"]["name"]]["executorLabel"]
        container = pipeline["deploymentSpec"]["executors"][label]["container"]
        wanted = {"training": 2, "serving": 1, None: 0}[stages[0].device]
        assert int(container.get("resources", {}).get("accelerator", {}).get("resourceCount", 0)) == wanted, title
        assert container["image"] == "registry.example/genwright:1"
        assert ("retryPolicy" in task) == any(stage.device or stage.retried for stage in stages)
        own = platform[label]
        assert {each["secretName"] for each in own["secretAsEnv"]} == {"genwright"}
        assert ("nodeSelector" in own, "tolerations" in own, "emptyDirMounts" in own) == (bool(wanted),) * 3


@pytest.mark.parametrize(("device", "workers"), [("cpu", 1), ("auto", 2), ("cuda", 1), ("cuda", 4)])
def test_each_stage_is_in_one_step_with_those_alone_that_need_the_same(device: str, workers: int) -> None:
    groups = steps_of(device, workers)
    assert [stage for stages in groups for stage in stages] == [*STAGES]
    assert all(len({gpus_of(stage, device, workers) for stage in stages}) == 1 for stages in groups)
    assert [len(stages) for stages in groups if any(stage.device == "training" for stage in stages)] == [1]
    assert len(groups) == (4 if device == "cuda" else 2)


@pytest.mark.slow
def test_kfp_alone_takes_it_into_a_pipeline_of_somebody_elses(cli: "Command", tmp_path: Path) -> None:
    """In a process without genwright."""
    (brief := tmp_path / "brief.yaml").write_text(BRIEF.replace("DEVICE", "cuda"))
    assert cli("kubeflow", "compile", brief, "--image", "registry.example/genwright:1", "--to", tmp_path / "p.yaml").code == 0
    program = """
import sys, yaml
from kfp import compiler, components, dsl

ours = components.load_component_from_file(sys.argv[1])

@dsl.pipeline(name="theirs")
def theirs():
    ours().set_display_name("a model")

compiler.Compiler().compile(theirs, "theirs.yaml")
first, *_ = yaml.safe_load_all(open("theirs.yaml"))
print(*sorted(each["container"]["image"] for each in first["deploymentSpec"]["executors"].values()))
"""
    assert set(run_elsewhere(program, tmp_path / "p.yaml", folder=tmp_path).split()) == {"registry.example/genwright:1"}


def test_a_brief_for_processors_asks_for_no_accelerator(compiled: Any) -> None:
    pipeline, platform = compiled("cpu")
    assert "accelerator" not in str(pipeline["deploymentSpec"])
    assert not any("emptyDirMounts" in each for each in platform.values())


def test_data_in_a_folder_goes_by_the_address_that_its_clone_came_from(cli: "Command", tmp_path: Path) -> None:
    (brief := tmp_path / "brief.yaml").write_text(BRIEF.replace("https://example.org/team/data", ".").replace("DEVICE", "cpu"))
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    cli("kubeflow", "compile", brief).refused(2, "has no git remote, so no worker can clone it")
    remote = ["git", "-C", str(tmp_path), "remote"]
    for wrong, line in (("https://me:secret@example.org/ours", "has a password in it"), ("../ours", "a folder that no pod sees")):
        subprocess.run([*remote, "add", "origin", wrong], check=True)
        assert "secret" not in cli("kubeflow", "compile", brief).refused(2, line)
        subprocess.run([*remote, "remove", "origin"], check=True)
    subprocess.run([*remote, "add", "origin", "https://example.org/ours"], check=True)
    assert cli("kubeflow", "compile", brief, "--to", tmp_path / "p.yaml").code == 0
    assert '"repo":"https://example.org/ours"' in (tmp_path / "p.yaml").read_text()


def test_data_as_it_lies_in_a_folder_is_refused(cli: "Command", tmp_path: Path) -> None:
    text = BRIEF.replace("DEVICE", "cpu").replace("items: 1797", "rev: workspace, items: 1797")
    (brief := tmp_path / "brief.yaml").write_text(text)
    cli("kubeflow", "compile", brief).refused(2, "data.rev: workspace is a folder as it lies here", "HEAD, a tag or a commit")


def test_what_is_no_label_and_a_host_that_is_not_there_are_said_in_a_line(cli: "Command", tmp_path: Path) -> None:
    (brief := tmp_path / "brief.yaml").write_text(BRIEF.replace("DEVICE", "cpu"))
    cli("kubeflow", "compile", brief, "--node-selector", "gpu").refused(2, "--node-selector gpu", "LABEL=VALUE")
    cli("kubeflow", "submit", brief, "--host", "http://127.0.0.1:9").refused(1, "http://127.0.0.1:9: the pipeline was not taken")


@pytest.mark.slow
def test_one_brief_makes_the_same_bundle_through_kfp(first: Any, tmp_path: Path) -> None:
    """Its digest: decision, weights, graph, scores, samples. tests/flows/test_engines.py asks the same of more briefs."""
    home = first.road.new_home(tmp_path / "home")
    ran = first.road.cli("kubeflow", "run-local", "brief.yaml", GENWRIGHT_HOME=str(home))
    assert (ran.returncode, ran.stdout) == (0, "Promoted: digits version 1 was produced and promoted\n"), ran.stdout + ran.stderr
    assert bundles_of(home) == bundles_of(first.left)


@pytest.mark.nightly
def test_an_unchanged_brief_and_a_refused_one_end_as_without_kfp(first: Any, tmp_path: Path) -> None:
    """A gate's no is its exit code, with a pipeline that succeeded."""
    road, brief = _beside(first, tmp_path)
    assert road.cli("produce", str(brief)).returncode == 0
    again = road.cli("kubeflow", "run-local", str(brief))
    assert again.stdout.startswith("Unchanged: nothing to do: "), again.stdout + again.stderr
    strict = road.write(first.road.brief(gates={"distance_ratio_max": 0.001}))
    refused = road.cli("kubeflow", "run-local", str(strict))
    assert (refused.returncode, refused.stdout) == (3, ""), refused.stdout + refused.stderr
    assert "stays a candidate: distance_ratio_max fail" in refused.stderr.splitlines()[-1]
    broken = road.cli("kubeflow", "run-local", str(road.write(first.road.brief(data={"path": "nowhere"}))))
    assert (broken.returncode, broken.stdout) == (1, "")
    assert broken.stderr.splitlines()[-1].startswith(
        "genwright: kubeflow run-local: Pipeline 'digits' finished with status FAILURE"
    )
    assert "nowhere: not a prepared dataset" in broken.stderr


def _beside(first: Any, folder: Path) -> tuple[Any, Path]:
    """A new home for the first production's brief and data."""
    road = first.road.beside(folder / "road")
    return road, road.write(first.road.brief(data={"path": "data/digits", "repo": str(first.road.folder)}))


def _tasks(component: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = component.get("dag", {}).get("tasks", {})
    return found
