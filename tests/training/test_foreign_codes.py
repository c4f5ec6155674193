"""Pipelines that draw codes, as bases: read with their autoencoders, drawn as by diffusers' own classes, tuned, written back."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_elsewhere
import pytest
import torch
from diffusers.pipelines.deprecated.latent_diffusion_uncond.pipeline_latent_diffusion_uncond import LDMPipeline
from diffusers.pipelines.dit.pipeline_dit import DiTPipeline
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor

from components.core.brief import LoraBrief
from components.core.errors import BriefError, DataError, NotBuilt
from components.core.family import Batch, Family
from components.core.records import Checkpoint, ClassCondition, Foreign
from components.export.graph import export_graph
from components.export.parity import check_parity
from components.families import find
from components.modalities.image.spec import ImageSpec
from components.pipeline.pretrained import check_spec, spec_of_foreign
from components.training.adapter.files import adapter_files, check_reloads
from components.training.adapter.merging import adapt, check_merged, lora_config, lora_layers, merged
from components.training.checkpoint import load_weights, restore
from components.training.classes import carried_over
from components.training.distillation import recipe, student_variant
from components.training.foreign.folder import read_folder, weights_of
from components.training.foreign.joined import JOINED
from components.training.foreign.weights import as_one, check_weights
from components.training.start.student import Student

KINDS = ("dit", "dit by one class", "ldm", "ldm of KL")
Write = Any


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each kind, as diffusers writes it."""
    root, made = tmp_path_factory.mktemp("codes"), made_elsewhere
    of_kl = made.network(sample_size=4, in_channels=4, out_channels=4, block_out_channels=(16, 16), num_class_embeds=3)
    return {
        "dit": made.write_transformer(root / "dit"),
        "dit of 1000": made.write_transformer(root / "dit-1000", num_embeds_ada_norm=1000, num_layers=1),
        "dit by one class": made.write_transformer(root / "dit-1", out_channels=4, num_embeds_ada_norm=1, patch_size=1),
        "ldm": made.write_codes(root / "ldm"),
        "ldm of KL": made.write_codes(root / "ldm-kl", net=of_kl, codec=made.autoencoder()),
    }


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Any:
    """A copy, to be changed."""
    return lambda kind: made_elsewhere.copied(folders[kind], tmp_path / "base")


def read(folder: Path) -> Foreign:
    return read_folder(folder, name="base", weights=True)


def checkpoint_of(found: Foreign) -> Checkpoint:
    assert found.weights is not None
    return Checkpoint(
        weights=found.weights, family=found.family, variant=found.variant, config=found.config, spec=spec_of_foreign(found),
        dataset_md5="", run_id="", step=0, steps_total=0, train_s=0, quality=0, stopped_by="",
    )  # fmt: skip


def opened(folder: Path, at: Path) -> Family:
    """What a training would begin with."""
    return restore(checkpoint_of(read(folder)), as_one(weights_of(folder, where=""), at))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def draws(folder: Path, *, steps: int, labels: list[int] | None = None, guidance: float = 1.0) -> Tensor:
    """What diffusers' own pipeline draws of the noise of `normal`, from the last step on and to the image itself, as here."""
    pipeline: Any = (LDMPipeline if labels is None else DiTPipeline).from_pretrained(folder)
    own = pipeline.scheduler.config
    pipeline.scheduler = pipeline.scheduler.from_config(own, timestep_spacing="trailing", set_alpha_to_one=True)
    pipeline.set_progress_bar_config(disable=True)
    told: dict[str, Any] = {"generator": torch.Generator().manual_seed(0), "num_inference_steps": steps, "output_type": "np"}
    told |= {"batch_size": 2} if labels is None else {"class_labels": labels, "guidance_scale": guidance}
    return torch.from_numpy(pipeline(**told).images).permute(0, 3, 1, 2) * 2 - 1


