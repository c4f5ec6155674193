"""What is read of a folder of diffusers, and each line that is said of one that cannot be a base."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_elsewhere
import pytest
from safetensors.numpy import load_file, save_file

from components.core.errors import BriefError, DataError, NotBuilt
from components.core.records import Checkpoint, Foreign, Licence
from components.modalities.image.spec import ImageSpec
from components.pipeline.pretrained import spec_of_foreign
from components.training.foreign.folder import read_folder, weights_of
from components.training.foreign.licence import check_use, read_licence, terms_of
from components.training.foreign.weights import check_weights, named_as_ours, shapes_of

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
INDEX, UNET, SCHEDULER = "model_index.json", "unet/config.json", "scheduler/scheduler_config.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_elsewhere.write_folder(tmp_path_factory.mktemp("made") / "digits")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return made_elsewhere.copied(made, tmp_path / "digits")


def read(folder: Path) -> Foreign:
    return read_folder(folder, name="digits", weights=True)


def change(path: Path, **values: Any) -> None:
    """In a JSON file; None takes a key out."""
    known = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in known.items() if value is not None}))


def checkpoint_of(found: Foreign) -> Checkpoint:
    assert found.weights is not None
    return Checkpoint(
        weights=found.weights, family=found.family, variant=found.variant, config=found.config, spec=spec_of_foreign(found),
        dataset_md5="", run_id="", step=0, steps_total=0, train_s=0, quality=0, stopped_by="",
    )  # fmt: skip


def test_a_folder_says_what_it_is(folder: Path) -> None:
    found = read(folder)
    assert (found.family, found.variant, found.made_as) == ("diffusion", "ddpm", "DDPMPipeline")
    assert (found.item, found.classes) == (ImageSpec(channels=1, height=8, width=8), 0)
    config = found.config
    assert (config["schedule"], config["levels"], config["betas_from"], config["betas_to"]) == ("linear", 1000, 1e-4, 0.02)
    assert (config["prediction"], config["clip"], config["solver"], config["width"]) == ("epsilon", True, "ddim", 32)
    assert found.licence == Licence(name="apache-2.0", terms="free", said_by="README.md")
    assert found.tags == ("digits",)
    assert found.weights is not None
    assert found.weights.is_at(folder / WEIGHTS), "as it was published"
    assert {*found.files} == {"README.md", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json"}
    check_weights(checkpoint_of(found), weights_of(folder, where=""), where="")


def test_its_name_follows_its_files_and_not_its_place(made: Path, folder: Path) -> None:
    assert read(made) == read(folder)
    change(folder / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    assert read(folder).name != read(made).name
    assert read(folder).config["prediction"] == "v"
    commit = read_folder(folder, name="hf:org/digits", revision="c" * 40, weights=True)
    assert commit.name == "hf:org/digits@" + "c" * 40


def test_a_scheduler_is_read_by_its_kind(folder: Path) -> None:
    scheduler = folder / "scheduler" / "scheduler_config.json"
    own = {"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"}
    change(scheduler, clip_sample=None, rescale_betas_zero_snr=True, **own)
    config = read(folder).config
    assert (config["schedule"], config["prediction"], config["solver"]) == ("cosine", "x0", "dpm++")
    assert (config["clip"], config["zero_snr"]) == (False, True)
    assert "betas_from" not in config


Damage = Callable[[Path], Any]
NOT_BUILT: dict[str, tuple[Damage, str]] = {
    "a bare network": (lambda f: (f / INDEX).unlink(), r"has no model_index.json, so how noise was added"),
    "two texts": (
        lambda f: change(
            f / INDEX, _class_name="StableDiffusionXLPipeline", unet=["diffusers", "UNet2DConditionModel"],
            **{part: ["transformers", "CLIPTextModel"] for part in ("text_encoder", "text_encoder_2")},
        ),
        r"is a StableDiffusionXLPipeline with text_encoder \(CLIPTextModel\), text_encoder_2 \(CLIPTextModel\), unet \(UNet2D",
    ),
    "a network that asks for text": (
        lambda f: change(f / INDEX, unet=["diffusers", "UNet2DConditionModel"]),
        r"is a DDPMPipeline whose unet is a UNet2DConditionModel; allowed: ",
    ),
    "a class of its own": (
        lambda f: change(f / INDEX, unet=["my_code", "MyUNet"]), r"is a DDPMPipeline whose unet is a MyUNet; allowed: ",
    ),
    "nothing": (lambda f: change(f / INDEX, unet=None), "is a DDPMPipeline without a network; allowed: "),
    "another class": (lambda f: change(f / UNET, _class_name="UNet1DModel"), r"unet/config.json is of a UNet1DModel"),
    "more channels": (lambda f: change(f / UNET, out_channels=3), r"makes 3 channels of 1; allowed: 1, or 2"),
    "another process": (
        lambda f: change(f / SCHEDULER, _class_name="ScoreSdeVeScheduler"),
        r"its scheduler is a ScoreSdeVeScheduler; allowed: DDPMScheduler, ",
    ),
    "own betas": (lambda f: change(f / SCHEDULER, trained_betas=[0.1]), "has trained_betas: a list"),
    "no number of levels": (
        lambda f: change(f / SCHEDULER, num_train_timesteps="many"), r"num_train_timesteps: many; allowed: a whole number"
    ),
    "a beta above 1": (lambda f: change(f / SCHEDULER, beta_end=2.0), r"has beta_end: 2.0; allowed: a number between 0 and 1"),
    "a threshold": (lambda f: change(f / SCHEDULER, thresholding=True), "has thresholding: True; allowed"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_BUILT)
def test_a_model_of_another_kind_is_not_built(folder: Path, name: str) -> None:
    damage, said = NOT_BUILT[name]
    damage(folder)
    with pytest.raises(NotBuilt, match=said) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def cut(folder: Path, *, keep: float) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin")


def edited(folder: Path, *, without: str = "", more: str = "", transposed: str = "") -> None:
    weights = load_file(folder / WEIGHTS)
    weights = {name: value.T.copy() if name == transposed else value for name, value in weights.items() if name != without}
    save_file(weights | ({more: weights["conv_in.bias"]} if more else {}), folder / WEIGHTS)


def headed(folder: Path, **entry: Any) -> None:
    """The file with another entry in its header for one weight."""
    content = (folder / WEIGHTS).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["conv_in.bias"] |= entry
    told = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(told).to_bytes(8, "little") + told + content[end:])


DAMAGED: dict[str, tuple[Damage, str]] = {
    "no weights": (lambda f: (f / WEIGHTS).unlink(), r"no weights in its unet; allowed: diffusion_pytorch_model.safetensors"),
    "a pickle": (pickled, r"its weights are a pickle \(diffusion_pytorch_model.bin\), .*; allowed: safetensors; save it again"),
    "cut short": (lambda f: cut(f, keep=0.9), r"is damaged or cut short: it has .* bytes, and its header tells of"),
    "cut in its header": (lambda f: cut(f, keep=0.0001), r"is damaged or cut short: .* bytes are no safetensors file"),
    "no safetensors": (lambda f: (f / WEIGHTS).write_bytes(b"\x80\x04" * 5000), r"is damaged or cut short"),
    "a broken header": (lambda f: (f / WEIGHTS).write_bytes(b"\x10" + b"\0" * 7 + b"[" * 16), r"its header cannot be read"),
    "weights that overlap": (
        lambda f: headed(f, data_offsets=[4, 132]), r"is damaged or cut short: .* does not lie where its header says"
    ),
    "whole numbers": (lambda f: headed(f, dtype="I32"), r"conv_in.bias is of type I32; allowed: F64, F32, F16, BF16; save it"),
    "half the numbers": (lambda f: headed(f, dtype="F16"), r"conv_in.bias does not lie where its header says; fetch it again"),
    "in parts": (
        lambda f: (f / WEIGHTS).rename(f / "unet" / "diffusion_pytorch_model.safetensors.index.json"), r"lie in several files"
    ),
    "a weight less": (lambda f: edited(f, without="conv_in.bias"), r"lacks conv_in.bias of its network"),
    "a weight more": (lambda f: edited(f, more="lora.up"), r"holds lora.up, of which its network has none"),
    "another shape": (
        lambda f: edited(f, transposed="time_embedding.linear_1.weight"),
        r"time_embedding.linear_1.weight is \[32, 128\], and its config.json makes it \[128, 32\]",
    ),
    "another network": (lambda f: change(f / UNET, layers_per_block=2), r"lacks .* and \d+ more weights of its"),
    "an impossible network": (lambda f: change(f / UNET, norm_num_groups=7), r"cannot make a UNet2DModel of it"),
    "no blocks": (lambda f: change(f / UNET, down_block_types=None), r"network: down_block_types is missing"),
    "odd widths": (lambda f: change(f / UNET, block_out_channels=[24, 24]), r"channels: \[24, 24\]; allowed: .* of 16"),
    "classes by time": (lambda f: change(f / UNET, class_embed_type="timestep"), r"class_embed_type: timestep"),
    "no number of classes": (lambda f: change(f / UNET, num_class_embeds="ten"), r"num_class_embeds: ten; allowed: a whole"),
    "no side": (lambda f: change(f / UNET, sample_size=None), r"has sample_size: null; allowed: pixels a side"),
    "noise that says nothing": (
        lambda f: change(f / SCHEDULER, rescale_betas_zero_snr=True), r"zero_snr: true with prediction: eps"
    ),
    "no scheduler": (lambda f: (f / SCHEDULER).unlink(), r"no scheduler/scheduler_config.json in it"),
    "no JSON": (lambda f: (f / UNET).write_text("{"), r"unet/config.json cannot be read"),
    "no object": (lambda f: (f / UNET).write_text("[]"), r"unet/config.json holds no object"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_folder_that_is_not_whole_is_told_in_one_line(folder: Path, name: str) -> None:
    damage, said = DAMAGED[name]
    damage(folder)
    with pytest.raises(DataError, match=said) as caught:
        check_weights(checkpoint_of(read(folder)), weights_of(folder, where=""), where="digits")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_names_of_attention_of_before_are_those_of_now(tmp_path: Path) -> None:
    """diffusers itself renames them when it loads such a file."""
    import numpy as np

    old = {
        f"mid_block.attentions.0.{name}": np.zeros(2, np.float32)
        for name in ("query.bias", "proj_attn.weight", "group_norm.bias")
    }
    save_file(old | {"conv_in.bias": np.zeros(3, np.float32)}, tmp_path / "old.safetensors")
    assert dict(shapes_of({"unet": tmp_path / "old.safetensors"}, where="")) == {
        "conv_in.bias": (3,), "mid_block.attentions.0.group_norm.bias": (2,), "mid_block.attentions.0.to_out.0.weight": (2,),
        "mid_block.attentions.0.to_q.bias": (2,),
    }  # fmt: skip


def test_half_precision_is_read_in_single() -> None:
    import torch

    found = named_as_ours({"conv_in.bias": torch.ones(2, dtype=torch.float16)})
    assert {name: value.dtype for name, value in found.items()} == {"denoiser.net.conv_in.bias": torch.float32}


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("apache-2.0", "free"), ("mit", "free"), ("cc-by-4.0", "free"), ("cc-by-sa-4.0", "free"), ("cc0-1.0", "free"),
        ("ncsa", "free"), ("bsd-3-clause", "free"), ("cc-by-nc-4.0", "noncommercial"), ("CC-BY-NC-SA-4.0", "noncommercial"),
        ("other stabilityai-non-commercial", "noncommercial"), ("apple-amlr", "noncommercial"),
        ("other fair-noncommercial-research-license", "noncommercial"), ("creativeml-openrail-m", "use-based"),
        ("openrail++", "use-based"), ("llama3", "use-based"), ("gemma", "use-based"), ("other", "unknown"), ("mine", "unknown"),
        ("", "unknown"),
    ],
)  # fmt: skip
def test_kinds_of_licences_are_told_apart(name: str, terms: str) -> None:
    assert terms_of(name) == terms


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"README.md": "---\nlicense: other\nlicense_name: my-own\n---\n"}, ("my-own", "unknown", "README.md")),
        ({"README.md": "---\nlicense: [a\n---\n", "LICENSE": "\n  MIT License\n"}, ("MIT License", "free", "LICENSE")),
        ({"README.md": "---\nlicense: [mit, cc-by-nc-4.0]\n---\n"}, ("mit, cc-by-nc-4.0", "noncommercial", "README.md")),
        ({"LICENSE": "Terms\nfor non-commercial use\n"}, ("Terms", "noncommercial", "LICENSE")),
        ({"LICENSE.md": "Terms\nwith use-based restrictions\n"}, ("Terms", "use-based", "LICENSE.md")),
        ({"LICENSE": "Ask me.\n"}, ("Ask me.", "unknown", "LICENSE")),
        ({"README.md": "no front matter\nlicense: mit\n"}, ("", "unknown", "")),
        ({}, ("", "unknown", "")),
    ],
)
def test_a_licence_is_read_from_the_card_or_its_file(files: dict[str, str], expected: tuple[str, ...], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found, _ = read_licence(tmp_path)
    assert (found.name, found.terms, found.said_by) == expected


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("Attribution-NonCommercial 4.0 International\n...", "'Attribution-NonCommercial 4.0 International'"),
        ("Terms\n  You may use it for research  purposes only.\n", "'You may use it for research purposes only.'"),
        ("CC BY-NC 4.0", "'CC BY-NC 4.0'"),
        ("The weights must not be used for commercial purposes", "'The weights must not be used for commercial purposes'"),
        ("Apache License\nVersion 2.0\n\nWeights: non-commercial use only.", "'Weights: non-commercial use only.'"),
        ("Apache License\nVersion 2.0", ""),
        ("GNU GENERAL PUBLIC LICENSE\nThis alternative is allowed only for noncommercial distribution", ""),
    ],
)
def test_a_licence_file_that_forbids_what_the_card_permits_is_quoted(folder: Path, text: str, quoted: str) -> None:
    (folder / "LICENSE").write_text(text)
    found = read(folder)
    assert found.licence.against == (f"{quoted} in its LICENSE" if quoted else "")
    check_use(found, "research", where="")
    if not quoted:
        check_use(found, "commercial", where="")
        return
    with pytest.raises(BriefError) as error:
        check_use(found, "commercial", where="base")
    assert str(error.value).startswith(
        f"base: its licence apache-2.0 (README.md) has {quoted} in its LICENSE against it, which forbids commercial use, and "
    )
    assert found.licence.text == f"apache-2.0, against {quoted} in its LICENSE"


def test_commercial_use_is_refused_where_the_licence_forbids_it(made: Path) -> None:
    found = read(made)
    check_use(found, "commercial", where="")
    limited = found.model_copy(update={"licence": Licence(name="cc-by-nc-4.0", terms="noncommercial", said_by="README.md")})
    for use in ("research", None):
        check_use(limited, use, where="")
    said = (
        r"hf:a/b: its licence cc-by-nc-4.0 \(README.md\) forbids commercial use, and use: commercial is given; allowed: use: res"
    )
    with pytest.raises(BriefError, match=said):
        check_use(limited, "commercial", where="hf:a/b")
