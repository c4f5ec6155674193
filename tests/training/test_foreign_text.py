"""A Stable Diffusion as a base: read with what reads its texts, drawn as by diffusers' own pipeline, tuned, written back."""

import shutil
from pathlib import Path
from typing import Any

import made_elsewhere
import made_from_text
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from made_from_text import TEXTS, UNWANTED, adapted_by_lora, asked, change, checkpoint_of, encoded, normal, opened, read
from safetensors.torch import load, save
from torch import Tensor

from components.core.errors import BriefError, DataError, NotBuilt, RunError
from components.core.family import Batch
from components.core.records import DataSpec
from components.families import find
from components.modalities.image.spec import ImageSpec
from components.training.adapter.elsewhere import reload_elsewhere
from components.training.adapter.files import OF_PIPELINE
from components.training.distillation import recipe
from components.training.distillation.latent_consistency import LCMStudent
from components.training.foreign.folder import read_folder, weights_of
from components.training.foreign.none import write_none
from components.training.foreign.weights import check_weights
from components.training.foreign.write import write_pipeline


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_from_text.write_stable_diffusion(tmp_path_factory.mktemp("made") / "tiny")


@pytest.fixture(scope="module")
def none(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_none(encoded(made, "")[0].numpy(), tmp_path_factory.mktemp("none"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return made_elsewhere.copied(made, tmp_path / "tiny")


def draws(folder: Path, *, steps: int, texts: Any = TEXTS, unwanted: Any = UNWANTED, adapter: Path | None = None) -> Tensor:
    """What diffusers' own pipeline draws of the noise of `normal`, from the last step on and to the image itself, as here."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    pipeline: Any = StableDiffusionPipeline.from_pretrained(folder)
    own = pipeline.scheduler.config
    spaced = {"timestep_spacing": "trailing", "set_alpha_to_one": True, "steps_offset": 0, "clip_sample": False}
    pipeline.scheduler = DDIMScheduler.from_config(own, **spaced)
    pipeline.set_progress_bar_config(disable=True)
    if adapter:
        pipeline.load_lora_weights(adapter)
    told: dict[str, Any] = {"generator": torch.Generator().manual_seed(0), "num_inference_steps": steps, "output_type": "np"}
    images = pipeline(list(texts), negative_prompt=list(unwanted), guidance_scale=7.5, **told).images
    return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1


def test_a_folder_says_what_it_is_with_what_reads_texts(made: Path, none: Path) -> None:
    found = read(made, none)
    assert (found.family, found.variant, found.made_as) == ("diffusion", "ldm", "StableDiffusionPipeline")
    assert (found.item, found.classes) == (ImageSpec(channels=1, height=8, width=8), 0)
    assert found.text is not None
    assert (found.text.length, found.text.features) == (made_from_text.LENGTH, made_from_text.FEATURES)
    assert (found.config["guidance"], found.config["clip"], found.config["schedule"]) == (7.5, False, "scaled_linear")
    assert {"text_encoder/config.json", "text_encoder/model.safetensors", "tokenizer/tokenizer.json"} <= {*found.beside}
    assert all(each.is_at(made / path) for path, each in found.beside.items())
    assert {*found.files} >= {*found.beside}
    assert read(made, None).weights is None, "whole with what '' becomes alone"
    assert read(made, None).name == found.name, "which is of the published files"
    assert found.licence.terms == "use-based"


def test_the_pipeline_of_diffusers_draws_the_same_of_the_same_noise(made: Path, none: Path, tmp_path: Path) -> None:
    """With guidance and what is unwanted, where nothing is, too."""
    family = opened(made, none, tmp_path)
    with torch.no_grad():
        ours = family.sampler(steps=5)(normal(2, 4, 4, 4), asked(made))
    theirs = draws(made, steps=5)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    assert (draws(made, steps=5, texts=TEXTS[::-1]) - theirs).abs().max() > 1e-3, "a text says what is drawn"
    assert (draws(made, steps=5, unwanted=TEXTS) - theirs).abs().max() > 1e-3, "and what is not"


def test_nothing_in_particular_is_what_the_encoder_makes_of_nothing(made: Path, none: Path, tmp_path: Path) -> None:
    family = opened(made, none, tmp_path)
    with torch.no_grad():
        ours = family.sampler(steps=4)(normal(2, 4, 4, 4), torch.zeros(2, 2, made_from_text.LENGTH, made_from_text.FEATURES))
    torch.testing.assert_close(ours, draws(made, steps=4, texts=("", ""), unwanted=("", "")), atol=2e-5, rtol=0)


def test_all_of_the_network_is_tuned_and_all_else_rests(made: Path, none: Path, tmp_path: Path) -> None:
    family = opened(made, none, tmp_path).train()
    batch = Batch(normal(4, 1, 8, 8), asked(made, TEXTS * 2, UNWANTED * 2), progress=0.0)
    losses = family.losses(batch, torch.Generator().manual_seed(0))
    assert {*losses} == {*family.learning_groups()} == {"prior"}
    losses["prior"].backward()
    learnt = {name for name, each in family.named_parameters() if each.grad is not None}
    assert learnt == {name for name, _ in family.named_parameters() if name.startswith("denoiser.net.unet.")}
    assert "denoiser.net.none_LD" in family.state_dict()


@pytest.mark.parametrize("settings", [{}, {"rslora": True, "targets": ["to_q", "to_v", "conv1"]}, {"dora": True}], ids=str)
def test_the_pipeline_of_diffusers_loads_the_adapter_and_draws_the_same(
    made: Path, none: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    family, plain, files, _ = adapted_by_lora(made, none, tmp_path, **settings)
    assert "pytorch_lora_weights.safetensors" in files
    for name, content in files.items():
        (tmp_path / "adapter").mkdir(exist_ok=True)
        (tmp_path / "adapter" / name).write_bytes(content)
    with torch.no_grad():
        ours = family.sampler(steps=5)(normal(2, 4, 4, 4), asked(made))
        served = plain.sampler(steps=5)(normal(2, 4, 4, 4), asked(made))
    theirs = draws(made, steps=5, adapter=tmp_path / "adapter")
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    torch.testing.assert_close(served, theirs, atol=2e-5, rtol=0)
    assert (draws(made, steps=5) - theirs).abs().max() > 1e-3, "it changes what is drawn"


@pytest.mark.slow
def test_a_process_without_genwright_finds_out_an_adapter_that_loads_otherwise(made: Path, none: Path, tmp_path: Path) -> None:
    """What it says of one that is right, tests/pipeline/test_text_bases.py asks of a production."""
    _, plain, files, digest = adapted_by_lora(made, none, tmp_path)
    beside = {path: made / path for path in read(made, none).beside}
    bare = {**files, OF_PIPELINE: save(load(files[OF_PIPELINE]))}  # without alpha, as other tools wrote it
    with pytest.raises(RunError, match=r"without genwright, is not the trained model: they differ by"):
        reload_elsewhere(opened(made, none, tmp_path), plain, bare, base_sha256=digest, beside=beside)


def test_what_is_written_back_is_the_pipeline_again(made: Path, none: Path, tmp_path: Path) -> None:
    """With what reads texts as it was published, byte for byte."""
    family, found = opened(made, none, tmp_path), read(made, none)
    assert write_pipeline(family, tmp_path / "back", beside={path: made / path for path in found.beside}) == found.made_as
    again = read(tmp_path / "back", none)
    assert (again.weights, again.item, again.text, again.beside) == (found.weights, found.item, found.text, found.beside)
    torch.testing.assert_close(draws(tmp_path / "back", steps=4), draws(made, steps=4), atol=0, rtol=0)


INDEX, NET, ENCODER = "model_index.json", "unet/config.json", "text_encoder"
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no text encoder": (
        lambda f: change(f / INDEX, text_encoder=[None, None]), DataError,
        "tiny is a StableDiffusionPipeline without its text_encoder, and its network is asked by what that makes of a text; save",
    ),
    "no tokenizer": (
        lambda f: change(f / INDEX, tokenizer=None), DataError, "tiny is a StableDiffusionPipeline without its tokenizer, and"
    ),
    "no folder of it": (lambda f: shutil.rmtree(f / ENCODER), DataError, "tiny has no text_encoder in it, and its network"),
    "no weights of it": (
        lambda f: (f / ENCODER / "model.safetensors").unlink(), DataError, "no weights in its text_encoder; allowed: model.safet"
    ),
    "a pickle": (
        lambda f: (f / ENCODER / "model.safetensors").rename(f / ENCODER / "pytorch_model.bin"), DataError,
        r"its weights are a pickle \(pytorch_model.bin\), which can run any code",
    ),
    "an encoder of another width": (
        lambda f: change(f / NET, cross_attention_dim=48), DataError,
        "unet/config.json has cross_attention_dim: 48, and its text_encoder makes 32 numbers of a token; take both from one",
    ),
    "two encoders": (
        lambda f: change(f / INDEX, text_encoder_2=["transformers", "CLIPTextModelWithProjection"]), NotBuilt,
        r"is a StableDiffusionPipeline with text_encoder \(CLIPTextModel\), text_encoder_2 \(CLIPTextModelWithProj.*; allowed",
    ),
    "another encoder": (
        lambda f: change(f / INDEX, text_encoder=["transformers", "T5EncoderModel"]), NotBuilt,
        "is a StableDiffusionPipeline whose text_encoder is a T5EncoderModel; allowed: a pipeline",
    ),
    "a network without a text": (
        lambda f: change(f / INDEX, unet=["diffusers", "UNet2DModel"]), NotBuilt, "is a StableDiffusionPipeline whose unet is a U"
    ),
    "more than a text": (
        lambda f: change(f / NET, addition_embed_type="text_time"), DataError,
        "network: addition_embed_type: text_time; allowed: none, so that a text alone steers it",
    ),
    "an impossible network": (lambda f: change(f / NET, norm_num_groups=7), DataError, "cannot make a UNet2DConditionModel"),
    "a weight less": (lambda f: change(f / NET, layers_per_block=2), DataError, "lacks down_blocks.* and .* more weights of"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_base_is_told_in_one_line(folder: Path, none: Path, name: str) -> None:
    damage, error, said = REFUSED[name]
    damage(folder)
    with pytest.raises(error, match=said) as caught:
        check_weights(checkpoint_of(read(folder, none)), weights_of(folder, where="", none=none), where="tiny")
    assert "\n" not in str(caught.value)
    assert getattr(caught.value, "exit_code", 0) == 2


def test_a_safety_checker_is_left_where_it_is(folder: Path, none: Path) -> None:
    change(folder / INDEX, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
           feature_extractor=["transformers", "CLIPImageProcessor"])  # fmt: skip
    assert read(folder, none).made_as == "StableDiffusionPipeline"


def test_it_is_asked_by_a_text_alone(made: Path, none: Path, tmp_path: Path) -> None:
    found = read(made, none)
    with pytest.raises(BriefError, match="network: a UNet2DConditionModel is asked by a text; ask by what it was trained with"):
        find("diffusion", "ldm").build(found.config, DataSpec(item=found.item))
    pixels = made_elsewhere.write_codes(tmp_path / "ldm")
    other = read_folder(pixels, name="ldm", weights=True)
    with pytest.raises(BriefError, match="network: a UNet2DModel is asked by a class, or nothing; ask by what"):
        find("diffusion", "ldm").build(other.config, DataSpec(item=other.item, condition=found.text))


def test_a_student_is_written_as_a_pipeline_that_draws_the_same(made: Path, none: Path, tmp_path: Path) -> None:
    """In its few steps, the noise between them renewed, and without guidance, which it has in itself."""
    teacher: Any = opened(made, none, tmp_path)
    spec = teacher.spec.model_copy(update={"condition": teacher.spec.condition.model_copy(update={"negative": False})})
    student = LCMStudent(
        LCMStudent.configure(recipe(checkpoint_of(read(made, none)), steps=4), spec), spec, teacher=teacher
    ).eval()
    assert student.imitation == 0
    assert write_pipeline(student, tmp_path / "back", beside={path: made / path for path in read(made, none).beside})
    pipeline: Any = StableDiffusionPipeline.from_pretrained(tmp_path / "back")
    pipeline.set_progress_bar_config(disable=True)
    told: dict[str, Any] = {"generator": torch.Generator().manual_seed(0), "num_inference_steps": 4, "output_type": "np"}
    theirs = torch.from_numpy(pipeline(list(TEXTS), guidance_scale=1.0, **told).images).permute(0, 3, 1, 2) * 2 - 1
    rng = torch.Generator().manual_seed(0)
    noise = torch.stack([torch.randn(2, 4, 4, 4, generator=rng) for _ in range(4)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(student.sampler()(noise, encoded(made, *TEXTS)), theirs, atol=1e-4, rtol=0)