def test_a_folder_says_what_it_is_with_its_autoencoder(folders: dict[str, Path]) -> None:
    found = read(folders["dit"])
    assert (found.family, found.variant, found.made_as) == ("diffusion", "dit", "DiTPipeline")
    assert (found.item, found.classes) == (ImageSpec(channels=1, height=8, width=8), 10), "pixels, not codes"
    assert found.config["learned_variance"]
    assert (found.config["guidance"], found.config["clip"], found.config["width"]) == (4.0, False, 32)
    codes = read(folders["ldm"])
    assert (codes.variant, codes.made_as, codes.classes) == ("ldm", "LDMPipeline", 0)
    assert {*codes.files} >= {"unet/config.json", "vqvae/config.json", "scheduler/scheduler_config.json"}
    assert codes.config["autoencoder"]["_class_name"] == "VQModel"
    assert read(folders["ldm of KL"]).classes == 3


@pytest.mark.parametrize("kind", KINDS)
def test_both_files_are_one_artifact_of_the_published_bytes(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    found, files = read(folders[kind]), weights_of(folders[kind], where="")
    check_weights(checkpoint_of(found), files, where="")
    path = as_one(files, tmp_path)
    assert found.weights is not None
    assert (path.name, found.weights.name) == (JOINED, JOINED)
    assert found.weights.is_at(path), "its digest was known before it was written"
    with safe_open(path, framework="pt") as joined:
        for part, file in files.items():
            with safe_open(file, framework="pt") as own:
                names = own.keys()
                assert names
                assert all(torch.equal(joined.get_tensor(f"{part}.{name}"), own.get_tensor(name)) for name in names)
    assert read(folders[kind]) == found


def test_the_pipelines_of_diffusers_draw_the_same_of_the_same_noise(folders: dict[str, Path], tmp_path: Path) -> None:
    """By the very classes of diffusers. A DiTPipeline takes label 1000 for none, so one of ten classes has no guidance."""
    noise, labels = normal(2, 4, 4, 4), [1, 3]
    (tmp_path / "1000").mkdir()
    for kind, guidance, at in (("dit of 1000", 4.0, tmp_path / "1000"), ("dit", 1.0, tmp_path)):
        family = opened(folders[kind], at)
        if guidance == 1:
            family = _with(family, guidance=1.0)
        with torch.no_grad():
            ours = family.sampler(steps=5)(noise, torch.tensor(labels))
        torch.testing.assert_close(ours, draws(folders[kind], steps=5, labels=labels, guidance=guidance), atol=2e-5, rtol=0)
    with torch.no_grad():
        ours = opened(folders["ldm"], tmp_path).sampler(steps=5)(normal(2, 3, 4, 4))
    torch.testing.assert_close(ours, draws(folders["ldm"], steps=5), atol=2e-5, rtol=0)


def test_a_transformer_is_known_by_its_old_class_too(folder: Any) -> None:
    """As the published ones are stored: before diffusers 0.29 it had the class of many, and more keys."""
    old = folder("dit")
    new = read(old)
    change(old / INDEX, transformer=["diffusers", "Transformer2DModel"], id2label={"0": "tench"})
    more = {"cross_attention_dim": 7, "use_linear_projection": False, "num_vector_embeds": 0, "only_cross_attention": False}
    change(old / NET, _class_name="Transformer2DModel", **more)
    found = read(old)
    assert (found.variant, found.weights) == ("dit", new.weights)
    check_weights(checkpoint_of(found), weights_of(old, where=""), where="")


def _with(family: Family, **config: Any) -> Family:
    """The same weights under another config."""
    made = type(family).build(family.config.model_dump(mode="json") | config, family.spec)
    made.load_state_dict(family.state_dict())
    return made.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_those_of_the_autoencoder(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    family: Any = opened(folders[kind], tmp_path)
    net, x = family.autoencoder.net, normal(2, 1, 8, 8)
    with torch.no_grad():
        theirs = net.encode(x)
        mean = theirs.latents if kind == "ldm" else theirs.latent_dist.mode()
        assert torch.equal(family.encode(x), mean)
        torch.testing.assert_close(family.decode(mean), net.decode(mean).sample.clamp(-1, 1), atol=1e-5, rtol=0)
        codes = family.codes(Batch(x), torch.Generator().manual_seed(0))
    if kind == "ldm":
        torch.testing.assert_close(codes, mean * net.config.scaling_factor)


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_the_network_is_tuned_and_the_autoencoder_rests(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    family = opened(folders[kind], tmp_path).train()
    labels = torch.zeros(4, dtype=torch.int64) if family.spec.conditional else None
    batch = Batch(normal(4, 1, 8, 8), labels, progress=0.0)
    losses = family.losses(batch, torch.Generator().manual_seed(0))
    assert {*losses} == {*family.learning_groups()} == {"prior"}
    losses["prior"].backward()
    learnt = {name for name, each in family.named_parameters() if each.grad is not None}
    assert learnt == {name for name, _ in family.named_parameters() if name.startswith("denoiser.net.")}
    torch.manual_seed(1)
    again = family.losses(batch, torch.Generator().manual_seed(0))["prior"]
    torch.manual_seed(2)
    other = family.losses(batch, torch.Generator().manual_seed(0))["prior"]
    assert torch.equal(again, other), "labels are hidden by the given generator alone, not in each block anew by torch's"


def test_a_transformer_gets_other_classes(folders: dict[str, Path], tmp_path: Path) -> None:
    """A new one begins as the mean of its classes, in every block, and the label of none stays the last."""
    family = opened(folders["dit"], tmp_path)
    asked = ClassCondition(classes=tuple(map(str, range(12))))
    made = type(family)(family.config, family.spec.model_copy(update={"condition": asked}))
    weights, known = carried_over(family.state_dict(), made, family.spec), family.state_dict()
    made.load_state_dict(weights)
    tables = [name for name in weights if name.endswith("embedding_table.weight")]
    assert len(tables) == 2, "one a block"
    for name in tables:
        assert torch.equal(weights[name][:10], known[name][:10])
        assert torch.equal(weights[name][12], known[name][10])
        torch.testing.assert_close(weights[name][10:12], known[name][:10].mean(0).expand(2, -1))


@pytest.mark.parametrize("kind", ["dit", "ldm"])
def test_an_adapter_loads_beside_the_network_in_peft(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """By diffusers' own names of layers, and to the last bit."""
    found = read(folders[kind])
    path = as_one(weights_of(folders[kind], where=""), tmp_path)
    base, lora = load_weights(checkpoint_of(found).weights, path), LoraBrief(rank=2, alpha=4)
    family = adapt(restore(checkpoint_of(found), path), lora, base_sha256="b", seed=0).eval()
    names = {name.removeprefix("denoiser.net.") for name, _ in lora_layers(family)}
    assert all(not name.startswith("autoencoder") for name in names)
    wanted = {"transformer_blocks.1.attn1.to_q", "transformer_blocks.0.ff.net.0.proj", "proj_out_2", "pos_embed.proj"}
    assert names >= (wanted if kind == "dit" else {"conv_in", "down_blocks.0.resnets.0.conv1"})
    with torch.no_grad():
        for name, each in family.named_parameters():
            if ".lora_" in name:
                each.add_(0.1 * normal(*each.shape))
    plain = merged(family)
    assert max(check_merged(family, plain)) < 1e-5
    files = adapter_files(family, lora_config(plain, lora, base_sha256="b"), base)
    check_reloads(family, files, base, base_sha256="b")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    part = "transformer" if kind == "dit" else "unet"
    net: Any = type(plain.get_submodule("denoiser.net")).from_pretrained(folders[kind], subfolder=part)  # type: ignore[attr-defined]
    elsewhere = PeftModel.from_pretrained(net, str(tmp_path)).eval()
    x, t = normal(2, net.config.in_channels, 4, 4), torch.tensor([3, 700])
    labels = torch.tensor([1, 10]) if kind == "dit" else None
    with torch.no_grad():
        ours = family.get_submodule("denoiser.net")(x, t, class_labels=labels).sample
        assert torch.equal(elsewhere(x, t, class_labels=labels).sample, ours)


@pytest.mark.parametrize("kind", ["dit of 1000", "ldm"])
def test_what_is_written_back_is_the_pipeline_again(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    family = opened(folders[kind], tmp_path)
    family.pipeline().save_pretrained(tmp_path / "back", safe_serialization=True)
    assert json.loads((tmp_path / "back" / "model_index.json").read_text())["_class_name"] == read(folders[kind]).made_as
    again = read(tmp_path / "back")
    assert (again.weights, again.item, again.classes) == (read(folders[kind]).weights, family.spec.item, len(family.spec.classes))
    labels = [0, 2] if kind != "ldm" else None
    with torch.no_grad():
        shape = (2, *family.noise_inputs()[0].shape)
        ours = family.sampler(steps=4)(normal(*shape), *([torch.tensor(labels)] if labels else []))
    torch.testing.assert_close(ours, draws(tmp_path / "back", steps=4, labels=labels, guidance=4.0), atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        pytest.param("dit of 1000", 1, marks=pytest.mark.slow),
        *(pytest.param(kind, 5, marks=pytest.mark.nightly) for kind in ("dit", "ldm")),
    ],
)
def test_the_graph_is_held_to_torch(folders: dict[str, Path], tmp_path: Path, kind: str, steps: int) -> None:
    """With guidance, and the decoder; of more than four steps a loop."""
    family = opened(folders[kind], tmp_path)
    graph = export_graph(family, tmp_path / "model.onnx", steps=steps)
    parity = check_parity(family, tmp_path / "model.onnx", graph, steps=steps)
    assert parity.worst <= 1e-4
    assert parity.flipped == 0


def test_an_autoencoder_that_was_trained_here_is_no_part_of_a_pipeline() -> None:
    from specs import image_data

    for variant in ("dit", "ldm"):
        family = find("diffusion", variant).build({}, image_data(channels=1, height=8, width=8), light=True)
        with pytest.raises(BriefError, match=f"diffusion/{variant} with an autoencoder of its own cannot be written"):
            family.pipeline()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"network": {}}, "network and autoencoder: one alone; give both or none"),
        ({"autoencoder": {}}, "network and autoencoder: one alone; give both or none"),
        ({"adversarial": 0.5}, "autoencoder: given with adversarial or laplacian"),
        ({"width": 48}, "num_attention_heads x attention_head_dim: 32; allowed: 48, its width"),
        ({"network": {"_class_name": "MyNet"}}, "network: _class_name: MyNet; allowed: UNet2DModel, UNet2DConditionModel, DiT"),
        ({"autoencoder": {"_class_name": "MyCodec"}}, "autoencoder: _class_name: MyCodec; allowed: AutoencoderKL, VQModel"),
        ({"patch": 2}, "network: given with dense, patch or augment"),
    ],
)
def test_a_config_that_cannot_be_is_refused(folders: dict[str, Path], config: dict[str, Any], said: str) -> None:
    found = read(folders["dit"])
    with pytest.raises(BriefError, match=said):
        find("diffusion", "dit").build(found.config | config, spec_of_foreign(found))


