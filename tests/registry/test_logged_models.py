"""What MLflow loads as a release: made once, whole, of the bundle's own graph, and opened where there is no genwright."""

import json
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from elsewhere import load_elsewhere, run_elsewhere
from made_elsewhere import NETWORK, network, write_folder
from safetensors.torch import load_file
from specs import image_data

from components.core.brief import LoraBrief
from components.core.bundles import address_of, read_bundle
from components.core.files import sha256_of
from components.core.records import Metric, StoredBundle
from components.registry.logged_models import LoggedModels, Origin
from components.registry.mlflow_store import connect
from components.registry.onnx_flavour import Adapter, example_of, signature_of
from components.registry.tracking import MlflowTracker
from components.registry.versions import Versions
from components.runtime.session import GraphSampler

FILES = {
    "MLmodel", "model.onnx", "conda.yaml", "python_env.yaml", "requirements.txt",
    "input_example.json", "serving_input_example.json",
}  # fmt: skip
FD = {"value": 2.5, "low": 2.0, "high": 3.0, "n": 100}
CALLS = (
    "get_run", "search_logged_models", "create_logged_model", "log_outputs", "get_metric_history", "log_batch",
    "finalize_logged_model",
)  # fmt: skip

Build = Callable[..., Path]


@pytest.fixture
def stored(build: Build) -> Callable[..., tuple[StoredBundle, Path]]:
    """A small bundle with a metric, as the store has it, and its graph."""

    def make(**options: Any) -> tuple[StoredBundle, Path]:
        card = {"subject": "onnx:0", "device": "cpu", "metrics": {"fd": FD}}
        protocol = dict.fromkeys(("reference_count", "samples", "seed", "bootstrap"), 1)
        protocol |= {"extractor": "e", "extractor_sha256": "0" * 64, "dataset_md5": "0" * 32, "reference_split": "test"}
        folder = build(changes={"scorecard": card | {"protocol": protocol | {"resizer": "none", "level": 0.95}}}, **options)
        return StoredBundle(sha256=address_of(folder), bundle=read_bundle(folder)), folder / "model.onnx"

    return make


@pytest.fixture
def origin(tracking_uri: str, run_id: str) -> Origin:
    """A training that was read twice, proved, and ended."""
    tracker = MlflowTracker(tracking_uri, run_id)
    tracker.params({"config.width": 16, "seed": 0})
    for name, context in (("digits/train", "training"), ("digits/test", "evaluation")):
        tracker.dataset(
            name, digest="a" * 32 + ".dir", source={"uri": "repo@1234:data/digits"}, profile={"items": 5}, context=context
        )
    for step, distance in ((5, 9.0), (7, 3.0), (9, 4.0)):
        tracker.metrics({"train/fd": distance}, step=step)
    tracker.metrics({"proof/fd": FD["value"]}, step=7)
    tracker.finish()
    scores = {"fd": Metric.model_validate(FD)}
    digest = "a" * 32 + ".dir"
    return Origin(run_id=run_id, step=7, trained_on="digits/train", proved_on="digits/test", digest=digest, scores=scores)


@pytest.fixture
def logged_models(tracking_uri: str, tmp_path: Path) -> LoggedModels:
    return LoggedModels(tracking_uri, artifact_root=tmp_path / "artifacts")


def released(
    versions: Versions,
    models: LoggedModels,
    stored: StoredBundle,
    graph: Path,
    origin: Origin,
    adapter: Adapter | None = None,
    write_pipeline: Callable[[Path], object] | None = None,
) -> int:
    """Register it as a production does; the number of its version."""
    log = partial(models.log, stored, graph, origin, tags={"verdict": "pass"}, adapter=adapter, write_pipeline=write_pipeline)
    uri = f"s3://bundles/{stored.sha256}"
    return versions.register("digits", sha256=stored.sha256, uri=uri, run_id=origin.run_id, log=log).version


