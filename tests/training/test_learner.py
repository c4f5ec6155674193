"""One step: in parts or whole, in another order in memory, compiled, and without waiting for the device."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from specs import image_item
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from components.core.errors import TrainingFailed
from components.core.family import Batch, to_data_units
from components.core.records import Reading
from components.families import cards, find
from components.training import memory
from components.training.device import TrainingDevice
from components.training.learner import Learner
from components.training.start import build
from components.training.state import load_state, save_state
from components.training.trainer import Trainer

MEMBERS = sorted("/".join(key) for key in cards())
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_dim", "_unique2"}
INDEXED = {"index", "index_put", "index_put_"}  # by a mask they wait to know how many it holds
TO_THE_HOST = ("tolist", "numpy", "cpu", "item")
PER_PART: dict[str, dict[str, Any]] = {  # how each statistic that is a part's own is switched on, alone
    "batch normalisation": {},
    "batch deviation": {"batch_deviation": True},
    "minibatch discrimination": {"minibatch_kernels": 4},
    "mean styles": {},
    "path lengths": {"path_length": 1.0},
    "contrasts": {},  # of a first stage
}
OFF = {"batch_deviation": False, "minibatch_kernels": 0, "path_length": 0.0, "dropout": 0.0, "clip_norm": None}  # as it has them
FAST = {  # one of each family, and those of two players, a codebook, a statistic of a part
    "autoencoder/plain",
    "autoregressive/pixelcnn",
    "diffusion/cascade",
    "diffusion/edm",
    "flow/glow",
    "gan/r3gan",
    "gan/style",
    "vae/vq",
}
EACH = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in MEMBERS]
STAGED = {  # whose first stage has another loss than the last
    "autoregressive/vq-pixelcnn",
    "autoregressive/vq-transformer",
    "diffusion/dit",
    "diffusion/ect",
    "diffusion/latent",
    "diffusion/latent-ect",
    "diffusion/lcm",
    "diffusion/ldm",
    "diffusion/mmdit",
    "diffusion/mmdit-lcm",
    "vae/vq",
}
CONFIG = {
    "vae/beta": {"capacity": 2.0},  # nats: parts of a batch lie on either side of it
    "diffusion/ddpm": {"noise_offset": 0.3},  # one noise more an item
}


@pytest.fixture
def batch(digits: Any) -> Batch:
    return Batch(to_data_units(digits.images[:11], image_item(8, 8, 1)), torch.from_numpy(digits.labels[:11]), progress=1.0)


def gradients(learner: Learner) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in learner.family.named_parameters() if parameter.grad is not None}


def stepped(learner: Learner, batch: Batch, *, parts: int, norms: bool = False) -> dict[str, Any]:
    """What two steps of a training leave behind: losses, gradients, buffers. `norms`: batch normalisation over the batch."""
    learner.parts = parts
    for module in learner.family.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(norms)
    losses = [learner.step(replace(batch, step=step), rate=0.0) for step in range(2)]
    return {"losses": losses, "gradients": gradients(learner), "buffers": dict(learner.family.named_buffers())}


def differing(left: dict[str, Any], whole: dict[str, Any]) -> set[str]:
    """The kinds in which they differ by more than rounding."""
    scale = max(float(gradient.abs().max()) for gradient in whole["gradients"].values())
    found = set()
    for kind, atol in (("losses", 1e-5), ("gradients", 1e-5 * scale), ("buffers", 1e-5)):
        try:
            torch.testing.assert_close(left[kind], whole[kind], atol=atol, rtol=1e-4)
        except AssertionError:
            found.add(kind)
    return found


def switched(family: str, **on: Any) -> dict[str, Any]:
    """A config without statistics that are a part's, but for what is `on`."""
    known = find(*family.split("/")).Config.model_fields
    return CONFIG.get(family, {}) | {name: value for name, value in (OFF | on).items() if name in known}


CUTS = [  # the last stage of each, and the first where it is another
    pytest.param(name, progress, parts, marks=mark)
    for names, progress in ((MEMBERS, 1.0), (sorted(STAGED), 0.0))
    for name in names
    for parts, mark in (
        (2, () if name in FAST else pytest.mark.slow),
        (11, pytest.mark.slow if name in FAST else pytest.mark.nightly),
    )
]


