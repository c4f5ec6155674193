"""The same calls against a real MLflow server, as a team has it, by MLflow's own client and by the light one."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import mlflow_server

from components.core.errors import RegistryError, UnknownModel
from components.delivery.bundles import put_bundle
from components.registry.mlflow_store import MISSING, code_of, connect, translated
from components.registry.owner import ENDED_BY, PID, left_running, reap
from components.registry.release import promote
from components.registry.rest import RestClient
from components.registry.steps import Registry
from components.registry.tracking import MlflowTracker, start_run
from components.registry.versions import BUNDLE, Versions

HEAVY = ("mlflow", "torch", "pandas", "numpy", "prefect", "sqlalchemy", "matplotlib", "onnx", "onnxruntime", "boto3")
COMMAND = """
import sys
from flows.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
sys.stderr.write(" ".join(each for each in {heavy!r} if each in sys.modules))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(template: Path, files: Path) -> Iterator[str]:
    with mlflow_server(files, f"sqlite:///{shutil.copy(template, files / 'mlflow.db')}", str(files / "artifacts")) as address:
        yield address


@pytest.mark.slow
def test_the_whole_registry_over_http(server: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = start_run(server, experiment="digits", name="run", tags={}, artifact_root=None)
    with MlflowTracker(server, run_id) as tracker:
        tracker.params({"lr": 0.1})
        tracker.metrics({"loss": 1.0}, step=0)
        tracker.image("samples", np.zeros((4, 4, 1), np.uint8), step=0)
        assert reap(server) == ()
    run = connect(server).get_run(run_id)
    assert (run.info.status, run.data.params, run.data.metrics["loss"]) == ("FINISHED", {"lr": "0.1"}, 1.0)
    assert any(path.name == "00000000.png" for path in (files / "artifacts").rglob("*.png"))
    versions = Versions(server)
    for number, uri in enumerate(("s3://bundles/a", (tmp_path / "bundles").as_uri(), str(tmp_path)), start=1):
        for _ in range(2):
            assert versions.register("digits", sha256=f"{number:064x}", uri=uri, run_id=run_id).version == number
        assert connect(server).get_model_version("digits", str(number)).tags["bundle_uri"] == uri
    versions.set_alias("digits", "champion", 2)
    assert versions.resolve("digits").version == 2
    for reference in ("nobody", "digits/9", "it's", ""):
        with pytest.raises(UnknownModel):
            versions.resolve(reference)
    with pytest.raises(UnknownModel, match="digits/9: no such version"):
        versions.set_alias("digits", "champion", 9)
    versions.drop_alias("digits", "champion")
    versions.drop_alias("digits", "champion")
    nowhere = (tmp_path / "another" / "mlartifacts").as_uri()  # as versions before this one made them
    connect(server).create_experiment("older", artifact_location=nowhere)
    with pytest.raises(RegistryError, match="another/mlartifacts, a folder of another machine; rename the brief"):
        start_run(server, experiment="older", name="run", tags={}, artifact_root=None)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def asked(client: Any, name: str, run_id: str, model_id: str, experiment: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The calls that genwright makes of a light client, refused ones among them."""
    yield "none yet", lambda: client.get_registered_model(name)
    yield "made", lambda: client.create_registered_model(name)
    yield "made again", lambda: client.create_registered_model(name)
    yield "no name", lambda: client.get_registered_model("")
    yield "found", lambda: client.get_registered_model(name)
    for number, described in (("1", ""), ("2", "ü & 'quoted' #?=")):
        own: dict[str, Any] = {"tags": {BUNDLE: number * 64, "of": described}, "description": described, "model_id": None}
        yield f"version {number}", partial(client.create_model_version, name, "s3://bundles/a", run_id, **own)
    yield "no model", lambda: client.create_model_version("nobody", "s3://a", run_id, tags={}, description="", model_id=None)
    yield "a version", lambda: client.get_model_version(name, "2")
    yield "no version", lambda: client.get_model_version(name, "9")
    yield "no number", lambda: client.get_model_version(name, "nine")
    yield "alias", lambda: client.set_registered_model_alias(name, "champion", "1")
    yield "alias moved", lambda: client.set_registered_model_alias(name, "champion", "2")
    yield "alias of none", lambda: client.set_registered_model_alias(name, "champion", "9")
    yield "with alias", lambda: client.get_registered_model(name)
    yield "all aliases", lambda: [each.aliases for each in client.search_registered_models() if each.name == name]
    yield "alias gone", lambda: client.delete_registered_model_alias(name, "champion")
    yield "alias gone again", lambda: client.delete_registered_model_alias(name, "champion")
    yield "page", lambda: client.update_registered_model(name, "# Page\n\nof ü")
    yield "page of none", lambda: client.update_registered_model("nobody", "page")
    yield "first page", lambda: client.search_model_versions(f"name = '{name}'", max_results=1)
    token = client.search_model_versions(f"name = '{name}'", max_results=1).token
    yield "second page", lambda: client.search_model_versions(f"name = '{name}'", max_results=1, page_token=token)
    yield "by tag", lambda: client.search_model_versions(f"name = '{name}' and tags.{BUNDLE} = '{'2' * 64}'")
    yield "by how a tag begins", lambda: client.search_model_versions(f"name = '{name}' and tags.{BUNDLE} LIKE '22%'")
    yield "wrong question", lambda: client.search_model_versions("nonsense")
    yield "models", lambda: [each.name for each in client.search_registered_models(max_results=1000) if each.name == name]
    yield "prompt", lambda: client.get_registered_model("a-prompt")
    yield "without prompts", lambda: [each for each in client.search_registered_models() if each.name == "a-prompt"]
    yield "removed", lambda: client.delete_model_version(name, "2")
    yield "removed again", lambda: client.delete_model_version(name, "2")
    yield "run", lambda: client.get_run(run_id)
    yield "no run", lambda: client.get_run("0" * 32)
    yield "tag", lambda: client.set_tag(run_id, "by", name)
    running = "attributes.status = 'RUNNING' and tags.`by` = '" + name + "'"
    yield "runs", lambda: client.search_runs([experiment], running)
    yield "runs, wrongly", lambda: client.search_runs([experiment], "nonsense")
    yield "experiments", lambda: [each.experiment_id for each in client.search_experiments(filter_string="name = 'digits'")]
    yield "all experiments", lambda: sorted(each.experiment_id for each in client.search_experiments())
    yield "ended", lambda: client.set_terminated(run_id, status="KILLED")
    yield "as it ended", lambda: client.get_run(run_id)
    yield "logged model", lambda: client.get_logged_model(model_id)
    yield "its tags", lambda: client.set_logged_model_tags(model_id, {"named": "[1]"})
    yield "with its tags", lambda: client.get_logged_model(model_id)
    yield "no logged model", lambda: client.get_logged_model("m-" + "0" * 32)
    yield "gone", lambda: client.delete_registered_model(name)
    yield "gone again", lambda: client.delete_registered_model(name)


def said(reply: Any, like: Any) -> Any:
    """What a reply says of what the light client reads: `like`, its reply to the same."""
    if is_dataclass(like):
        found = {each.name: said(getattr(reply, each.name), getattr(like, each.name)) for each in fields(like)}
        return {name: sorted(each, key=str) if isinstance(each, list) else each for name, each in found.items()}
    if isinstance(like, list | tuple):
        return [said(each, other) for each, other in zip(reply, like, strict=True)]
    return reply or None  # MLflow's client has None, "" and 0 for what is not there


@pytest.mark.slow
def test_both_clients_of_a_server_reply_and_refuse_alike(server: str) -> None:
    from mlflow.entities import Metric

    full, at_ms = connect(server), 1_700_000_000_000
    full.register_prompt("a-prompt", "{{ question }}")
    experiment = full.create_experiment("both")
    heard: dict[str, dict[str, Any]] = {}
    words: dict[str, dict[str, str]] = {}
    for kind, client in {"light": RestClient(server), "full": full}.items():
        run_id = full.create_run(experiment, start_time=at_ms, run_name="night", tags={"brief": "b"}).info.run_id
        full.log_batch(run_id, metrics=[Metric("loss", 0.25, at_ms, 7), Metric("never", float("inf"), at_ms, 0)])
        full.log_param(run_id, "lr", "0.1")
        model_id = full.create_logged_model(experiment, name="x", tags={BUNDLE: "1"}).model_id
        heard[kind], words[kind] = {}, {f"of-{kind}": "NAME", run_id: "RUN", model_id: "MODEL"}
        for what, call in asked(client, f"of-{kind}", run_id, model_id, experiment):
            try:
                with translated(server):
                    heard[kind][what] = call()
            except RegistryError as error:
                heard[kind][what] = f"{code_of(error)}: {error}"
    assert len(heard["light"]) > 40
    assert sum(str(reply).startswith(MISSING) for reply in heard["light"].values()) >= 8
    for what, light in heard["light"].items():
        texts = []
        for kind in heard:
            text = json.dumps(said(heard[kind][what], light), sort_keys=True)
            for word, stands_for in words[kind].items():
                text = text.replace(word, stands_for)
            texts.append(text)
        assert texts[0] == texts[1], what
        assert getattr(light, "token", None) == (getattr(heard["full"][what], "token", None) or None), what


@pytest.mark.slow
def test_a_killed_run_is_ended_over_http(server: str) -> None:
    run_id = start_run(server, experiment="reaped", name="run", tags={}, artifact_root=None)
    assert reap(server, experiment="reaped") == ()
    connect(server).set_tag(run_id, PID, "999999999")
    assert (run_id, "run") in left_running(server)
    assert reap(server, experiment="reaped") == (run_id,)
    run = connect(server).get_run(run_id)
    assert (run.info.status, ENDED_BY in run.data.tags) == ("KILLED", True)


@pytest.mark.slow
def test_commands_on_releases_load_neither_mlflow_nor_what_it_loads(
    server: str, registry: Registry, tmp_path: Path, build: Callable[..., Path]
) -> None:
    versions, store = Versions(server), registry.ledger._store
    over_http = Registry(versions=versions, ledger=registry.ledger, channels=registry.channels)
    for number in (1, 2):
        stored = put_bundle(store, build(max_batch=number, changes={"model": "light"}))
        versions.register("light", sha256=stored.sha256, uri="s3://bundles/a", run_id="")
        promote(over_http, "light", number, who="ada", why="better")
    environment = {"GENWRIGHT_HOME": str(tmp_path / "home"), "GENWRIGHT_STORE": str(tmp_path / "store")}
    environment |= {"GENWRIGHT_TRACKING_URI": server, "PYTHONPATH": str(Path(__file__).parents[2]), "GENWRIGHT_ACTOR": "ada"}
    for command in (("rollback", "light"), ("history", "light"), ("watch", "--once", "light")):
        ran = subprocess.run(
            [sys.executable, "-c", COMMAND.format(heavy=HEAVY), *command],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        known = {"numpy"} if command[0] == "watch" else set()  # its door for webhooks is of components.serving
        assert ran.returncode == 0, (command, ran.stderr)
        assert not {*ran.stderr.split()} - known, (command, ran.stderr)
    assert versions.resolve("light").version == 1
    assert "Version 1 is champion" in str(connect(server).get_registered_model("light").description)
