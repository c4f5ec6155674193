"""Models made elsewhere as bases: from diffusers' folder to a release and back, and what is refused before time is spent."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import made_elsewhere
import numpy as np
import pytest
import yaml
from elsewhere import run_elsewhere
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

from components.core.files import sha256_of
from components.pipeline import existing, platforms, proof, release_commands, resolve
from components.pipeline.descendants import adapters_of
from components.pipeline.loaded_model import load_model
from components.registry.mlflow_store import connect
from components.runtime.session import opened
from components.training.checkpoint import restore

if TYPE_CHECKING:
    from roads import Command

STEPS = 5  # a graph of more than four is a loop; diffusers counts back by whole ratios, so they divide 1,000
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
NONCOMMERCIAL = "---\nlicense: cc-by-nc-4.0\n---\n"
# Plain diffusers, in a process without genwright: what it makes of a noise, its pipeline's own loop for each item.
PLAIN = """
import sys
import numpy as np, torch
from diffusers import DDIMPipeline

folder, noises, to, steps, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
pipeline, given = DDIMPipeline.from_pretrained(folder), np.load(noises)
x = torch.from_numpy(given["noise"])
said = {}
pipeline.scheduler = pipeline.scheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True)
pipeline.scheduler.set_timesteps(int(steps))
with torch.no_grad():
    said["network"] = pipeline.unet(x, torch.tensor(500)).sample
    for t in pipeline.scheduler.timesteps:
        x = pipeline.scheduler.step(pipeline.unet(x, t).sample, t, x, use_clipped_model_output=True).prev_sample
np.savez(to, network=said["network"].numpy(), images=x.clamp(-1, 1).numpy())
assert "components" not in sys.modules
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that diffusers' own classes trained for seconds, on digits."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    raw, scheduler = load_digits(), DDPMScheduler()
    images = (raw.images * 255 / 16).round().astype(np.uint8)[..., None]
    net = made_elsewhere.train(made_elsewhere.network(), scheduler, images, steps=60)
    return made_elsewhere.write_folder(tmp_path_factory.mktemp("trained") / "base", net=net, scheduler=scheduler)


@pytest.fixture
def road(first: Any, trained: Path, tmp_path: Path) -> Any:
    made = first.road.beside(tmp_path / "road")
    shutil.copytree(trained, made.folder / "base")
    return made


def brief(road: Any, **changes: Any) -> Any:
    known = {"name": "tuned", "pretrained": {"model": str(road.folder / "base"), "in_domain": True}}
    return road.brief(**known | {"override": {"mode": "finetune", "config": {"steps": STEPS, "lr_peak": 1e-3}}} | changes)


def plain(folder: Path, noise: np.ndarray[Any, Any], at: Path) -> Any:
    """What plain diffusers makes of a noise, on as many threads as this process has: last bits depend on their number."""
    import torch

    np.savez(at / "noise.npz", noise=noise)
    run_elsewhere(PLAIN, folder, at / "noise.npz", at / "said.npz", str(STEPS), str(torch.get_num_threads()), folder=at)
    return np.load(at / "said.npz")


def graph_of(bundle: Path, noise: np.ndarray[Any, Any]) -> Any:
    """What the served graph makes of it."""
    (images,) = opened(bundle / "model.onnx", threads=1).run(None, {"noise": noise})
    return images


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for delivery in proof.SAMPLES:  # the numbers of a proof are not at stake here
        monkeypatch.setitem(proof.SAMPLES, delivery, 64)


