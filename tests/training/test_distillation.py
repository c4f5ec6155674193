"""A student begins as its teacher, learns what its teacher does in more steps, and is saved as a model of its own."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from components.core.errors import BriefError
from components.core.family import Batch, Family
from components.core.files import sha256_of
from components.core.records import Artifact, Checkpoint
from components.families import find, find_card
from components.families.diffusion.process import forward_process
from components.families.diffusion.sampling import Point
from components.training.checkpoint import restore, restore_best
from components.training.device import open_device
from components.training.distillation import recipe, student_variant
from components.training.distillation.progressive import Level, lessons, move, target
from components.training.learner import Learner
from components.training.start import build
from components.training.start.student import Student
from components.training.trainer import Trainer

TEACHERS = ("ddpm", "edm", "latent", "ldm", "dit")
NIGHTLY = ("ldm", "dit")
ONE_FAST = [
    each if each == "edm" else pytest.param(each, marks=pytest.mark.nightly if each in NIGHTLY else pytest.mark.slow)
    for each in TEACHERS
]


AGAINST_A_CRITIC = [each for each in ONE_FAST if each == "edm" or each.values[0] in ("latent", "ldm")]  # type: ignore[attr-defined]

WEIGHTS_AT: dict[str, Path] = {}  # of each teacher, by the digest


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def taught(tmp_path: Path, make_plan: Any) -> Any:
    """The checkpoint of a teacher none of whose weights is at its start."""

    def make(variant: str, *, conditional: bool = False, **config: Any) -> Checkpoint:
        many = {"steps": 8} if find_card("diffusion", variant).student_halves else {}
        plan = make_plan(f"diffusion/{variant}", conditional=conditional, config=many | config)
        family = build(plan)
        with torch.no_grad():
            for parameter in family.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng(1)))
        folder = tmp_path / f"teacher-{variant}-{conditional}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        path = folder / "weights.safetensors"
        save_file({name: value.contiguous() for name, value in family.state_dict().items()}, path)
        weights = Artifact(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size)
        WEIGHTS_AT[weights.sha256] = path
        return Checkpoint(
            weights=weights, family="diffusion", variant=variant,
            config=family.config.model_dump(mode="json"), spec=plan.spec, dataset_md5="d1", run_id="r", step=1, steps_total=1,
            train_s=1.0, quality=1.0, stopped_by="steps",
        )  # fmt: skip

    return make


def level(point: Point, n: int) -> Level:
    time, alpha, sigma = (torch.full((n, 1, 1, 1), value, dtype=torch.float64) for value in point)
    return time, alpha, sigma


@pytest.mark.parametrize("each", [2, 3, 8])
@pytest.mark.parametrize("steps", [8, 2, 1])
def test_one_step_of_the_target_leads_where_those_of_the_teacher_end(steps: int, each: int) -> None:
    x = torch.randn(5, 1, 2, 2, generator=rng(), dtype=torch.float64)

    def see(x_BCHW: Tensor, now: Level) -> Tensor:
        return torch.tanh(x_BCHW + now[0] / 1000)

    for points in lessons(forward_process("cosine", 1000), steps, each=each):
        assert len(points) == each + 1
        levels, there = [level(point, 5) for point in points], x
        for here, following in pairwise(levels):
            there = move(there, see(there, here), here, following)
        torch.testing.assert_close(move(x, target(x, levels, see), levels[0], levels[-1]), there)


def test_a_teacher_of_many_steps_shows_a_student_of_one_what_it_does_in_sixteen(make_plan: Any, taught: Any) -> None:
    for own, steps, shown in ((50, 1, 16), (50, 4, 4), (50, 8, 2), (8, 4, 2), (8, 1, 8), (2, 1, 2)):
        made: Any = _student(make_plan, taught("ddpm", steps=own), steps=steps)
        assert made.lessons_NP3.shape == (steps, shown + 1, 3)


def test_of_one_image_the_target_is_that_image() -> None:
    image = torch.randn(1, 1, 2, 2, generator=rng(), dtype=torch.float64)
    for three in lessons(forward_process("linear", 1000), 4):
        levels = [level(point, 1) for point in three]
        x = levels[0][1] * image + levels[0][2] * torch.randn(image.shape, generator=rng(1), dtype=torch.float64)
        torch.testing.assert_close(target(x, levels, lambda x, now: image), image)


def test_the_last_lesson_ends_in_clean_images_and_lessons_follow_each_other() -> None:
    every = lessons(forward_process("cosine", 1000), 4)
    assert [three[2] for three in every[:-1]] == [three[0] for three in every[1:]]
    assert (every[-1][2].alpha, every[-1][2].sigma) == (1, 0)
    assert all(now.sigma > middle.sigma > end.sigma for now, middle, end in every)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("variant", TEACHERS)
def test_it_begins_with_the_weights_of_its_teacher(make_plan: Any, taught: Any, variant: str, conditional: bool) -> None:
    checkpoint = taught(variant, conditional=conditional)
    made = _student(make_plan, checkpoint, steps=2, conditional=conditional)
    teacher: Any = restore(checkpoint, WEIGHTS_AT[checkpoint.weights.sha256])
    mine, theirs = (dict(family.named_parameters()) for family in (made, teacher))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], value) for name, value in theirs.items())


def test_a_guided_teacher_gives_all_weights_but_those_of_no_class(make_plan: Any, taught: Any) -> None:
    checkpoint = taught("ddpm", conditional=True, guidance=2.0)
    made: Any = _student(make_plan, checkpoint, steps=2, conditional=True)
    classes = made.denoiser.net.class_embedding.weight
    assert len(classes) == 10
    assert torch.equal(
        classes, restore(checkpoint, WEIGHTS_AT[checkpoint.weights.sha256]).denoiser.net.class_embedding.weight[:10]
    )  # type: ignore[union-attr]
    x, labels = torch.randn(4, 1, 8, 8, generator=rng()), torch.arange(4)
    seen = made.teacher.denoise(x, torch.full((4,), 500.0), labels)
    assert made.teacher.guides
    assert not torch.allclose(seen, made.denoiser(x, torch.full((4,), 500.0), labels))


@pytest.mark.parametrize("guidance", [pytest.param(1.0, marks=pytest.mark.slow), 2.0])
@pytest.mark.parametrize("variant", ONE_FAST)
def test_it_learns_and_its_teacher_does_not(
    make_plan: Any, taught: Any, digits: Any, tracker: Any, variant: str, guidance: float
) -> None:
    checkpoint = taught(variant, conditional=True, guidance=guidance)
    plan = _plan(make_plan, checkpoint, steps=2, conditional=True, length=12)
    family: Any = build(plan)
    before = {name: value.clone() for name, value in family.teacher.family.state_dict().items()}
    trained = Trainer(family, plan, split=digits, quality=_quality, tracker=tracker).run()
    assert all(torch.equal(value, before[name]) for name, value in family.teacher.family.state_dict().items())
    found = restore_best(plan, trained)
    assert type(found) is find("diffusion", student_variant(checkpoint.family, checkpoint.variant)), (
        "it is a model of its family, without a teacher"
    )
    assert not any("teacher" in name for name in found.state_dict())
    start = build(plan).state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in found.state_dict().items())
    noise = found.noise(3, rng())
    with torch.no_grad():
        assert found.sampler()(*noise, torch.arange(3)).shape == (3, 1, 8, 8)


@pytest.mark.parametrize(("variant", "config"), [("ddpm", {"clip": False}), ("edm", {})])
def test_a_narrower_student_imitates_first(make_plan: Any, taught: Any, variant: str, config: dict[str, Any]) -> None:
    made: Any = build(_plan(make_plan, taught(variant, width=32, **config), steps=2, width=16))
    assert made.config.width == 16
    x = torch.rand(4, 1, 8, 8, generator=rng()) * 2 - 1
    made.teacher.denoise = made.denoiser  # one that it imitates perfectly
    with torch.no_grad():
        early, late = (made.losses(Batch(x, progress=at), rng())["model"] for at in (0.1, 0.9))
    assert float(early) == pytest.approx(0, abs=1e-9)
    assert float(late) > 1e-6


def test_a_student_of_one_that_predicts_noise_predicts_v_and_imitates_first(make_plan: Any, taught: Any) -> None:
    made: Any = _student(make_plan, taught("ddpm", prediction="epsilon"), steps=2)
    assert (made.config.prediction, made.teacher.family.config.prediction) == ("v", "epsilon")
    assert made.imitation > 0
    assert _student(make_plan, taught("ddpm", prediction="x0", dropout=0.1), steps=2).imitation == 0  # type: ignore[attr-defined]


def test_a_student_of_a_student_has_half_its_steps(make_plan: Any, taught: Any) -> None:
    eight = taught("ddpm", steps=8)
    assert _student(make_plan, eight, steps=4).config.steps == 4  # type: ignore[attr-defined]
    with pytest.raises(BriefError, match="steps: 8 given, of a teacher of 8; allowed: half of the teacher's at most"):
        _student(make_plan, eight, steps=8)


@pytest.mark.parametrize("conditional", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("variant", AGAINST_A_CRITIC)
def test_a_critic_alone_teaches_and_is_not_kept(
    make_plan: Any, taught: Any, digits: Any, tracker: Any, variant: str, conditional: bool
) -> None:
    plan = _plan(
        make_plan, taught(variant, conditional=conditional), steps=1, conditional=conditional, length=6, adversarial=True
    )
    assert (plan.config["betas"], plan.start.adversarial) == ((0.0, 0.99), True)
    made: Any = build(plan)
    labels = torch.arange(4) % 10 if conditional else None
    batch = Batch(torch.rand(4, 1, 8, 8, generator=rng()) * 2 - 1, labels, progress=0.0)
    assert [*made.losses(batch, rng())] == ["critic"], "it learns alone first"
    losses = made.losses(replace(batch, progress=0.5), rng())
    assert losses.keys() >= {"critic"}
    (group,) = losses.keys() - {"critic"}
    groups = made.parameter_groups()
    assert {id(each) for each in groups["critic"]} == {id(each) for each in made.critic.parameters()}
    assert not {id(each) for each in groups["critic"]} & {id(each) for each in groups[group]}
    slopes = torch.autograd.grad(losses[group], [each for each in groups[group] if each.requires_grad], allow_unused=True)
    assert any(slope is not None and slope.abs().max() > 0 for slope in slopes), "what it draws passes the critic's word on"
    before = {name: value.clone() for name, value in made.kept().items()}
    checkpoint = Trainer(made, plan, split=digits, quality=_quality, tracker=tracker).run()
    assert any(not torch.equal(value, before[name]) for name, value in made.kept().items())
    assert "train/loss_critic" in {name for _, values in tracker.logged for name in values}
    restored = restore_best(plan, checkpoint)
    assert not any(name.startswith("critic") for name in restored.state_dict())


@pytest.mark.slow
def test_a_critic_moves_a_student_towards_the_data(make_plan: Any, taught: Any) -> None:
    """Its teacher's weights are noise, and the data are all one image."""
    plan = _plan(make_plan, taught("edm"), steps=1, length=150, adversarial=True)
    learner = Learner(build(plan), plan, open_device("cpu", threads=1))
    x = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8).expand(16, 1, 8, 8).contiguous()

    def error() -> float:
        family = learner.average.family
        with torch.no_grad():
            return float((family.sampler()(*family.noise(64, rng(9))) - x[:1]).square().mean())

    before = error()
    for step in range(150):
        learner.step(Batch(x, progress=step / 150, step=step), rate=2e-3)
    assert error() < 0.5 * before