@pytest.mark.parametrize(("family", "progress", "parts"), CUTS)
def test_parts_of_a_batch_teach_what_the_whole_does(
    make_learner: Callable[..., Learner], batch: Batch, family: str, parts: int, progress: float
) -> None:
    """Losses, gradients and buffers, in the first stage and the last; without the statistics that the card says are a part's."""
    batch = replace(batch, progress=progress)
    whole, cut = (make_learner(family, config=switched(family)) for _ in range(2))
    expected = stepped(whole, batch, parts=1)
    assert len(expected["gradients"]) > 3
    assert differing(stepped(cut, batch, parts=parts), expected) == set()
    assert torch.equal(whole.rng.get_state(), cut.rng.get_state())


def has(family: str, statistic: str) -> bool:
    """Whether the card names the statistic, or its config can switch it on."""
    key, on = (*family.split("/"),), PER_PART[statistic]
    return statistic in cards()[key][0].per_part or (bool(on) and on.keys() <= find(*key).Config.model_fields.keys())


def test_every_statistic_of_a_card_is_known_here() -> None:
    assert {each for card, _, _ in cards().values() for each in card.per_part} == PER_PART.keys()


@pytest.mark.parametrize("family", ["vae/vq", "diffusion/latent"])
def test_parts_of_a_batch_teach_a_discriminator_and_by_it_what_the_whole_does(
    make_learner: Callable[..., Learner], batch: Batch, family: str
) -> None:
    """The second step's weight of it is made of the slopes of the whole first one."""
    config = switched(family) | {"adversarial": 0.5, "laplacian": 0.1, "discriminator_width": 8}
    whole, cut = (make_learner(family, config=config) for _ in range(2))
    batch = replace(batch, progress=0.6 * whole.family.config.autoencoder_share)
    expected = stepped(whole, batch, parts=1)
    assert any(name.startswith("discriminator.") for name in expected["gradients"])
    assert float(expected["buffers"]["discriminator.slope_score"].norm()) > 0
    assert differing(stepped(cut, batch, parts=2), expected) == set()
    assert torch.equal(whole.rng.get_state(), cut.rng.get_state())


@pytest.mark.parametrize(("family", "statistic"), [(name, each) for name in MEMBERS for each in PER_PART if has(name, each)])
def test_what_is_a_parts_own_is_on_the_card(
    make_learner: Callable[..., Learner], batch: Batch, family: str, statistic: str
) -> None:
    config, conditional = switched(family, **PER_PART[statistic]), statistic == "mean styles"
    whole, cut = (make_learner(family, config=config, conditional=conditional) for _ in range(2))
    norms = statistic == "batch normalisation"
    batch = replace(batch, progress=0.0 if statistic == "contrasts" else 1.0)
    expected = stepped(whole, batch, parts=1, norms=norms)
    assert differing(stepped(cut, batch, parts=2, norms=norms), expected)
    assert statistic in cards()[*family.split("/")][0].per_part


def test_some_of_each_family_are_fast() -> None:
    assert set(MEMBERS) >= FAST
    assert {name.split("/")[0] for name in FAST} == {family for family, _ in cards()}


