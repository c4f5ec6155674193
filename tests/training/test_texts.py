"""Models by text in training: they learn, are kept and drawn from, are adapted and taught as others are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from specs import TextSplit, text_data

from components.core.brief import LoraBrief
from components.core.family import Batch, to_data_units
from components.core.files import sha256_of
from components.core.records import Artifact, Checkpoint, Reading
from components.families.diffusion.network import Guided
from components.training.adapter.elsewhere import reload_elsewhere
from components.training.adapter.files import adapter_files
from components.training.adapter.merging import lora_config, lora_layers, merged
from components.training.adapter.targets import network_name
from components.training.checkpoint import load_weights, restore, restore_best
from components.training.distillation import recipe
from components.training.learner import Learner
from components.training.sampling import TorchSampler
from components.training.start import build
from components.training.start.lora import Lora
from components.training.start.student import Student
from components.training.trainer import Trainer

PLAIN, STEERED = (text_data(channels=1, height=8, width=8, negative=negative) for negative in (False, True))

OTHERS = ("diffusion/latent", "diffusion/cascade", "diffusion/unclip", "autoregressive/vq-transformer")
BY_TEXT = ["diffusion/edm", *(pytest.param(name, marks=pytest.mark.nightly) for name in OTHERS)]


@pytest.fixture
def by_text(digits: Any) -> TextSplit:
    return TextSplit(digits.images, digits.labels)


def trained(plan: Any, split: TextSplit, tracker: Any) -> Checkpoint:
    return Trainer(build(plan), plan, split=split, quality=lambda images: Reading(distance=1.0), tracker=tracker).run()


@pytest.mark.parametrize("family", BY_TEXT)
def test_a_model_by_text_is_trained_kept_and_drawn_from(make_plan: Any, by_text: TextSplit, tracker: Any, family: str) -> None:
    plan = make_plan(family, spec=STEERED)
    kept = trained(plan, by_text, tracker)
    assert kept.spec.condition == STEERED.condition
    sampler = TorchSampler(restore_best(plan, kept), subject="torch:x", steps=2)
    asked = STEERED.condition.asked_for(by_text.texts[[1, 2, 1]])  # type: ignore[union-attr]
    items = sampler([0, 0, 0], asked)
    assert items.shape == (3, 8, 8, 1)
    assert (items[0] == items[2]).all()


@pytest.mark.parametrize("family", ["diffusion/edm", pytest.param("autoregressive/vq-transformer", marks=pytest.mark.nightly)])
def test_recomputing_changes_no_bit(make_learner: Callable[..., Learner], by_text: TextSplit, family: str) -> None:
    x = to_data_units(by_text.images[:6], by_text.item)
    batch = Batch(x, torch.from_numpy(by_text.texts[by_text.labels[:6]]), progress=1.0)  # type: ignore[index]
    as_it_is, again = (make_learner(family, spec=PLAIN) for _ in range(2))
    again.recompute()
    assert any("forward" in vars(block) for block in again.family.recomputable())
    for learner in (as_it_is, again):
        torch.manual_seed(5)
        learner.step(batch, rate=1e-3)
    one, other = (learner.family.state_dict() for learner in (as_it_is, again))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_an_adapter_lies_within_the_network_that_diffusers_has(make_plan: Any) -> None:
    edm, unclip = (build(make_plan(f"diffusion/{name}", spec=PLAIN)) for name in ("edm", "unclip"))
    assert network_name(edm) == "denoiser.net.unet"
    assert any(name.endswith("attn2.to_k") for name in edm.adaptable())
    assert {name.split(".")[0] for name in unclip.adaptable()} == {"prior", "decoder"}


@pytest.mark.nightly
def test_an_adapter_by_text_is_loaded_without_genwright(a_base: Any, tuned: Any) -> None:
    start = a_base("diffusion/edm", spec=PLAIN)
    lora, digest = LoraBrief(rank=2, alpha=4), start.base.weights.sha256
    adapted = build(tuned(Lora(base=start.base, weights=start.weights, lora=lora))).eval()
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, layer in lora_layers(adapted):
            for each in layer.lora_B.parameters():
                each.add_(0.1 * torch.randn(each.shape, generator=rng))
    plain = merged(adapted)
    config = lora_config(plain, lora, base_sha256=digest)
    files = adapter_files(adapted, config, load_weights(start.base.weights, start.weights))
    found = reload_elsewhere(restore(start.base, start.weights), plain, files, base_sha256=digest)
    assert found.network == "UNet2DConditionModel"
    assert found.difference == 0
    assert found.merged_difference is not None
    assert found.merged_difference < 1e-5


def test_a_student_has_the_guidance_of_its_teacher_within(
    make_plan: Any, by_text: TextSplit, tracker: Any, tmp_path: Any
) -> None:
    plan = make_plan("diffusion/edm", spec=STEERED, config={"guidance": 2.0})
    teacher = build(plan)
    path = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in teacher.state_dict().items()}, path)
    known = Checkpoint(
        weights=Artifact(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size),
        family="diffusion", variant="edm", config=teacher.config.model_dump(mode="json"), spec=plan.spec, dataset_md5="d1",
        run_id="r", step=1, steps_total=1, train_s=1.0, quality=1.0, stopped_by="items_seen",
    )  # fmt: skip
    own = make_plan(
        "diffusion/ect", folder="student", spec=PLAIN, config=recipe(known, steps=2), start=Student(teacher=known, weights=path)
    )
    made: Any = build(own)
    assert made.teacher.guides
    assert {*made.denoiser.state_dict()} == {*teacher.denoiser.state_dict()}  # type: ignore[union-attr]
    assert not any(isinstance(module, Guided) for module in made.sampler().modules())
    x, text = torch.zeros(2, 1, 8, 8), torch.from_numpy(by_text.texts[1:3])
    assert made.teacher.denoise(x, torch.ones(2), text).shape == x.shape
    found = restore_best(own, trained(own, by_text, tracker))
    assert found.spec.condition == PLAIN.condition