@pytest.mark.slow
def test_a_folder_of_diffusers_is_fine_tuned_released_and_written_back(road: Any, tmp_path: Path) -> None:
    """Plain diffusers, without genwright, says the same of what was written, bit by bit, and draws the served graph's images."""
    import torch

    backends, noise = road.backends(), np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32)
    made = road.produce_here(brief(road))
    assert made.promoted
    run = resolve.resolve(brief(road), backends)
    assert existing.find_existing_result(run, backends) is not None, "unchanged: nothing is trained"
    decision, lineage = run.decision, made.bundle.bundle.lineage
    assert (decision.family, decision.variant, decision.mode) == ("diffusion", "ddpm", "finetune")
    digest = sha256_of(road.folder / "base" / WEIGHTS)
    assert lineage.base is None
    assert lineage.foreign is not None
    assert lineage.foreign.weights is not None
    assert lineage.foreign.weights.sha256 == digest != lineage.checkpoint_sha256
    name = lineage.foreign.name
    assert name.startswith("base@")
    assert str(road.folder) not in made.bundle.bundle.model_dump_json(), "no path of this machine"
    mlflow = connect(backends.settings.mlflow_uri)
    params = mlflow.get_run(made.release.run_id).data.params
    assert (params["base"], params["base_sha256"], params["base_licence"]) == (name, digest, "apache-2.0")
    tags = mlflow.get_model_version("tuned", "1").tags
    assert (tags["base"], tags["base_licence"]) == (name, "apache-2.0")
    assert f"{name}, a DDPMPipeline made elsewhere" in backends.workspace.open(made.page).read_text()
    assert name in mlflow.get_registered_model("tuned").description

    files = platforms.write_deployment("tuned", backends, form="diffusers", to=tmp_path / "out")
    folder = tmp_path / "out" / "tuned"
    assert {path.relative_to(folder).as_posix() for path in files} == {
        "README.md", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json", WEIGHTS,
    }  # fmt: skip
    assert "license: apache-2.0" in (folder / "README.md").read_text()
    logged = Path(mlflow.get_model_version("tuned", "1").source.removeprefix("file://")) / "pipeline"
    assert sha256_of(logged / WEIGHTS) == sha256_of(folder / WEIGHTS), "MLflow's users have the same"
    assert made.bundle.sha256[:12] in (logged / "README.md").read_text()
    said = plain(folder, noise, tmp_path)
    family = load_model("tuned", backends).family
    with torch.no_grad():
        ours = family.denoiser.net(torch.from_numpy(noise), torch.tensor(500), return_dict=False)[0].numpy()
    assert np.array_equal(said["network"], ours)
    bundle, _ = release_commands.bundle_of(made.release, backends)
    assert np.abs(said["images"] - graph_of(bundle, noise)).max() < 1e-4

    again = resolve.resolve(brief(road, name="again", pretrained={"model": str(folder), "in_domain": True}), backends)
    assert again.base is not None
    assert again.base.foreign is not None
    assert (again.base.foreign.made_as, again.base.foreign.item.side) == ("DDIMPipeline", 8), "a base again"


ADAPTED = """
import sys
import numpy as np, torch
from diffusers import UNet2DModel
from peft import PeftModel

base, adapter, at, to = sys.argv[1:]
network = UNet2DModel.from_pretrained(base, subfolder="unet", use_safetensors=True)
network = PeftModel.from_pretrained(network, adapter).eval()
with torch.no_grad():
    said = network(torch.from_numpy(np.load(at)["noise"]), torch.tensor(500)).sample
np.savez(to, network=said.numpy())
assert "components" not in sys.modules
"""


@pytest.mark.nightly
def test_a_folder_is_adapted_by_lora_and_the_adapter_loads_beside_it_in_peft(road: Any, tmp_path: Path) -> None:
    import torch

    backends, noise = road.backends(), np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32)
    made = road.produce_here(brief(road, name="adapted", override={"mode": "lora", "config": {"steps": STEPS, "lr_peak": 1e-3}}))
    assert made.promoted
    bundle, _ = release_commands.bundle_of(made.release, backends)
    np.savez(tmp_path / "noise.npz", noise=noise)
    run_elsewhere(ADAPTED, road.folder / "base", bundle, tmp_path / "noise.npz", tmp_path / "said.npz", folder=tmp_path)
    said = np.load(tmp_path / "said.npz")["network"]
    with torch.no_grad():
        x, t = torch.from_numpy(noise), torch.tensor(500)
        ours = load_model("adapted", backends).family.denoiser.net(x, t, return_dict=False)[0].numpy()
        run = resolve.resolve(brief(road), backends)
        assert run.base is not None
        plain_base = restore(run.base.checkpoint, road.folder / "base" / WEIGHTS).denoiser.net(x, t, return_dict=False)[0].numpy()
    assert np.abs(said - ours).max() < 1e-5 < np.abs(plain_base - ours).max()
    source = connect(backends.settings.mlflow_uri).get_model_version("adapted", str(made.release.version)).source
    logged = Path(source.removeprefix("file://"))
    flavour = yaml.safe_load((logged / "MLmodel").read_text())["flavors"]["diffusers"]
    assert flavour["base_model"] == run.base.name == run.base.foreign.name
    adapter = logged / flavour["adapter_weights"] / flavour["weight_name"]
    assert sha256_of(adapter) == sha256_of(bundle / "adapter_model.safetensors")