def test_data_of_other_channels_is_refused(folders: dict[str, Path]) -> None:
    given: Any = SimpleNamespace(modality="image", data=SimpleNamespace(path="photos"), side=None)
    dataset: Any = SimpleNamespace(item=ImageSpec(channels=3, height=8, width=8))
    with pytest.raises(DataError, match="base makes items of 8x8x1, and photos holds 8x8x3; allowed: 8x8x1; prepare the data so"):
        check_spec(given, given, given, dataset, spec_of_foreign(read(folders["dit"])), "base")


def change(path: Path, **values: Any) -> None:
    """In a JSON file; None takes a key out."""
    known = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in known.items() if value is not None}))


INDEX, VAE, NET = "model_index.json", "vae/config.json", "transformer/config.json"
WEIGHTS = "vae/diffusion_pytorch_model.safetensors"
NOT_BUILT: dict[str, tuple[Any, str]] = {
    "text": (
        lambda f: change(f / INDEX, _class_name="PixArtAlphaPipeline", text_encoder=["transformers", "T5EncoderModel"]),
        r"is a PixArtAlphaPipeline with text_encoder \(T5EncoderModel\), transformer \(DiTTransformer2DModel\), vae",
    ),
    "steered by text": (
        lambda f: change(f / NET, norm_type="ada_norm_single"), r"norm_type: ada_norm_single, .* a text steers; allowed: ada"
    ),
    "an unknown class": (lambda f: change(f / INDEX, vae=["diffusers", "AutoencoderTiny"]), r"whose vae is a AutoencoderTiny"),
    "another class in its file": (lambda f: change(f / NET, _class_name="FluxTransformer2DModel"), r"is of a FluxTransformer2D"),
    "no autoencoder": (lambda f: change(f / INDEX, vae=None), r"is a DiTPipeline with transformer \(DiTTransformer2DModel\)"),
    "other outputs": (lambda f: change(f / NET, out_channels=5), r"transformer/config.json makes 5 channels of 4; allowed: 4"),
}  # fmt: skip
DAMAGED: dict[str, tuple[Any, str]] = {
    "codes of others": (lambda f: change(f / VAE, latent_channels=3), r"makes codes of 3 channels, and its network takes 4"),
    "images of others": (lambda f: change(f / VAE, out_channels=3), r"vae/config.json makes images of 3 channels"),
    "no side": (lambda f: change(f / NET, sample_size="x"), r"transformer/config.json has sample_size: \"x\"; allowed"),
    "half a token": (lambda f: change(f / NET, patch_size=3), r"network: patch_size: 3; allowed: a divisor of its"),
    "no classes": (lambda f: change(f / NET, num_embeds_ada_norm=0), r"num_embeds_ada_norm: 0; allowed: the number"),
    "odd heads": (lambda f: change(f / NET, attention_head_dim=5), r"has 2 heads of 5 features; allowed: a multiple of 16"),
    "a shift": (lambda f: change(f / VAE, shift_factor=0.1), r"autoencoder: shift_factor: 0.1; allowed: none"),
    "a pickle": (lambda f: (f / WEIGHTS).rename(f / "vae/diffusion_pytorch_model.bin"), r"its weights are a pickle"),
    "cut short": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-9]), r"is damaged or cut short: it has"),
    "none": (lambda f: (f / WEIGHTS).unlink(), r"no weights in its vae; allowed: diffusion_pytorch_model.safetensors"),
    "another network": (lambda f: change(f / VAE, layers_per_block=2), r"vae/diffusion_pytorch_model.safetensors lacks "),
    "an impossible one": (lambda f: change(f / VAE, norm_num_groups=7), r"diffusers cannot make a AutoencoderKL of it"),
    "no config": (lambda f: (f / VAE).unlink(), r"no vae/config.json in it"),
}  # fmt: skip


