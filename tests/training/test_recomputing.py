"""Gradient checkpointing: the same training to the last bit, of every variant, in less memory; with adapters, and compiled."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from specs import image_item
from torch import Tensor, nn

from components.core.brief import LoraBrief
from components.core.family import Batch, to_data_units
from components.core.layers import repeatable_blocks
from components.families import cards
from components.training import recomputing
from components.training.device import TrainingDevice
from components.training.learner import Learner
from components.training.memory import Trial
from components.training.start import build
from components.training.start.lora import Lora

MEMBERS = sorted("/".join(key) for key in cards())
WITHOUT = {"gan/dcgan", "gan/sngan"}  # their blocks change as they compute
STAGED = {"autoregressive/vq-transformer", "diffusion/ect", "diffusion/latent", "vae/vq"}  # another loss at first
FAST = {"autoregressive/pixelcnn", "diffusion/edm", "flow/glow", "gan/style", "gan/wgan-gp", "vae/gaussian"}
DROPPED = {"diffusion": {"dropout": 0.2}, "vae": {"dropout": 0.2}}  # what torch's own generator is asked for
EACH = [
    pytest.param(name, progress, marks=() if name in FAST else pytest.mark.slow)
    for names, progress in ((MEMBERS, 1.0), (sorted(STAGED), 0.0))
    for name in names
]


@pytest.fixture
def batch(digits: Any) -> Batch:
    return Batch(to_data_units(digits.images[:6], image_item(8, 8, 1)), torch.from_numpy(digits.labels[:6]), progress=1.0)


def learnt(learner: Learner, batch: Batch, steps: int = 2) -> dict[str, Tensor]:
    """All that some steps leave behind, by names."""
    torch.manual_seed(5)
    for step in range(steps):
        losses = learner.step(replace(batch, step=step), rate=1e-3)
    state = learner.state()
    tensors = {f"{name}.{key}": value for name, own in state["model"].items() for key, value in own.items()}
    return tensors | {f"loss {group}": loss for group, loss in losses.items()} | state["rng"]


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, value in one.items() if not torch.equal(value, other[name])]


@pytest.mark.parametrize(("family", "progress"), EACH)
def test_recomputing_changes_no_bit(
    make_learner: Callable[..., Learner], batch: Batch, family: str, progress: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, average, buffers, losses and generators after two steps; dropout is drawn again as it was."""
    passes: list[Any] = []
    real = recomputing.checkpoint
    monkeypatch.setattr(recomputing, "checkpoint", lambda *given, **named: passes.append(given) or real(*given, **named))
    batch, config = replace(batch, progress=progress), DROPPED.get(family.partition("/")[0], {})
    as_it_is, again = (make_learner(family, config=config) for _ in range(2))
    expected = learnt(as_it_is, batch)
    assert not passes
    again.recompute()
    assert differing(learnt(again, batch), expected) == []
    assert bool(passes) == (family not in WITHOUT)


@pytest.mark.parametrize("family", ["gan/wgan-gp", pytest.param("gan/r3gan", marks=pytest.mark.slow)])
def test_a_generator_that_looks_ahead_learns_the_same(make_learner: Callable[..., Learner], batch: Batch, family: str) -> None:
    """D's weights are others while G looks, so D's blocks are none of those that are computed again."""
    as_it_is, again = (make_learner(family, config={"unroll": 1}) for _ in range(2))
    again.recompute()
    assert set(again.family.recomputable()).isdisjoint(again.family.get_submodule("discriminator").modules())
    assert differing(learnt(again, batch), learnt(as_it_is, batch)) == []


def test_an_adapter_learns_the_same_above_a_base_at_rest(make_learner: Any, batch: Batch, a_base: Any, tuned: Any) -> None:
    """Nothing that enters a block needs a gradient: a backward pass that asked for one would leave the matrices as they were."""
    start = a_base("diffusion/edm", dropout=0.2)
    plan = tuned(Lora(base=start.base, weights=start.weights, lora=LoraBrief(rank=2, dropout=0.5)))
    as_it_is, again = (Learner(build(plan), plan, TrainingDevice(torch.device("cpu"))) for _ in range(2))
    began = {name: value.clone() for name, value in again.family.named_parameters() if value.requires_grad}
    again.recompute()
    assert differing(learnt(again, batch), learnt(as_it_is, batch)) == []
    assert [name for name, value in began.items() if torch.equal(value, again.family.get_parameter(name))] == []


def test_blocks_are_the_innermost_of_several_layers_and_do_not_overlap(make_learner: Callable[..., Learner]) -> None:
    network = make_learner("diffusion/edm", config={"widths": [1, 1], "attention": True}).family
    blocks = network.recomputable()
    assert {type(block).__name__ for block in blocks} == {"ResnetBlock2D", "Attention"}
    inside = [id(module) for block in blocks for module in block.modules()]
    assert len(inside) == len(set(inside))


def test_what_changes_as_it_computes_is_no_block() -> None:
    def two(last: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 2), last)

    normed = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    limited = two(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)))
    plain, standing = two(nn.Linear(2, 2)), two(nn.BatchNorm1d(2, track_running_stats=False))
    assert repeatable_blocks(nn.ModuleList([normed, limited, plain, standing])) == (plain, standing)


def test_a_copy_recomputes_by_its_own_weights(make_learner: Callable[..., Learner], batch: Batch) -> None:
    """A probe of a step's time copies the family; a block that still called the other's layers would learn nothing."""
    learner = make_learner("diffusion/edm")
    learner.recompute()
    other = copy.deepcopy(learner.family)
    other.losses(batch, learner.rng)["model"].backward()
    owned = {id(each) for each in other.parameters()}
    assert all(id(each) in owned for block in other.recomputable() for each in block.forward.args[0].__self__.parameters())
    assert all(each.grad is not None for each in other.parameters())
    assert all(each.grad is None for each in learner.family.parameters())


def test_nothing_is_computed_again_where_no_gradient_is_taken(make_learner: Callable[..., Learner], batch: Batch) -> None:
    learner = make_learner("diffusion/edm")
    learner.recompute()
    with torch.no_grad():
        learner.family.losses(batch, learner.rng)
    assert not any("forward" in vars(module) for module in learner.average.family.modules())


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("autoregressive/image-transformer", {"blocks": 3}),
        ("diffusion/edm", {"blocks": 3}),
        ("flow/glow", {"depth": 3}),
        ("vae/gaussian", {}),
    ],
)
def test_less_is_kept_for_the_backward_pass(make_learner: Callable[..., Learner], family: str, config: dict[str, Any]) -> None:
    learner = make_learner(family, config=config)
    kept = Trial(learner.family, learner.on).kept_bytes(4)
    assert kept.recomputing < 0.8 * kept.whole


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("family", ["vae/gaussian", "diffusion/edm"])
def test_compiled_recomputes_to_the_same(make_learner: Callable[..., Learner], batch: Batch, family: str) -> None:
    as_it_is, again = (make_learner(family, compiled=flag, config={"dropout": 0.0}) for flag in (False, True))
    again.recompute()
    for _ in range(2):
        losses = as_it_is.step(batch, rate=1e-3), again.step(batch, rate=1e-3)
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-4)