def test_what_cannot_be_taught_is_refused(make_plan: Any, taught: Any) -> None:
    checkpoint = taught("edm")
    with pytest.raises(BriefError, match="steps: 3 given; allowed: 4, 2, 1"):
        recipe(checkpoint, steps=3)
    with pytest.raises(BriefError, match="gan/dcgan cannot be distilled; allowed: diffusion/ddpm"):
        student_variant("gan", "dcgan")
    plan = make_plan("diffusion/ddpm", start=_start(checkpoint))
    with pytest.raises(BriefError, match="variant: ddpm given; allowed: ect of edm"):
        build(plan)


def _quality(images: Any) -> Any:
    from components.core.records import Reading

    return Reading(distance=float(images.mean()), diversity=1.0, collapse="")


def _plan(
    make_plan: Any,
    checkpoint: Checkpoint,
    *,
    steps: int,
    width: int | None = None,
    conditional: bool = False,
    length: int = 5,
    adversarial: bool = False,
) -> Any:
    config = recipe(checkpoint, steps=steps, width=width, adversarial=adversarial)
    name = f"diffusion/{student_variant(checkpoint.family, checkpoint.variant)}"
    start = _start(checkpoint).model_copy(update={"adversarial": adversarial})
    return make_plan(name, config=config, conditional=conditional, start=start, steps=length, signal_steps=steps)


def _start(checkpoint: Checkpoint) -> Student:
    return Student(teacher=checkpoint, weights=WEIGHTS_AT[checkpoint.weights.sha256])


def _student(make_plan: Any, checkpoint: Checkpoint, **how: Any) -> Family:
    return build(_plan(make_plan, checkpoint, **how))
