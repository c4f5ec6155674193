"""What other platforms deploy a release from: read back by their own readers where there are any here."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
import yaml
from typer.main import get_command

from components.core.bundles import address_of, read_bundle
from components.delivery.container import requirements, write_container
from components.delivery.kserve import write_kserve
from components.delivery.triton import write_triton
from components.runtime.prompts import Prompts
from flows.cli.app import app


@pytest.fixture
def folder(build: Callable[..., Path]) -> Path:
    return build(classes=True)


def test_a_triton_repository_holds_the_graph_and_its_contract(folder: Path, tmp_path: Path) -> None:
    bundle = read_bundle(folder)
    config, graph = write_triton(folder, bundle, version=3, to=tmp_path)
    assert (config, graph) == (tmp_path / "digits" / "config.pbtxt", tmp_path / "digits" / "3" / "model.onnx")
    session = onnxruntime.InferenceSession(graph)
    assert [node.name for node in session.get_inputs()] == ["z", "label"]
    text = config.read_text()
    assert '{ name: "z" data_type: TYPE_FP32 dims: [ 16 ] }' in text
    assert '{ name: "label" data_type: TYPE_INT64 dims: [ 1 ] reshape: { shape: [ ] } }' in text
    assert '{ name: "x" data_type: TYPE_FP32 dims: [ 1, 8, 8 ] }' in text


def test_a_kserve_service_follows_the_channel_of_its_store(folder: Path, tmp_path: Path) -> None:
    sha256 = address_of(folder)
    (path,) = write_kserve(
        read_bundle(folder), sha256=sha256, version=3, store="s3://models", image="registry/genwright:1", to=tmp_path
    )
    service = yaml.safe_load(path.read_text())
    assert (service["kind"], service["metadata"]["name"]) == ("InferenceService", "digits")
    assert service["metadata"]["annotations"]["genwright/bundle-sha256"] == sha256
    (container,) = service["spec"]["predictor"]["containers"]
    command, *arguments = container["args"]
    assert command == "serve"
    given = get_command(app).commands[command].make_context(command, arguments).params  # the image's entry point is genwright
    assert (given["references"], given["host"], given["port"], given["log"]) == (["digits"], "0.0.0.0", 8080, "json")
    assert {"name": "GENWRIGHT_STORE", "value": "s3://models"} in container["env"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": 8080}


def test_a_container_holds_all_that_its_server_imports(folder: Path, tmp_path: Path) -> None:
    """Run as the image would, from the folder that is copied into it: the rest of genwright is out of sight."""
    root = write_container(folder, read_bundle(folder), sha256=address_of(folder), version=3, to=tmp_path)[0].parent
    code = (
        "import sys; sys.path[:] = [path for path in sys.path if not path.endswith(sys.argv[1])];"
        "from pathlib import Path; import components; assert Path(components.__file__).is_relative_to(Path.cwd());"
        "import components.serving.__main__ as server; from components.serving.engine import Engine;"
        "Engine.load(Path('bundle'));"
        "from importlib.metadata import packages_distributions; of = packages_distributions();"
        "print(*sorted({name for module in [*sys.modules] for name in of.get(module.partition('.')[0], [])}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parents[2])], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pinned = {line.partition("==")[0] for line in (root / "requirements.txt").read_text().splitlines()}
    loaded = {name.lower().replace("_", "-") for name in done.stdout.split()}
    optional = {"genwright", "onnxruntime-gpu", "setuptools", "pip", "sniffio"}  # anyio's, where it is there
    assert loaded - pinned <= optional, "it imports what the image does not hold"
    assert "COPY bundle bundle" in (root / "Dockerfile").read_text()


def test_a_container_serves_those_who_have_its_token(folder: Path, tmp_path: Path) -> None:
    root = write_container(folder, read_bundle(folder), sha256=address_of(folder), version=3, to=tmp_path)[0].parent
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", (root / "Dockerfile").read_text(), re.MULTILINE)
    command = [sys.executable, *json.loads(entry)[1:], "--port", "0", "--log", "text", "--deadline-s", "30", "--queue", "64"]
    environment = os.environ | {"GENWRIGHT_TOKEN": "sesame"}
    with subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            port = re.search(r"http://\S+:(\d+)", process.stderr.readline())
            assert port
            asked = {"url": f"http://127.0.0.1:{port[1]}/v2/models/digits", "trust_env": False, "timeout": 60}
            assert httpx.get(**asked).status_code == 401
            assert httpx.get(**asked, headers={"Authorization": "Bearer sesame"}).json()["versions"] == ["3"]
        finally:
            process.terminate()
        assert process.wait(60) == 0


def test_a_container_pins_all_that_is_needed_and_no_more() -> None:
    pinned = dict(line.split("==") for line in requirements())
    assert pinned["numpy"] == np.__version__
    assert {"onnxruntime", "starlette", "uvicorn", "pydantic-core", "anyio"} <= pinned.keys()
    assert not {"torch", "mlflow", "prefect", "onnxruntime-gpu", "boto3"} & pinned.keys()


@pytest.fixture(params=[False, True], ids=["wanted", "and unwanted"])
def worded(request: pytest.FixtureRequest, build_text: Callable[..., Path]) -> Path:
    return build_text(negative=request.param)


def test_a_triton_repository_of_a_bundle_that_reads_words_is_an_ensemble(worded: Path, tmp_path: Path) -> None:
    bundle = read_bundle(worded)
    negative = bundle.spec.condition.negative
    config, tokenizer, *parts = write_triton(worded, bundle, version=3, to=tmp_path)
    assert config == tmp_path / "digits" / "config.pbtxt"
    assert (tmp_path / "digits" / "3").is_dir()
    assert tokenizer.read_bytes() == (worded / "tokenizer.json").read_bytes()
    assert {path.parents[1].name for path in parts if path.suffix == ".onnx"} == {
        "digits_text_encoder",
        "digits_condition",
        "digits_sampler",
    }
    for part, sealed in (("text_encoder", "text_encoder.onnx"), ("sampler", "model.onnx")):
        assert (tmp_path / f"digits_{part}" / "3" / "model.onnx").read_bytes() == (worded / sealed).read_bytes()
    said = config.read_text()
    assert '\nplatform: "ensemble"\n' in said
    assert '{ name: "tokens" data_type: TYPE_INT64 dims: [ 8 ] }' in said
    assert said.count('model_name: "digits_text_encoder"') == 1 + negative


def test_the_graph_between_them_makes_what_the_server_makes(worded: Path, tmp_path: Path) -> None:
    write_triton(worded, read_bundle(worded), version=3, to=tmp_path)
    encoder = Prompts.open(worded)
    asked = {"": ["a red cat", "", "the moon"], "negative_": ["red", "two dogs", ""]}
    graph = onnxruntime.InferenceSession(tmp_path / "digits_condition" / "3" / "model.onnx")
    sides = [side for side in asked if f"{side}tokens" in {node.name for node in graph.get_inputs()}]
    bare = onnxruntime.InferenceSession(tmp_path / "digits_text_encoder" / "3" / "model.onnx")
    feeds = {f"{side}tokens": encoder.tokens(asked[side]) for side in sides}
    for side in sides:
        tokens = feeds[f"{side}tokens"]
        padded = (tokens == encoder.pad)[..., None].astype(np.float32)  # which other encoders make something of
        feeds[f"{side}embedding"] = bare.run(None, {"tokens": tokens})[0] + padded
    (made,) = graph.run(None, feeds)
    wanted = [encoder(asked[side]) for side in sides]
    np.testing.assert_allclose(made, np.stack(wanted, axis=1) if len(sides) == 2 else wanted[0], atol=1e-6)
    assert not made.reshape(3, len(sides), -1)[1, 0].any(), "what says nothing asks for nothing in particular"


def test_a_container_of_a_bundle_that_reads_words_holds_a_tokenizer(build_text: Callable[..., Path], tmp_path: Path) -> None:
    worded = build_text()
    root = write_container(worded, read_bundle(worded), sha256=address_of(worded), version=3, to=tmp_path)[0].parent
    assert (root / "bundle" / "tokenizer.json").exists()
    pinned = {line.partition("==")[0] for line in (root / "requirements.txt").read_text().splitlines()}
    assert "tokenizers" in pinned
    assert "tokenizers" not in {line.partition("==")[0] for line in requirements()}


def test_a_kserve_service_is_the_same_for_a_bundle_that_reads_words(worded: Path, folder: Path, tmp_path: Path) -> None:
    """The server in it is ours, and the follower of a channel fetches whatever a bundle holds."""
    written = [
        write_kserve(read_bundle(each), sha256="0" * 64, version=3, store="s3://models", image="i", to=tmp_path / name)[
            0
        ].read_text()
        for name, each in (("words", worded), ("classes", folder))
    ]
    assert written[0] == written[1]