@pytest.mark.parametrize(("error", "name"), [*((NotBuilt, name) for name in NOT_BUILT), *((DataError, name) for name in DAMAGED)])
def test_what_cannot_be_a_base_is_told_in_one_line(folder: Any, error: type[Exception], name: str) -> None:
    damage, said = (NOT_BUILT | DAMAGED)[name]
    damage(changed := folder("dit"))
    with pytest.raises(error, match=said) as caught:
        check_weights(checkpoint_of(read(changed)), weights_of(changed, where=""), where="base")
    assert "\n" not in str(caught.value)
    assert getattr(caught.value, "exit_code", 0) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_students_on_its_own_codes(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """They begin with its weights, and its autoencoder, which is theirs, rests."""
    checkpoint = checkpoint_of(read(folders[kind]))
    weights = as_one(weights_of(folders[kind], where=""), tmp_path)
    plan: Any = SimpleNamespace(
        family=checkpoint.family, variant=student_variant(checkpoint.family, checkpoint.variant),
        config=recipe(checkpoint, steps=4), spec=checkpoint.spec, seed=0,
    )  # fmt: skip
    made: Any = Student(teacher=checkpoint, weights=weights).build(plan)
    assert made.config.steps == 4
    known = restore(checkpoint, weights).state_dict()
    assert all(torch.equal(value, known[name]) for name, value in made.state_dict().items())
    spec = checkpoint.spec
    labels = torch.arange(4) % len(spec.classes) if spec.conditional else None
    x, rng = normal(4, *spec.shape).clamp(-1, 1), torch.Generator().manual_seed(0)
    for progress in (0.1, 0.9):
        made.losses(Batch(x, labels, progress=progress), rng)["prior"].backward()
    assert all(each.grad is None for each in made.autoencoder.parameters())
    assert any(each.grad is not None and bool(each.grad.any()) for each in made.denoiser.parameters())
    with torch.no_grad():
        drawn = made.sampler()(*made.noise(2, rng), *(() if labels is None else (labels[:2],)))
    assert drawn.shape == (2, *spec.shape)
    assert bool(drawn.isfinite().all())
