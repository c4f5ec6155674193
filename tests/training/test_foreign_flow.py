"""A transformer of image and text by flow matching as a base: drawn as by diffusers' own pipeline, tuned, written back."""

from pathlib import Path
from typing import Any

import made_from_text
import numpy as np
import pytest
import torch
from diffusers.pipelines.aura_flow.pipeline_aura_flow import AuraFlowPipeline
from made_from_text import LENGTH, TEXTS, UNWANTED, adapted_by_lora, asked, change, checkpoint_of, encoded, normal, opened, read
from specs import text_data
from torch import Tensor

from components.core.brief import TextBrief
from components.core.errors import BriefError, DataError, NotBuilt
from components.core.family import Batch
from components.core.records import Licence
from components.encoders.make import make_encoder
from components.encoders.source import Source
from components.export.graph import export_graph
from components.export.parity import check_parity
from components.families import find
from components.families.diffusion.mmdit import TIME, levels
from components.modalities.image.spec import ImageSpec
from components.runtime.prompts import Prompts
from components.training.adapter.elsewhere import reload_elsewhere
from components.training.adapter.files import OF_PIPELINE
from components.training.distillation import recipe
from components.training.distillation.latent_consistency import FlowLCMStudent
from components.training.foreign.folder import weights_of
from components.training.foreign.none import write_none
from components.training.foreign.weights import check_weights
from components.training.foreign.write import write_pipeline


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_from_text.write_flow(tmp_path_factory.mktemp("flow") / "tiny")


@pytest.fixture(scope="module")
def none(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_none(encoded(made, "")[0].numpy(), tmp_path_factory.mktemp("none"))


def draws(folder: Path, *, steps: int, texts: Any = TEXTS, unwanted: Any = UNWANTED, adapter: Path | None = None) -> Tensor:
    """What diffusers' own pipeline draws of the noise of `normal`."""
    pipeline: Any = AuraFlowPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if adapter:
        pipeline.load_lora_weights(adapter)
    told: dict[str, Any] = {
        "latents": normal(2, 4, 4, 4),
        "num_inference_steps": steps,
        "output_type": "np",
        "height": 8,
        "width": 8,
    }
    images = pipeline(list(texts), negative_prompt=list(unwanted), guidance_scale=3.5, max_sequence_length=LENGTH, **told).images
    return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1


def test_a_folder_says_what_it_is(made: Path, none: Path) -> None:
    found = read(made, none)
    assert (found.variant, found.made_as, found.item) == ("mmdit", "AuraFlowPipeline", ImageSpec(channels=1, height=8, width=8))
    assert (found.config["shift"], found.config["guidance"], found.config["width"]) == (1.73, 3.5, 32)
    assert found.text is not None
    assert found.text.features == made_from_text.FEATURES
    check_weights(checkpoint_of(found), weights_of(made, where="", none=none), where="tiny")


def test_the_pipeline_of_diffusers_draws_the_same_of_the_same_noise(made: Path, none: Path, tmp_path: Path) -> None:
    family = opened(made, none, tmp_path)
    with torch.no_grad():
        ours = family.sampler(steps=5)(normal(2, 4, 4, 4), asked(made))
    theirs = draws(made, steps=5)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    assert (draws(made, steps=5, texts=TEXTS[::-1]) - theirs).abs().max() > 1e-3, "a text says what is drawn"


@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (4, 1.0), (28, 3.0)])
def test_levels_are_those_of_diffusers(steps: int, shift: float) -> None:
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    found = levels(steps, shift=shift)
    torch.testing.assert_close(torch.tensor([each.sigma for each in found]), scheduler.sigmas[:-1], atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.tensor([each.time for each in found]), scheduler.timesteps, atol=1e-3, rtol=0)
    assert all(each.alpha + each.sigma == pytest.approx(1) and each.time == TIME * each.sigma for each in found)