@pytest.mark.nightly
def test_a_folder_is_released_as_it_is_and_is_a_base_by_its_name(road: Any, tmp_path: Path) -> None:
    """Its weights are the published file, nothing is trained, and what is fine-tuned from the release has the licence, too."""
    backends, noise = road.backends(), np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32)
    made = road.produce_here(brief(road, name="plain", override={"mode": "unchanged", "config": {"steps": STEPS}}))
    assert made.promoted
    lineage = made.bundle.bundle.lineage
    assert lineage.checkpoint_sha256 == sha256_of(road.folder / "base" / WEIGHTS)
    assert made.train_s == 0
    assert connect(backends.settings.mlflow_uri).get_run(made.release.run_id).info.status == "FINISHED"
    bundle, _ = release_commands.bundle_of(made.release, backends)
    assert np.abs(plain(road.folder / "base", noise, tmp_path)["images"] - graph_of(bundle, noise)).max() < 1e-4
    tuned = road.produce_here(brief(road, pretrained={"model": "models:/plain@champion", "in_domain": True}))
    assert tuned.bundle.bundle.lineage.base == made.bundle.sha256
    assert tuned.bundle.bundle.lineage.foreign == lineage.foreign


@pytest.mark.nightly
def test_adapters_of_a_folder_are_listed_and_combined(road: Any) -> None:
    """By the digest of the published weights; what comes of it has the folder's licence, and can be added again."""
    backends, config = road.backends(), {"steps": STEPS, "lr_peak": 1e-3}
    road.produce_here(brief(road, name="adapted", override={"mode": "lora", "config": config}))
    given = {"model": str(road.folder / "base"), "in_domain": True}
    half = brief(road, name="half", pretrained=given | {"adapters": {"models:/adapted/1": 0.5}}, override={"mode": "combine"})
    made = road.produce_here(half)
    lineage = made.bundle.bundle.lineage
    assert lineage.base is None
    assert lineage.foreign is not None
    assert lineage.base_weights == sha256_of(road.folder / "base" / WEIGHTS)
    twice = brief(road, name="twice", pretrained=given | {"adapters": {"models:/half/1": 2.0}}, override={"mode": "combine"})
    road.produce_here(twice)
    whole, again = (load_model(name, backends).family.state_dict() for name in ("adapted", "twice"))
    assert all(np.allclose(value, again[name], atol=1e-6) for name, value in whole.items())
    found = adapters_of(lineage.foreign.name.partition("@")[0], backends)
    assert [(each.model, each.mode, each.stale) for each in found] == [
        ("adapted", "lora", None), ("half", "combine", None), ("twice", "combine", None),
    ]  # fmt: skip
    assert [each.model for each in adapters_of(lineage.foreign.name, backends)] == ["adapted", "half", "twice"]