@pytest.mark.parametrize("options", [{}, {"classes": True}, {"levels": True}], ids=["noise", "classes", "levels"])
def test_signature_and_example_are_the_graphs_own(stored: Any, options: dict[str, Any]) -> None:
    record, path = stored(**options)
    signature = signature_of(record.bundle).to_dict()
    graph = onnx.load(path).graph
    for told, ports in ((signature["inputs"], graph.input), (signature["outputs"], graph.output)):
        found = [(each["name"], each["tensor-spec"]["dtype"], each["tensor-spec"]["shape"]) for each in json.loads(told)]
        assert found == [
            (
                port.name,
                str(onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)),
                [-1, *(size.dim_value for size in port.type.tensor_type.shape.dim[1:])],
            )
            for port in ports
        ]
    assert {name: rows.shape[0] for name, rows in example_of(record.bundle).items()} == {port.name: 1 for port in graph.input}


def test_a_release_is_one_logged_model_of_the_bundles_own_graph(
    tracking_uri: str, versions: Versions, logged_models: LoggedModels, stored: Any, origin: Origin, tmp_path: Path
) -> None:
    record, graph = stored(classes=True)
    for _ in range(2):
        assert released(versions, logged_models, record, graph, origin) == 1
    client = connect(tracking_uri)
    run = client.get_run(origin.run_id)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.name, str(model.status), model.model_type) == ("digits-vae-residual", "READY", "vae")
    assert (model.source_run_id, model.params) == (origin.run_id, {"config.width": "16", "seed": "0"})
    assert model.tags["bundle_sha256"] == record.sha256
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "digits", "version": 1}]
    version = client.get_model_version("digits", "1")
    assert (version.source, version.tags["model_id"]) == (model.artifact_location, model.model_id)
    assert [each.model_id for each in run.outputs.model_outputs] == [model.model_id]
    metrics = {(each.key, each.value, each.step, each.dataset_name, each.dataset_digest) for each in model.metrics}
    digest = "a" * 32 + ".dir"
    assert metrics == {("proof/fd", 2.5, 7, "digits/test", digest), ("train/fd", 3.0, 7, "digits/train", digest)}
    assert len(client.get_metric_history(origin.run_id, "proof/fd")) == 1  # the run's own point, and no second one
    assert len(client.get_metric_history(origin.run_id, "train/fd")) == 3
    kept = tmp_path / "artifacts" / "digits" / "models" / model.model_id / "artifacts"
    assert {path.name for path in kept.iterdir()} == FILES
    assert (kept / "model.onnx").samefile(graph)  # written once