def test_of_one_code_the_loss_of_the_exact_velocity_is_none() -> None:
    """v = (x - x0) / s where all codes are x0."""
    family: Any = find("diffusion", "mmdit").build(
        {"width": 32, "blocks": 2, "patch": 1, "autoencoder_width": 16, "shift": 3.0},
        text_data(channels=1, height=8, width=8),
        light=True,
    )
    code, seen = normal(1, *family.autoencoder.shape), []

    def exact(x: Tensor, time_B: Tensor, asked: Any, planes: Any) -> Tensor:
        seen.append(time_B)
        return (x - code) / (time_B / TIME).view(-1, 1, 1, 1)

    family.denoiser.network = exact
    loss = family.denoiser.loss(code.expand(512, -1, -1, -1), None, torch.Generator().manual_seed(0))
    assert float(loss) < 1e-8
    assert float((seen[0] / TIME).median()) == pytest.approx(0.75, abs=0.05), "3 times the odds of a half"
    noise = normal(4, *family.autoencoder.shape)
    torch.testing.assert_close(
        family.code_sampler(3).integrate(noise, torch.zeros(4, 4, 8)), code.expand(4, -1, -1, -1), atol=1e-5, rtol=0
    )


def test_all_of_the_transformer_is_tuned(made: Path, none: Path, tmp_path: Path) -> None:
    family = opened(made, none, tmp_path).train()
    batch = Batch(normal(4, 1, 8, 8), asked(made, TEXTS * 2, UNWANTED * 2), progress=0.0)
    losses = family.losses(batch, torch.Generator().manual_seed(0))
    assert {*losses} == {"prior"}
    losses["prior"].backward()
    learnt = {name for name, each in family.named_parameters() if each.grad is not None}
    assert learnt == {name for name, _ in family.named_parameters() if name.startswith("denoiser.net.transformer.")}


def test_its_adapter_is_loaded_by_the_pipeline_of_diffusers(made: Path, none: Path, tmp_path: Path) -> None:
    family, plain, files, _ = adapted_by_lora(made, none, tmp_path)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / OF_PIPELINE).write_bytes(files[OF_PIPELINE])
    theirs = draws(made, steps=4, adapter=tmp_path / "adapter")
    with torch.no_grad():
        for each in (family, plain):
            torch.testing.assert_close(each.sampler(steps=4)(normal(2, 4, 4, 4), asked(made)), theirs, atol=2e-5, rtol=0)
    assert (draws(made, steps=4) - theirs).abs().max() > 1e-3, "it changes what is drawn"


@pytest.mark.nightly
def test_a_process_without_genwright_loads_it_and_is_asked_with_texts(made: Path, none: Path, tmp_path: Path) -> None:
    _, plain, files, digest = adapted_by_lora(made, none, tmp_path)
    beside = {path: made / path for path in read(made, none).beside}
    found = reload_elsewhere(opened(made, none, tmp_path), plain, files, base_sha256=digest, beside=beside)
    assert (found.network, found.difference) == ("AuraFlowTransformer2DModel", 0)
    assert found.text_difference is not None
    assert found.text_difference < 1e-5


def test_what_is_written_back_is_the_pipeline_again(made: Path, none: Path, tmp_path: Path) -> None:
    family, found = opened(made, none, tmp_path), read(made, none)
    assert write_pipeline(family, tmp_path / "back", beside={path: made / path for path in found.beside}) == found.made_as
    again = read(tmp_path / "back", none)
    assert (again.weights, again.config, again.beside) == (found.weights, found.config, found.beside)
    torch.testing.assert_close(draws(tmp_path / "back", steps=3), draws(made, steps=3), atol=0, rtol=0)


def student_of(made: Path, none: Path, at: Path, **how: Any) -> Any:
    teacher: Any = opened(made, none, at)
    spec = teacher.spec.model_copy(update={"condition": teacher.spec.condition.model_copy(update={"negative": False})})
    config = recipe(checkpoint_of(read(made, none)), **how)
    return FlowLCMStudent(FlowLCMStudent.configure(config, spec), spec, teacher=teacher).eval()


def test_a_student_is_written_as_a_pipeline_that_draws_the_same(made: Path, none: Path, tmp_path: Path) -> None:
    """At its few levels, the noise between them renewed, and without guidance, which it has in itself."""
    student = student_of(made, none, tmp_path, steps=4)
    assert (student.imitation, student.config.shift) == (0, 1.73)
    assert write_pipeline(student, tmp_path / "back", beside={path: made / path for path in read(made, none).beside})
    pipeline: Any = AuraFlowPipeline.from_pretrained(tmp_path / "back")
    pipeline.set_progress_bar_config(disable=True)
    told: dict[str, Any] = {"sigmas": student.sigmas, "height": 8, "width": 8, "max_sequence_length": LENGTH}
    torch.manual_seed(0)  # its call takes no generator for the noise between
    theirs = pipeline(list(TEXTS), guidance_scale=1.0, output_type="np", **told).images
    torch.manual_seed(0)
    noise = torch.stack([torch.randn(2, 4, 4, 4) for _ in range(4)], dim=1)
    with torch.no_grad():
        ours = student.sampler()(noise, encoded(made, *TEXTS))
    torch.testing.assert_close(ours, torch.from_numpy(theirs).permute(0, 3, 1, 2) * 2 - 1, atol=1e-4, rtol=0)
    with pytest.raises(NotBuilt, match="its scheduler has stochastic_sampling: True; allowed: none of it"):
        read(tmp_path / "back", none)