@pytest.mark.parametrize("family", EACH)
def test_a_step_does_not_wait_for_the_device(
    make_learner: Callable[..., Learner], batch: Batch, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first steps nothing asks a tensor for its value. On a GPU `one_hot` does not look at the labels."""

    class Refuse(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.overloadpacket.__name__
            masks = name in INDEXED and any(index is not None and index.dtype is torch.bool for index in args[1])
            assert name not in WAITS
            assert not masks
            return func(*args, **(kwargs or {}))

    monkeypatch.setattr(F, "one_hot", lambda labels, k: (labels[..., None] == torch.arange(k)).long())
    learner = make_learner(family, conditional="class" in cards()[*family.split("/")][0].conditioning)
    for _ in range(2):
        learner.step(batch, rate=1e-3)

    def refuse(*_: Any) -> None:
        raise AssertionError("a step asks for values on the host")

    for name in TO_THE_HOST:
        monkeypatch.setattr(Tensor, name, refuse)
    for progress in (0.0, 1.0):
        with Refuse():
            learner.step(replace(batch, progress=progress), rate=1e-3)


def test_channels_last_learns_the_same_and_resumes_with_the_same_bits(
    make_learner: Callable[..., Learner], batch: Batch, tmp_path: Path
) -> None:
    plain, last, again = (make_learner("diffusion/edm", channels_last=flag) for flag in (False, True, True))
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in last.family.parameters() if p.dim() == 4)
    for _ in range(2):
        losses = plain.step(batch, rate=1e-3), last.step(batch, rate=1e-3)
        torch.testing.assert_close(losses[1], losses[0])
    save_state(tmp_path / "state", last.state())
    again.load_state(load_state(tmp_path / "state"))
    for learner in (last, again):
        learner.step(batch, rate=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(last.family.parameters(), again.family.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(
    "family", [pytest.param("vae/gaussian", marks=pytest.mark.slow), pytest.param("gan/r3gan", marks=pytest.mark.nightly)]
)
def test_compiled_learns_the_same(make_learner: Callable[..., Learner], batch: Batch, family: str) -> None:
    config = {"dropout": 0.0} if family == "vae/gaussian" else {}
    plain, compiled = (make_learner(family, compiled=flag, config=config) for flag in (False, True))
    for _ in range(2):
        losses = plain.step(batch, rate=1e-3), compiled.step(batch, rate=1e-3)
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-4)


class Slope(nn.Module):
    """D(x) = a x, of the first pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.7))

    def forward(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        return self.a * x_BCHW[:, 0, 0, 0]


class Constant(nn.Module):
    """G(z) = one value everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(0.4))

    def forward(self, z_BZ: Tensor, labels_B: Tensor | None) -> Tensor:
        return self.value.expand(len(z_BZ), 1, 8, 8)


def test_the_generator_learns_from_the_critic_that_has_moved(make_plan: Any, batch: Batch) -> None:
    """By hand: D's loss is a (g - r) + 10 (a - 1)^2, with a slope below 0, so that Adam's first step takes a up by the rate h;
    G's is -a' g then, with the slope -(a + h). At k = 3 that is after D's third step."""
    for every in (1, 3):
        plan = make_plan("gan/wgan-gp", config={"shift": 0.0, "critic_steps": every, "clip_norm": None})
        family = build(plan)
        critic, player = Slope(), Constant()
        family.discriminator, family.generator = critic, player
        learner = Learner(family, plan, TrainingDevice(torch.device("cpu")))
        h = 0.05 / learner.family.rates()["discriminator"]
        for step in range(every):
            assert player.value.item() == pytest.approx(0.4), "G waits for its turn"
            learner.step(replace(batch, step=step), rate=h)
            moved = critic.a.item()
            assert moved > 0.7 + 0.04 * (step + 1)
        assert player.value.grad is not None
        assert player.value.grad.item() == pytest.approx(-moved)


@pytest.fixture
def make_trainer(make_plan: Any, digits: Any, tracker: Any) -> Callable[..., Trainer]:
    def make(family: str = "diffusion/edm", **more: Any) -> Trainer:
        plan = make_plan(family, **more)
        return Trainer(build(plan), plan, split=digits, quality=lambda _: Reading(distance=1.0), tracker=tracker)

    return make


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_taken_in_parts(make_trainer: Callable[..., Trainer], tracker: Any) -> None:
    make_trainer(folder="roomy").run()
    (_, whole), *_ = tracker.series("train/micro_batches").items()
    losses = tracker.series("train/loss_model")
    tracker.logged.clear()
    tight = make_trainer(folder="tight")
    needed = memory.weighed(memory.Trial(tight.family, tight.learner.on))
    limit = needed(4, recomputed=False)
    assert needed(4, recomputed=True) < limit < needed(8, recomputed=True)  # of the fewest parts the way that recomputes nothing
    tight.plan = tight.plan.model_copy(update={"memory_gb": limit / 1e9})
    kept = tight.run()
    assert (whole, tracker.series("train/micro_batches"), tracker.series("train/recomputing")) == (1, {0: 4}, {0: 0})
    assert tracker.series("train/loss_model") == pytest.approx(losses, rel=1e-3)
    assert kept.memory is not None
    assert (kept.memory.items, kept.memory.parts, kept.memory.measured) == (16, 4, False)
    assert kept.memory.needed_gb == pytest.approx(kept.memory.free_gb)
    assert kept.memory.asked_gb == pytest.approx(needed(16, recomputed=False) / 1e9)
    assert kept.memory.peak_gb > 0.05


@pytest.mark.slow
def test_a_batch_that_does_not_fit_keeps_less_before_it_is_cut(
    make_trainer: Callable[..., Trainer], tracker: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """Recomputing changes no bit of what is learnt, parts do by rounding; who resumes goes on in the same way."""
    config = {"blocks": 3, "dropout": 0.1}
    whole = make_trainer(folder="roomy", config=config).run()
    tight = make_trainer(folder="tight", config=config)
    needed = memory.weighed(memory.Trial(tight.family, tight.learner.on))
    assert needed(16, recomputed=True) < 0.7 * needed(16, recomputed=False)
    tracker.logged.clear()
    tight.plan = tight.plan.model_copy(update={"memory_gb": 1.01 * needed(16, recomputed=True) / 1e9})
    tight.stop("to look at")
    with pytest.raises(TrainingFailed, match="to look at"):
        tight.run()
    kept = make_trainer(folder="tight", config=config).run()  # with all the memory there is
    assert tracker.series("train/recomputing") == {0: 1, 1: 1}
    assert set(tracker.series("train/micro_batches").values()) == {1}
    assert kept.weights.sha256 == whole.weights.sha256
    assert kept.memory is not None
    assert kept.memory.asked_gb == pytest.approx(needed(16, recomputed=False) / 1e9)  # of one that goes on, too
    said = capfd.readouterr().err
    assert re.search(
        r"memory: 16 items take about 0.\d+ GB; taken with activations computed again in the backward pass, about", said
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a program is read where Linux tells it")
@pytest.mark.parametrize(
    ("family", "items", "again"),
    [
        ("vae/gaussian", 64, ""),
        pytest.param("diffusion/edm", 16, "", marks=pytest.mark.nightly),
        pytest.param("diffusion/edm", 32, "again", marks=pytest.mark.nightly),
        pytest.param("autoregressive/pixelcnn", 16, "again", marks=pytest.mark.nightly),
        ("gan/r3gan", 32, ""),
    ],
)
def test_a_step_takes_no_more_memory_than_is_expected_and_not_much_less(family: str, items: int, again: str) -> None:
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("peak.py")), family, str(items), again]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0.35 < told["grew"] / told["expected"] < 1


def test_what_never_fits_is_refused_in_one_line(make_trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(TrainingFailed, match=r"on one item takes 0.00\d+ GB of memory, and there are 1e-06 GB; free some"):
        make_trainer(memory_gb=1e-6).run()


def test_a_run_that_goes_on_keeps_its_parts(make_trainer: Callable[..., Trainer], tracker: Any) -> None:
    first = make_trainer()
    first.learner.parts = 2
    first.stop("to look at")
    with pytest.raises(TrainingFailed):
        first.run()
    make_trainer().run()
    assert tracker.series("train/micro_batches") == {0: 2, 1: 2}


def test_a_trial_leaves_the_family_and_the_generators_as_they_were(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner("flow/glow")
    weights = {name: value.clone() for name, value in learner.family.state_dict().items()}
    states = torch.get_rng_state(), learner.rng.get_state()
    found = memory.fit_into_memory(learner.family, learner.on, items=16)
    assert (found.parts, found.recomputing) == (1, False)
    assert all(torch.equal(value, weights[name]) for name, value in learner.family.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(learner.rng.get_state(), states[1])


def test_a_gpu_that_is_full_takes_half(make_learner: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says when it is; no GPU is needed to say it."""
    for name in ("reset_peak_memory_stats", "empty_cache", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: 0)
    learner = make_learner("vae/gaussian")
    trial = memory.Trial(learner.family, learner.on)
    losses = trial.losses

    def full(items: int, *, progress: float, turn: str) -> dict[str, Tensor]:
        if items > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(items, progress=progress, turn=turn)

    monkeypatch.setattr(trial, "losses", full)
    assert [trial.needed(items, recomputed=False) for items in (8, 4)] == [math.inf, 0]
    assert all(parameter.grad is None for parameter in learner.family.parameters())