@pytest.mark.parametrize("call", CALLS)
def test_a_registration_that_was_killed_is_finished_by_the_next(
    tracking_uri: str,
    versions: Versions,
    logged_models: LoggedModels,
    stored: Any,
    origin: Origin,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    record, graph = stored()

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(logged_models._client, call, die)
        with pytest.raises(KeyboardInterrupt):
            released(versions, logged_models, record, graph, origin)
    assert versions.releases("digits") == []
    assert released(versions, logged_models, record, graph, origin) == 1
    client = connect(tracking_uri)
    run = client.get_run(origin.run_id)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (str(model.status), len(model.metrics), len(run.outputs.model_outputs)) == ("READY", 2, 1)
    assert len(client.get_metric_history(origin.run_id, "proof/fd")) == 1


def test_a_release_whose_training_mlflow_lost_is_logged_all_the_same(
    tracking_uri: str, versions: Versions, logged_models: LoggedModels, stored: Any, origin: Origin
) -> None:
    client = connect(tracking_uri)
    client.delete_run(origin.run_id)
    record, graph = stored()
    assert released(versions, logged_models, record, graph, origin) == 1
    (model,) = client.search_logged_models([client.get_experiment_by_name("digits").experiment_id])
    assert (str(model.status), model.source_run_id, model.params, model.metrics) == ("READY", None, {}, None)


def test_a_process_without_genwright_loads_the_champion(
    tracking_uri: str, versions: Versions, logged_models: LoggedModels, stored: Any, origin: Origin, tmp_path: Path
) -> None:
    record, graph = stored(classes=True)
    versions.set_alias("digits", "champion", released(versions, logged_models, record, graph, origin))
    told = load_elsewhere(tracking_uri, "models:/digits@champion", tmp_path / "elsewhere")
    assert told["inputs"] == {"z": ["float32", 1, 16], "label": ["int64", 1]}
    assert told["metadata"]["bundle_sha256"] == record.sha256
    assert (told["metadata"]["noise"], told["metadata"]["classes"]) == ({"z": "normal"}, ["zero", "one", "two"])
    assert (told["nodes"], told["run_id"]) == (len(onnx.load(graph).graph.node), origin.run_id)
    own = GraphSampler.of(graph.parent, record.bundle, batch=1).run(dict(example_of(record.bundle)))
    assert np.array_equal(np.asarray(told["made"]["x"], np.float32), own)
    assert sha256_of(graph) == next(file.sha256 for file in record.bundle.files if file.name == "model.onnx")


DRAW = """
import os, sys
uri, noise, to = sys.argv[1:]
os.environ["MLFLOW_TRACKING_URI"], os.environ["HF_HUB_OFFLINE"] = uri, "1"
import mlflow.diffusers, numpy, torch
from diffusers import DDIMScheduler, DiffusionPipeline
from peft import PeftModel
model = mlflow.diffusers.load_model("models:/digits@champion")
pipeline = DiffusionPipeline.from_pretrained(model.base_model, revision=model.base_model_revision)
unet = PeftModel.from_pretrained(pipeline.unet, model.adapter_path).eval()
scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True)
scheduler.set_timesteps(4)
x = torch.from_numpy(numpy.load(noise))
with torch.no_grad():
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t).sample, t, x, use_clipped_model_output=True).prev_sample
numpy.save(to, x.clamp(-1, 1).numpy())
"""


def test_an_adapter_is_of_the_flavour_of_diffusers_beside_that_of_onnx(
    versions: Versions, logged_models: LoggedModels, stored: Any, origin: Origin, tmp_path: Path
) -> None:
    """As mlflow.diffusers reads it, the commit of its base as it was trained on."""
    files = tuple(tmp_path / name for name in ("adapter_config.json", "adapter_model.safetensors"))
    for path in files:
        path.write_bytes(path.name.encode())
    record, graph = stored()
    released(versions, logged_models, record, graph, origin, Adapter(files, "google/ddpm", "1234abcd"))
    (kept,) = (tmp_path / "artifacts" / "digits" / "models").glob("*/artifacts")
    assert {path.name for path in kept.iterdir()} == FILES | {"adapter_weights"}
    assert [(kept / "adapter_weights" / path.name).read_bytes() for path in files] == [path.read_bytes() for path in files]
    told = yaml.safe_load((kept / "MLmodel").read_text())["flavors"]
    assert told.keys() == {"python_function", "onnx", "diffusers"}
    assert told["python_function"]["loader_module"] == "mlflow.onnx"  # which serves the graph, as of every release
    known = {"base_model": "google/ddpm", "base_model_revision": "1234abcd", "adapter_type": "lora"}
    assert {name: told["diffusers"][name] for name in known} == known
    assert names_of(kept / "requirements.txt") == ["mlflow", "onnx", "onnxruntime", "torch", "diffusers", "peft", "safetensors"]


def names_of(requirements: Path) -> list[str]:
    """Each with the version that is here."""
    needs = [tuple(line.split("==")) for line in requirements.read_text().splitlines()]
    own = {name: version(name).partition("+")[0] for name, _ in needs if name != "onnxruntime"}  # which is of several packages
    assert own.items() <= dict(needs).items()
    return [name for name, _ in needs]


WHOLE = """
import os, sys
os.environ["MLFLOW_TRACKING_URI"] = sys.argv[1]
import mlflow
from diffusers import DiffusionPipeline
folder = mlflow.artifacts.download_artifacts("models:/digits@champion/pipeline")
pipeline = DiffusionPipeline.from_pretrained(folder)
pipeline.unet.save_pretrained(sys.argv[2])
print(type(pipeline).__name__)
"""


def test_what_was_fine_tuned_whole_lies_beside_its_graph_as_a_pipeline(
    versions: Versions, logged_models: LoggedModels, stored: Any, origin: Origin, tmp_path: Path
) -> None:
    record, graph = stored()
    released(versions, logged_models, record, graph, origin, write_pipeline=lambda folder: write_folder(folder, net=network()))
    (kept,) = (tmp_path / "artifacts" / "digits" / "models").glob("*/artifacts")
    assert {path.name for path in kept.iterdir()} == FILES | {"pipeline"}
    assert {"model_index.json", "unet", "scheduler"} <= {path.name for path in (kept / "pipeline").iterdir()}
    described = yaml.safe_load((kept / "MLmodel").read_text())
    assert described["flavors"].keys() == {"python_function", "onnx"}, "MLflow's flavour of diffusers is of adapters"
    assert described["metadata"]["pipeline"] == "pipeline"
    assert names_of(kept / "requirements.txt") == ["mlflow", "onnx", "onnxruntime", "torch", "diffusers", "safetensors"]


@pytest.mark.nightly
def test_mlflow_and_diffusers_load_what_was_fine_tuned_whole(
    tracking_uri: str, versions: Versions, logged_models: LoggedModels, stored: Any, origin: Origin, tmp_path: Path
) -> None:
    """Two lines in a process without genwright: the network has the weights that were written."""
    record, graph = stored()
    net = network(block_out_channels=(64, 32))
    number = released(versions, logged_models, record, graph, origin, write_pipeline=lambda to: write_folder(to, net=net))
    versions.set_alias("digits", "champion", number)
    run_elsewhere(WHOLE, tracking_uri, tmp_path / "again", folder=tmp_path)
    loaded = load_file(tmp_path / "again" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, loaded[name]) for name, value in net.state_dict().items())