def test_a_narrower_student_has_fewer_heads(made: Path, none: Path, tmp_path: Path) -> None:
    student = student_of(made, none, tmp_path, steps=2, width=16)
    assert student.imitation > 0
    told = student.denoiser.net.transformer.config
    assert (told.num_attention_heads, told.attention_head_dim, told.caption_projection_dim) == (1, 16, 16)
    (loss,) = student.losses(
        Batch(normal(2, 1, 8, 8), encoded(made, *TEXTS), progress=0.1), torch.Generator().manual_seed(0)
    ).values()
    assert loss.isfinite()
    config = recipe(checkpoint_of(read(made, none)), steps=2, width=16)
    config["network"] |= {"attention_head_dim": 32, "num_attention_heads": 1}
    with pytest.raises(BriefError, match="network: attention_head_dim: 32; allowed: a divisor of 16, its width"):
        FlowLCMStudent.configure(config, student.spec)


@pytest.mark.nightly
def test_the_graph_of_a_student_is_one_loop(made: Path, none: Path, tmp_path: Path) -> None:
    student = student_of(made, none, tmp_path, steps=4)
    graph = export_graph(student, tmp_path / "model.onnx")
    assert check_parity(student, tmp_path / "model.onnx", graph).worst <= 1e-4


@pytest.mark.nightly
def test_its_graph_of_many_steps_is_one_loop(made: Path, none: Path, tmp_path: Path) -> None:
    family = opened(made, none, tmp_path)
    graph = export_graph(family, tmp_path / "model.onnx", steps=6)
    assert check_parity(family, tmp_path / "model.onnx", graph, steps=6).worst <= 1e-4


@pytest.mark.parametrize(
    ("file", "values", "error", "said"),
    [
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, NotBuilt, "is a DDIMScheduler; allowed: Flow"),
        ("scheduler/scheduler_config.json", {"use_dynamic_shifting": True}, NotBuilt, "use_dynamic_shifting: True; allowed"),
        ("scheduler/scheduler_config.json", {"shift": 0}, NotBuilt, "has shift: 0; allowed: a number above 0"),
        ("transformer/config.json", {"joint_attention_dim": 48}, DataError, "joint_attention_dim: 48, and its text_encoder m"),
        ("transformer/config.json", {"caption_projection_dim": 48}, DataError, "caption_projection_dim: 48; allowed: 32, its w"),
        ("transformer/config.json", {"out_channels": 8}, NotBuilt, "makes 8 channels of 4; allowed: 4"),
        ("model_index.json", {"text_encoder": None}, DataError, "is a AuraFlowPipeline without its text_encoder, and its"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_base_is_told_in_one_line(
    made: Path, none: Path, tmp_path: Path, file: str, values: dict[str, Any], error: type[Exception], said: str
) -> None:
    import made_elsewhere

    folder = made_elsewhere.copied(made, tmp_path / "tiny")
    change(folder / file, **values)
    with pytest.raises(error, match=said) as caught:
        check_weights(checkpoint_of(read(folder, none)), weights_of(folder, where="", none=none), where="tiny")
    assert "\n" not in str(caught.value)


@pytest.mark.nightly
@pytest.mark.parametrize("reads", [made_from_text.t5, made_from_text.umt5])
def test_its_text_encoder_is_read_as_its_pipeline_reads(reads: Any, tmp_path: Path) -> None:
    folder = made_from_text.write_flow(tmp_path / "tiny", reads=reads)
    source = Source.of(folder, name="tiny", licence=Licence(name="mit", terms="free"))
    assert source.length(None) == 256
    record = source.record(TextBrief(length=LENGTH), precision="fp32")
    prompts = Prompts.open(make_encoder(source, record, tmp_path / "encoder"))
    assert np.abs(prompts(list(TEXTS)) - encoded(folder, *TEXTS).numpy()).max() <= 1e-5
    assert np.abs(prompts.nothing() - encoded(folder, "")[0].numpy()).max() <= 1e-5