@pytest.mark.nightly
def test_the_command_imports_a_folder_by_class(road: Any, tmp_path: Path) -> None:
    """By its own classes; what its gates then say is the exit code."""
    net = made_elsewhere.network(num_class_embeds=10)
    made_elsewhere.write_folder(road.folder / "by-class", net=net, card=NONCOMMERCIAL)
    ran = road.cli("import", "by-class", "--as", "classes", "--data", "data/digits", "--device", "cpu", "--json")
    assert ran.returncode in (0, 3), ran.stderr
    told = json.loads(ran.stdout)
    assert told["train_s"] == 0
    assert len(told["bundle"]["bundle"]["spec"]["condition"]["classes"]) == 10
    assert told["bundle"]["bundle"]["lineage"]["foreign"]["licence"]["terms"] == "noncommercial"
    refused = road.cli("import", "by-class", "--as", "classes", "--data", "data/digits", "--use", "commercial")
    assert refused.returncode == 2
    assert "forbids commercial use" in refused.stderr


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["dit", "ldm"])
def test_a_pipeline_of_codes_is_released_and_adapted_and_written_back(road: Any, tmp_path: Path, kind: str) -> None:
    """Random weights: what the gates say of them is not at stake."""
    write = made_elsewhere.write_transformer if kind == "dit" else made_elsewhere.write_codes
    folder, asked = write(road.folder / kind), "class" if kind == "dit" else "none"
    known = {"pretrained": {"model": str(folder), "in_domain": True}, "conditioning": asked}
    config = {"steps": STEPS} | ({"guidance": 2.0} if kind == "dit" else {})
    backends = road.backends()
    for mode in ("unchanged", "finetune", "lora"):
        made = road.produce_here(brief(road, name=mode, override={"mode": mode, "config": config}, **known))
        lineage = made.bundle.bundle.lineage
        assert lineage.foreign is not None
        assert lineage.foreign.weights is not None
        assert (lineage.checkpoint_sha256 == lineage.foreign.weights.sha256) is (mode == "unchanged")
        assert made.bundle.bundle.variant == kind
    files = platforms.write_deployment("lora", backends, form="diffusers", to=tmp_path / "out")
    names = {path.relative_to(tmp_path / "out" / "lora").parts[0] for path in files}
    parts = {"transformer", "vae"} if kind == "dit" else {"unet", "vqvae"}
    assert names == {"README.md", "model_index.json", "scheduler", *parts}
    card = (tmp_path / "out" / "lora" / "README.md").read_text()
    assert f"import {'DiTPipeline' if kind == 'dit' else 'LDMPipeline'}" in card
    again = resolve.resolve(
        brief(road, name="again", **known | {"pretrained": {"model": str(tmp_path / "out" / "lora")}}), backends
    )
    assert again.base is not None
    assert again.base.checkpoint.variant == kind