@pytest.mark.nightly
def test_mlflow_diffusers_draws_what_a_release_by_lora_draws(
    tracking_uri: str, versions: Versions, logged_models: LoggedModels, stored: Any, origin: Origin, tmp_path: Path
) -> None:
    """In a process without genwright: the base from its folder, the adapter from the LoggedModel; without it, other images."""
    from components.families.diffusion.ddpm import DDPM, DDPMConfig
    from components.training.adapter.files import adapter_files
    from components.training.adapter.merging import adapt, lora_config

    net = network()
    base = write_folder(tmp_path / "base", net=net)
    known = {name: list(value) if isinstance(value, tuple) else value for name, value in NETWORK.items()}
    config = DDPMConfig.model_validate({"network": known, "width": 32, "prediction": "epsilon", "schedule": "linear", "steps": 4})
    family = DDPM(config, image_data(channels=1, height=8, width=8))
    family.denoiser.net.load_state_dict(net.state_dict())
    weights = {name: value.clone() for name, value in family.state_dict().items()}
    noise = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = family.eval().sampler()(noise)
    lora = LoraBrief(rank=2, alpha=6)
    described = lora_config(family, lora, base_sha256="0" * 64)
    adapted, rng = adapt(family, lora, base_sha256="0" * 64, seed=1).eval(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, each in adapted.named_parameters():
            if ".lora_" in name:
                each.add_(0.2 * torch.randn(each.shape, generator=rng))
        ours = adapted.sampler()(noise)
    files = []
    for name, content in adapter_files(adapted, described, weights).items():
        files.append(tmp_path / "adapter" / name)
        files[-1].parent.mkdir(exist_ok=True)
        files[-1].write_bytes(content)
    record, graph = stored()
    version = released(versions, logged_models, record, graph, origin, Adapter(tuple(files), str(base)))
    versions.set_alias("digits", "champion", version)
    np.save(tmp_path / "noise.npy", noise.numpy())
    run_elsewhere(DRAW, tracking_uri, tmp_path / "noise.npy", tmp_path / "drawn.npy", folder=tmp_path)
    drawn = torch.from_numpy(np.load(tmp_path / "drawn.npy"))
    assert float((ours - plain).abs().max()) > 0.05
    assert float((drawn - ours).abs().max()) < 1e-5