BRIEF: dict[str, Any] = {
    "name": "tuned",
    "modality": "image",
    "data": {"path": "nowhere", "items": 900, "side": 8},
    "compute": {"items_seen": 1000, "device": "cpu"},
    "pretrained": {"model": "base", "in_domain": True},
    "override": {"mode": "finetune"},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_elsewhere.write_folder(tmp_path_factory.mktemp("small") / "base")


@pytest.fixture
def base(small: Path, cli: "Command") -> Path:
    """A copy beside the brief, to be changed."""
    return made_elsewhere.copied(small, Path("base"))


def written(**changes: Any) -> Path:
    path = Path("brief.yaml")
    path.write_text(yaml.safe_dump({name: value for name, value in (BRIEF | changes).items() if value is not None}))
    return path


def test_a_plan_says_what_the_folder_is(cli: "Command", base: Path) -> None:
    decision = cli("plan", written(), "--json").json()
    assert (decision["family"], decision["variant"], decision["mode"]) == ("diffusion", "ddpm", "finetune")
    said = [reason["text"] for reason in decision["reasons"] if reason["rule"].startswith("pretrained.")]
    assert "a DDPMPipeline of 8x8x1, here diffusion/ddpm; licence apache-2.0 by its README.md" in said[0]
    assert len(decision["refusals"]) == 1, "but for the data"
    assert "nowhere: not a prepared dataset" in decision["refusals"][0]
    assert not [each for each in decision["warnings"] if each["code"].startswith("licence")]


def test_a_plan_says_what_a_pipeline_of_codes_is(cli: "Command") -> None:
    made_elsewhere.write_transformer(Path("base"))
    decision = cli("plan", written(conditioning="class"), "--json").json()
    assert (decision["family"], decision["variant"], decision["mode"]) == ("diffusion", "dit", "finetune")
    said = [reason["text"] for reason in decision["reasons"] if reason["rule"].startswith("pretrained.")]
    assert "a DiTPipeline of 8x8x1, 10 classes, here diffusion/dit; licence apache-2.0 by its README.md" in said[0]
    cli("produce", written()).refused(2, "conditioning: none given", "trained with conditioning: class")
    cli("produce", written(conditioning="class", data={"path": "x", "items": 900, "side": 4})).refused(2, "makes items of 8x8x1")
    cli("produce", written(modality="audio")).refused(2, "base is diffusion/dit", "only a model of audio can draw audio")


@pytest.mark.parametrize(
    ("card", "use", "code"),
    [
        ("", None, "licence-unknown"),
        ("---\nlicense: creativeml-openrail-m\n---\n", "commercial", "licence-use-based"),
        (NONCOMMERCIAL, None, "licence-noncommercial"),
        (NONCOMMERCIAL, "research", None),
    ],
)
def test_a_plan_warns_of_a_licence(cli: "Command", base: Path, card: str, use: str | None, code: str | None) -> None:
    (base / "README.md").write_text(card)
    for mode in ("finetune", "unchanged"):
        decision = cli("plan", written(use=use, override={"mode": mode}), "--json").json()
        assert [each["code"] for each in decision["warnings"] if each["code"].startswith("licence")] == ([code] if code else [])


def test_a_plan_of_nothing_trained_says_so(cli: "Command", base: Path) -> None:
    decision = cli("plan", written(override={"mode": "unchanged"}), "--json").json()
    assert decision["budget"]["text"] == "nothing: the base is released as it is"
    assert decision["estimate"]["training_s"]["value"] == 0


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"data": {"path": "x", "items": 900, "side": 16}}, ("makes items of 8x8x1", "data.side is 16")),
        ({"conditioning": "class"}, ("conditioning: class given", "trained with conditioning: none")),
        ({"conditioning": "text"}, ("conditioning: text given", "is diffusion/ddpm, which is not asked by that", "none, class")),
        ({"modality": "audio"}, ("base is diffusion/ddpm", "only a model of audio can draw audio")),
        ({"override": {"mode": "finetune", "variant": "edm"}}, ("variant: edm given", "diffusion/ddpm", "allowed: ddpm")),
        ({"override": {"mode": "finetune", "family": "vae"}}, ("mode: finetune is impossible", "not a vae")),
        ({"override": {"mode": "unchanged", "family": "vae"}}, ("mode: unchanged is impossible", "not a vae")),
        ({"override": {"mode": "unchanged"}, "pretrained": None}, ("no pretrained model is given", "allowed: scratch")),
        ({"pretrained": {"model": "base", "family": "gan"}}, ("family: gan given", "base is a diffusion model")),
        ({"pretrained": {"model": "base/unet"}}, ("is a UNet2DModel without a scheduler", "nothing here begins with it")),
        ({"pretrained": {"model": "hf:base"}}, ("hf:base is no hub id",)),
        ({"use": "fun"}, ("use", "commercial", "research")),
        ({"override": {"mode": "finetune", "config": {"width": 16}}}, ("override.config: width", "another network")),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_before_time_is_spent(
    cli: "Command", base: Path, changes: dict[str, Any], names: tuple[str, ...]
) -> None:
    """By `produce` with exit code 2; a plan says the same, or ends likewise where the brief itself is wrong."""
    path = written(**changes)
    planned = cli("plan", path, "--json")
    if planned.code == 0:
        refusals = planned.json()["refusals"]
        assert [name for name in names if name not in refusals[0]] == [], refusals
    else:
        planned.refused(2, *names)
    cli("produce", path).refused(2, *names)
    assert [*Path(".genwright").rglob("*")] == []


def test_weights_that_are_not_finite_are_refused_by_name(cli: "Command", base: Path) -> None:
    """Before data is fetched, as all else that is wrong with a base."""
    break_a_weight(base)
    said = ("unet/diffusion_pytorch_model.safetensors: conv_in.weight holds 2 of 288 numbers that are NaN or infinite",)
    cli("produce", written(data={"path": "x", "items": 900, "side": 8})).refused(2, *said)
    assert [*Path(".genwright").rglob("*")] == []


def test_settings_that_change_what_the_weights_mean_are_warned_of_or_refused(cli: "Command", base: Path) -> None:
    """Trained to, they may be meant; of a base that is released as it is they cannot be."""
    config = {"prediction": "v", "steps": 20, "lr_peak": 1e-3, "schedule": "linear"}
    plan = cli("plan", written(override={"mode": "finetune", "config": config}), "--json").json()
    (warning,) = [each for each in plan["warnings"] if each["code"] == "base-means-otherwise"]
    assert "override.config has prediction: v, and the weights of base@" in warning["text"]
    assert "were trained with prediction: epsilon" in warning["text"]
    quiet = cli("plan", written(override={"mode": "finetune", "config": config | {"prediction": "epsilon"}}), "--json").json()
    assert not [each for each in quiet["warnings"] if each["code"] == "base-means-otherwise"]
    refused = ("override.config: prediction: v given", "unchanged does not train them to it; allowed: prediction: epsilon")
    cli("produce", written(override={"mode": "unchanged", "config": config})).refused(2, *refused)


@pytest.mark.parametrize(("config", "passes"), [({}, 50), ({"steps": 20}, 20), ({"steps": 7, "solver": "heun"}, 13)])
def test_a_plan_counts_the_steps_of_the_brief(cli: "Command", base: Path, config: dict[str, Any], passes: int) -> None:
    plan = cli("plan", written(override={"mode": "finetune", "config": config}), "--json").json()
    assert plan["estimate"]["latency_ms"]["basis"].startswith(f"{passes} passes x")


def damage_header(base: Path) -> None:
    (base / WEIGHTS).write_bytes((base / WEIGHTS).read_bytes()[:-4])


def make_pickle(base: Path) -> None:
    (base / WEIGHTS).rename(base / "unet" / "diffusion_pytorch_model.bin")


def break_a_weight(base: Path) -> None:
    weights = load_file(base / WEIGHTS)
    weights["conv_in.weight"][0, 0, 0, :2] = float("nan")
    weights["conv_out.bias"][0] = float("inf")
    save_file(weights, base / WEIGHTS)


def forbid(base: Path) -> None:
    (base / "README.md").write_text(NONCOMMERCIAL)


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (damage_header, ("diffusion_pytorch_model.safetensors is damaged or cut short", "fetch it again")),
        (make_pickle, ("are a pickle (diffusion_pytorch_model.bin)", "allowed: safetensors")),
        (
            lambda base: (base / "LICENSE").write_text("Attribution-NonCommercial 4.0 International\n"),
            ("licence apache-2.0 (README.md)", "'Attribution-NonCommercial 4.0 International' in its LICENSE", "use: research"),
        ),
        (forbid, ("licence cc-by-nc-4.0", "forbids commercial use", "use: research")),
    ],
)
def test_a_folder_that_cannot_be_a_base_is_refused(cli: "Command", base: Path, damage: Any, names: tuple[str, ...]) -> None:
    damage(base)
    path = written(use="commercial")
    cli("produce", path).refused(2, *names)
    planned = cli("plan", path, "--json")
    assert planned.code == 2 or any(names[0] in line for line in planned.json()["refusals"])
    mirror = Path("mirror") / "org" / "small"
    shutil.copytree(base, mirror)
    told = written(use="commercial", pretrained={"model": "hf:org/small", "in_domain": True})
    cli("produce", told, GENWRIGHT_HUB_MIRROR="mirror").refused(2, *names)


def test_weights_of_another_network_are_refused_before_data_is_fetched(cli: "Command", base: Path) -> None:
    config = base / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"layers_per_block": 2}))
    cli("produce", written()).refused(2, "pretrained.model: base", "lacks", "of its network")


def test_import_is_refused_in_one_line(cli: "Command", base: Path) -> None:
    cli("import", "nowhere", "--as", "x", "--data", "d").refused(2, "there is no folder")
    cli("import", "base", "--as", "No Name", "--data", "d").refused(2, "name", "lower-case letters")
    cli("import", "base", "--as", "x", "--data", "d", "--use", "fun").refused(2, "use", "commercial")
    cli("import", "base", "--as", "x", "--data", "d").refused(2, "d: not a prepared dataset")
    cli("import", "models:/none@champion", "--as", "x", "--data", "d").refused(2, "models:/none@champion", "nothing was produced")
    cli("import", "base").refused(2, "--as")
