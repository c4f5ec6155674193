"""What a run keeps, logs and refuses, in this process."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components.core.arrays import Stored
from components.core.asked_labels import labels_like
from components.core.card import Card
from components.core.errors import RunError, TrainingFailed
from components.core.family import Batch, Family, FamilyConfig
from components.core.noise import NoiseInput
from components.core.records import Ceiling, Checkpoint, DataSpec, Reading
from components.training.checkpoint import restore_best
from components.training.plan import TrainPlan
from components.training.sampling import TorchSampler
from components.training.schedule import Budget
from components.training.start import build
from components.training.state import flatten, load_state
from components.training.trainer import Trainer
from components.training.tuning import LOSSES
from components.training.work import (
    Probe,
    Work,
    images_within,
    passes_of_sample,
    reading_images,
    reading_moments,
    work_within,
)

Made = Callable[..., Trainer]


@pytest.fixture
def make_trainer(digits: Any, tracker: Any) -> Made:
    def make(
        plan: TrainPlan, *, quality: Any = lambda images: Reading(distance=images.mean()), split: Any = digits, **more: Any
    ) -> Trainer:
        return Trainer(build(plan), plan, split=split, quality=quality, tracker=tracker, **more)

    return make


def readings_that(*values: float) -> Callable[[Stored], Reading]:
    left: Iterator[float] = iter(values)
    return lambda images: Reading(distance=next(left))


def test_an_early_reading_that_was_best_is_kept(make_plan: Any, make_trainer: Made, tracker: Any) -> None:
    checkpoint = make_trainer(make_plan(steps=20), quality=readings_that(0.9, 0.2, 0.5, 0.6, 0.3, 0.7)).run()
    assert (checkpoint.step, checkpoint.quality) == (5, 0.2)
    assert (checkpoint.steps_total, checkpoint.stopped_by, checkpoint.items_seen) == (20, "items_seen", 20 * 16)
    assert tracker.series("train/fd") == {2: 0.9, 5: 0.2, 10: 0.5, 14: 0.6, 17: 0.3, 20: 0.7}


@pytest.mark.parametrize(
    ("distances", "improving"), [((0.9, 0.7, 0.5, 0.4, 0.3, 0.2), True), ((0.9, 0.2, 0.2, 0.2, 0.2, 0.2), False)]
)
def test_it_says_whether_it_was_still_improving(
    make_plan: Any, make_trainer: Made, distances: tuple[float, ...], improving: bool
) -> None:
    """By these readings, which have no noise; the last is kept of both."""
    checkpoint = make_trainer(make_plan(steps=20), quality=readings_that(*distances)).run()
    assert (checkpoint.step, checkpoint.improving) == (checkpoint.steps_total, improving)


def test_the_kept_weights_are_those_that_were_read(make_plan: Any, make_trainer: Made, digits: Any) -> None:
    """Restored, they draw the very images that the signal saw at that step."""
    seen: list[Stored] = []
    values = readings_that(0.9, 0.8, 0.1, 0.6, 0.3, 0.7)
    plan = make_plan("gan/sngan", steps=20, conditional=True)
    checkpoint = make_trainer(plan, quality=lambda images: seen.append(images) or values(images)).run()
    family = restore_best(plan, checkpoint)
    assert not family.training
    sampler = TorchSampler(family, subject="torch:x", steps=plan.signal_steps)
    asked = labels_like(np.bincount(digits.labels), 4, seed=0)
    assert np.array_equal(sampler(range(4), asked), seen[2])
    assert not np.array_equal(seen[2], seen[5])


@pytest.mark.parametrize("solver", ["ancestral", "ddim"])
def test_a_reading_takes_no_more_steps_than_the_model_draws_with(make_plan: Any, make_trainer: Made, solver: str) -> None:
    """Ancestral sampling has a noise image for each of its steps and no more."""
    make_trainer(make_plan("diffusion/ddpm", steps=4, signal_steps=8, config={"solver": solver, "steps": 3})).run()


def test_classes_are_asked_for_as_often_as_the_training_items_have_them(
    make_plan: Any, digits: Any, make_split: Any, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten classes, of which one is nine of ten items: asked for equally often, a perfect model would look four times worse."""
    plan = make_plan("gan/sngan", conditional=True, signal_images=40)
    split = make_split(digits.images, np.where(np.arange(96) % 10 == 0, digits.labels, 3))
    asked: list[Any] = []

    def drawn(sampler: TorchSampler, seeds: Any, given: Any = None) -> Stored:
        asked.append(given)
        return digits.images[: len(seeds)]

    monkeypatch.setattr(TorchSampler, "__call__", drawn)
    trainer = Trainer(build(plan), plan, split=split, quality=lambda _: Reading(distance=1.0), tracker=tracker)
    trainer.readings.seconds(40, clock=lambda: 0.0)
    counts = np.bincount(asked[0], minlength=10)
    assert np.abs(counts - 40 * np.bincount(split.labels, minlength=10) / 96).max() <= 1


def test_readings_take_a_tenth_of_the_work_or_the_least_that_tell(make_plan: Any) -> None:
    """In passes of the network; by the items alone, so that the same work keeps the same weights everywhere."""
    few, many = make_plan("vae/gaussian", signal_images=None), make_plan("diffusion/edm", signal_images=None)
    passes = passes_of_sample(build(make_plan("diffusion/edm", config={"steps": 18})), 8)
    assert passes == pytest.approx(15, abs=1)
    for items, one_pass, many_steps in ((1_000, 128, 128), (10_000, 500, 128), (100_000, 1024, 321), (10**7, 1024, 1024)):
        assert reading_images(few, items, passes=1) == one_pass
        assert reading_images(many, items, passes=passes) == many_steps
        assert many_steps == 128 or 6 * many_steps * passes <= 0.1 * 3 * items * 1.01
    assert reading_images(make_plan(signal_images=7), 10**7, passes=1) == 7


def test_a_short_fine_tuning_is_read_three_times(make_plan: Any, a_base: Any, tuned: Any) -> None:
    """Its readings take less than a fifth of its passes, or there are three."""
    scratch = make_plan("diffusion/edm", signal_images=None)
    plan = tuned(a_base("diffusion/edm"), signal_images=None)
    for items, times in ((1_000, 3), (9_600, 3), (15_300, 3), (15_400, 6), (10**6, 6)):
        moments = reading_moments(plan, items, passes=8)
        assert (len(moments), moments[-1]) == (times, 1.0)
        assert times == 3 or 0.2 * 3 * items >= 6 * (128 * 8 + LOSSES)
        assert len(reading_moments(scratch, items, passes=8)) == 6


def test_readings_of_what_draws_slowly_leave_most_of_a_ceiling_to_the_training(make_plan: Any) -> None:
    """Six of them: as many images as a third of the ceiling affords, 32 at least and 128 at most."""
    plan = make_plan(signal_images=None, steps=None, ceiling=Ceiling(name="compute.minutes", seconds=180.0))
    for image_s, images in ((0.01, 128), (0.09, 111), (0.19, 52), (5.0, 32)):
        assert images_within(plan, image_s, least=128, readings=6) == images
    assert images_within(make_plan(signal_images=7, ceiling=plan.ceiling), 5.0, least=7, readings=6) == 7


def test_a_slow_reading_is_small(make_plan: Any, make_trainer: Made, tmp_path: Path) -> None:
    """A second for each image would leave nothing of 30 seconds."""
    trainer = make_trainer(make_plan(steps=None, signal_images=None, ceiling=Ceiling(name="compute.minutes", seconds=30.0)))
    trainer.budget = Budget(ceiling_s=30.0)
    trainer._fit_into_memory()
    trainer.readings.seconds = lambda images, clock: 0.1 * images  # type: ignore[method-assign]
    trainer._settle_work()
    work = Work.read(tmp_path / "run" / "work.json")
    assert work.reading_images == trainer.readings.images == 32
    assert work.probe is not None
    assert work.probe.reading_s == pytest.approx(3.2)


def test_the_average_trails_the_weights(make_plan: Any, make_trainer: Made) -> None:
    trainer = make_trainer(make_plan(steps=12, config={"ema_decay": 0.9}))
    start = {name: value.clone() for name, value in trainer.average.family.state_dict().items()}
    trainer.run()
    average, raw = trainer.average.family.state_dict(), trainer.family.state_dict()
    for name in ("decoder.stem.weight", "encoder.head.weight"):
        moved, ahead = (average[name] - start[name]).norm(), (raw[name] - start[name]).norm()
        assert 0 < moved < ahead
        assert not torch.equal(average[name], raw[name])


def test_the_average_copies_running_statistics(make_plan: Any, make_trainer: Made) -> None:
    trainer = make_trainer(make_plan("vae/vq"))
    trainer.run()
    for own, trained in zip(trainer.average.family.buffers(), trainer.family.buffers(), strict=True):
        assert torch.equal(own, trained)


def test_losses_rates_and_grids_reach_the_tracker(make_plan: Any, make_trainer: Made, tracker: Any) -> None:
    make_trainer(make_plan("gan/sngan", steps=10, config={"warmup_steps": 4, "lr_peak": 1e-3, "decay_from": 0.5})).run()
    assert set(tracker.series("train/loss_generator")) == set(range(1, 11)), "saved at each step, so logged at each"
    assert set(tracker.series("train/loss_discriminator")) == set(range(1, 11))
    rates = tracker.series("train/lr")
    assert rates[1] == pytest.approx(0.25e-3)
    assert rates[4] == rates[6] == pytest.approx(1e-3)
    assert rates[10] == pytest.approx(0.2e-3)
    seconds = list(tracker.series("train/seconds").values())
    assert seconds == sorted(seconds)
    assert [(name, step) for name, step, _ in tracker.images] == [("samples", step) for step in (1, 3, 5, 7, 9, 10)]
    assert all(shape[2] == 1 for _, _, shape in tracker.images)


@pytest.mark.parametrize("state_every_s", [1e-9, 3600.0])
def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(
    make_plan: Any, make_trainer: Made, tmp_path: Path, state_every_s: float
) -> None:
    plan = make_plan(steps=40, state_every_s=state_every_s, config={"lr_peak": 1e18, "warmup_steps": 0, "clip_norm": None})
    with pytest.raises(
        TrainingFailed, match=r"(the loss of model is (nan|inf)|the weights are not finite) at step \d+"
    ) as caught:
        make_trainer(plan).run()
    assert "lower override.config.lr_peak (now 1e+18)" in str(caught.value)
    assert "\n" not in str(caught.value)
    state = load_state(tmp_path / "run" / "state.safetensors")
    weights = state["model"]["weights"] if state else {}
    assert all(bool(value.isfinite().all()) for value in weights.values()), "a state that cannot be gone on with is not saved"


def test_a_signal_that_is_not_finite_ends_the_run(make_plan: Any, make_trainer: Made) -> None:
    with pytest.raises(TrainingFailed, match="the samples of step 1 are not finite"):
        make_trainer(make_plan(), quality=lambda images: Reading(distance=float("nan"))).run()


class Clock:
    """Seconds that pass where a test says so: so many at each look."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def test_a_ceiling_becomes_items_seen_by_a_probe(make_plan: Any, make_trainer: Made, tmp_path: Path) -> None:
    """The number stands beside the state; written into a plan of its own it gives the same weights."""
    plan = make_plan(steps=None, ceiling=Ceiling(name="compute.minutes", seconds=2.0))
    probed = make_trainer(plan).run()
    work = Work.read(tmp_path / "run" / "work.json")
    assert probed.items_planned == work.items_seen
    assert work.items_seen % 16 == 0
    assert work.probe is not None
    assert not work.enough
    again = make_trainer(make_plan(folder="again", steps=None, items_seen=work.items_seen)).run()
    if probed.stopped_by == "items_seen":  # it may have met its ceiling on a machine that slowed down
        assert again.weights == probed.weights
    assert (again.steps_total, again.items_seen) == (work.items_seen // 16, work.items_seen)


def test_what_a_probe_finds_is_spent(make_plan: Any) -> None:
    """By the formula: 98 % of the ceiling, less the readings and what is spent, in whole steps; and never nothing."""
    probe = Probe(step_s=0.5, reading_s=1.0)
    plan = make_plan(steps=None, ceiling=Ceiling(name="compute.usd", seconds=100.0))
    found = {"whole": 16, "readings": 6, "spent_s": 4.0, "threads": 2}
    work = work_within(plan, probe, **found)
    assert (work.items_seen, work.threads, work.enough) == (16 * 176, 2, False)
    assert work_within(plan.model_copy(update={"items_enough": 16 * 176}), probe, **found).enough
    few = work_within(plan.model_copy(update={"items_enough": 99}), probe, **found)
    assert (few.items_seen, few.enough) == (99, True)
    assert work_within(plan, Probe(step_s=1e3, reading_s=1e3), **found).items_seen == 16


@pytest.mark.parametrize("family", ["gan/sngan", "diffusion/latent"])
def test_a_probe_leaves_nothing_behind(make_plan: Any, make_trainer: Made, family: str) -> None:
    """The model, its average, the optimizers and every generator are as without it."""
    plan = make_plan(family, steps=None, ceiling=Ceiling(name="compute.minutes", seconds=0.5))
    probed, other = make_trainer(plan), make_trainer(make_plan(family, folder="other"))
    probed.budget = Budget(ceiling_s=0.5)
    probed._fit_into_memory()
    probed._settle_work()
    for trainer in (probed, other):
        trainer.step = 3
    flat = [flatten("", trainer.learner.state()) for trainer in (probed, other)]
    assert flat[0][0].keys() == flat[1][0].keys()
    assert all(torch.equal(value, flat[1][0][name]) for name, value in flat[0][0].items())
    assert flat[0][1] == flat[1][1]


def test_a_ceiling_that_is_reached_first_ends_it_with_the_best_weights(
    make_plan: Any, make_trainer: Made, tracker: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(steps=10**9, ceiling=Ceiling(name="compute.usd", seconds=50.0))
    trainer = make_trainer(plan, quality=readings_that(0.5, 0.4), clock=Clock(1.0))
    checkpoint = trainer.run()
    assert checkpoint.stopped_by == "compute.usd"
    assert (checkpoint.quality, checkpoint.items_planned) == (0.5, 16 * 10**9)
    assert 40 < checkpoint.train_s < 60
    assert checkpoint.step == checkpoint.steps_total == checkpoint.items_seen // 16 >= 1
    assert "ended by compute.usd (50 s) after" in capfd.readouterr().err
    assert make_trainer(plan).run() == checkpoint, "it has ended; nothing is trained again"


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_its_items_and_threads(make_plan: Any, make_trainer: Made, tmp_path: Path) -> None:
    """As another machine would go on: with more cores, and without a probe of its own."""
    plan = make_plan(steps=None, ceiling=Ceiling(name="compute.minutes", seconds=60.0), items_enough=16 * 2, threads=0)
    first = make_trainer(plan)
    first.stop("to look at")
    with pytest.raises(TrainingFailed):
        first.run()
    known = Work.read(tmp_path / "run" / "work.json")
    assert (known.items_seen, known.enough) == (16 * 2, True)
    known.model_copy(update={"threads": 2}).write(tmp_path / "run" / "work.json")
    before = torch.get_num_threads()
    try:
        checkpoint = make_trainer(plan).run()
    finally:
        torch.set_num_threads(before)
    assert (checkpoint.threads, checkpoint.items_seen) == (2, 16 * 2)


def test_stop_saves_and_the_next_run_goes_on(make_plan: Any, make_trainer: Made, digits: Any, make_split: Any) -> None:
    plan = make_plan(steps=6, state_every_s=3600.0, config={"components": 0})  # so that nothing but steps takes items
    takes = count(1)

    class Stopping(make_split):  # type: ignore[misc]
        def take(self, indices: Any) -> Stored:
            if next(takes) == 4:
                trainer.stop("asked to")
            return digits.take(indices)

    trainer = make_trainer(plan, split=Stopping(digits.images, digits.labels))
    with pytest.raises(TrainingFailed) as caught:
        trainer.run()
    assert str(caught.value) == "training was stopped at step 4: asked to; run it again to go on"
    state = load_state(trainer.state_path)
    assert state is not None
    assert state["run"]["step"] == 4
    assert make_trainer(plan).run().steps_total == 6


@pytest.fixture
def stopped(make_plan: Any, make_trainer: Made) -> TrainPlan:
    """A plan whose run was stopped after its first step."""
    plan: TrainPlan = make_plan()
    trainer = make_trainer(plan)
    trainer.stop("to look at")
    with pytest.raises(TrainingFailed):
        trainer.run()
    return plan


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\xff" * 64 + data])
def test_a_damaged_state_is_refused_in_one_line(stopped: TrainPlan, make_trainer: Made, damage: Any) -> None:
    path = Path(stopped.folder) / "state.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunError, match=r"the saved training state is damaged .*; delete it to train from the start") as caught:
        make_trainer(stopped).run()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"config": {"lr_peak": 1e-5}}, {"config": {"width": 32}}, {"family": "gan/sngan"}]
)
def test_a_state_of_another_run_is_refused(stopped: TrainPlan, make_plan: Any, make_trainer: Made, change: Any) -> None:
    with pytest.raises(RunError, match="its saved training state is of another family, config, dataset, seed or start; delete"):
        make_trainer(make_plan(**change)).run()
    assert make_trainer(stopped).run().steps_total == 6


def test_a_stopped_run_may_get_more_steps(stopped: TrainPlan, make_trainer: Made) -> None:
    assert make_trainer(stopped.model_copy(update={"items_seen": 9 * 16})).run().steps_total == 9


def test_changed_weights_are_refused(make_plan: Any, make_trainer: Made) -> None:
    plan = make_plan(steps=2)
    trainer = make_trainer(plan)
    checkpoint = trainer.run()
    path = trainer.best_path(checkpoint)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"weights.safetensors: missing or changed since training; run produce again") as caught:
        restore_best(plan, checkpoint)
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(RunError, match="missing or changed"):
        restore_best(plan, checkpoint)


def test_a_checkpoint_says_what_it_is_of(make_plan: Any, make_trainer: Made) -> None:
    plan = make_plan(conditional=True, steps=2)
    trainer = make_trainer(plan)
    checkpoint = trainer.run()
    assert Checkpoint.read(trainer.finished_path) == checkpoint
    assert (checkpoint.family, checkpoint.variant, checkpoint.spec) == (plan.family, plan.variant, plan.spec)
    assert (checkpoint.dataset_md5, checkpoint.run_id) == (plan.dataset.md5, plan.run_id)
    assert checkpoint.config == restore_best(plan, checkpoint).config.model_dump(mode="json")
    assert checkpoint.config["ema_decay"] == 0.999, "defaults are written down"


@pytest.mark.parametrize("n", [5, 16, 20])
def test_a_split_smaller_than_a_batch_trains(make_plan: Any, make_trainer: Made, digits: Any, make_split: Any, n: int) -> None:
    split = make_split(digits.images[:n], digits.labels[:n])
    assert make_trainer(make_plan(items_seen=3 * min(n, 16)), split=split).run().steps_total == 3


def test_initial_weights_depend_on_the_seed_alone(make_plan: Any) -> None:
    torch.manual_seed(7)
    one, two, other = (build(make_plan(seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


class TwoPlayers(Family):
    """Two numbers, each pulled the other way by the other's loss: a stray gradient would turn its sign."""

    card = Card(
        family="gan", variant="two-players", title="toy", modalities=("image",), likelihood="none", latent=False, steps=1,
        side_max=8, data_appetite=1, references=("none",),
    )  # fmt: skip
    Config = FamilyConfig

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(FamilyConfig(lr_peak=0.01, batch_size=8, warmup_steps=0, clip_norm=None), spec)
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"a": [self.a], "b": [self.b]}

    def rates(self) -> dict[str, float]:
        return {"a": 1.0, "b": 3.0}

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        return {"a": self.a - 5 * self.b, "b": self.b - 5 * self.a}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="z", shape=self.spec.shape),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        return nn.Tanh()


def test_each_group_moves_by_its_own_loss_at_its_own_rate(make_plan: Any, digits: Any, tracker: Any) -> None:
    plan = make_plan(items_seen=1)
    family = TwoPlayers(plan.spec)
    Trainer(family, plan, split=digits, quality=lambda images: Reading(distance=1.0), tracker=tracker).run()
    rate = 0.01  # Adam's first step is the rate, against the sign of the gradient
    assert family.a.item() == pytest.approx(-rate, rel=1e-3)
    assert family.b.item() == pytest.approx(-3 * rate, rel=1e-3)


def test_gradients_are_clipped_where_the_config_says_so(make_plan: Any, make_trainer: Made) -> None:
    """A clip of nearly nothing leaves Adam's epsilon in charge: the weights hardly move."""

    def moved(clip_norm: float | None) -> float:
        plan = make_plan(folder=f"clip-{clip_norm}", steps=1, config={"clip_norm": clip_norm, "warmup_steps": 0})
        trainer = make_trainer(plan)
        before = [p.detach().clone() for p in trainer.family.parameters()]
        trainer.run()
        return max(float((p.detach() - q).abs().max()) for p, q in zip(trainer.family.parameters(), before, strict=True))

    assert moved(1e-10) < 0.1 * moved(None)


def test_the_average_is_calibrated_before_each_reading(
    make_plan: Any, make_trainer: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On all training items where they are few, as it will draw, and without gradients."""
    events: list[Any] = []

    def calibrate(family: Family, batches: Iterator[Batch]) -> None:
        items = sum(len(batch.x) for batch in batches)
        events.append((items, family.training, torch.is_grad_enabled(), next(family.parameters()).requires_grad))

    def quality(images: Stored) -> Reading:
        events.append("reading")
        return Reading(distance=images.mean())

    monkeypatch.setattr("components.families.vae.GaussianVAE.calibrate", calibrate)
    make_trainer(make_plan(steps=20), quality=quality).run()
    assert events == [(96, False, False, False), "reading"] * 6


def test_a_stage_learns_at_its_share_of_the_rate(make_plan: Any, make_trainer: Made, tracker: Any) -> None:
    """Consistency tuning, after the diffusion that it begins with."""
    tuned = {"lr_peak": 1e-3, "decay_from": 1.0, "warmup_steps": 0, "teacher_share": 0.6, "tuning_rate": 0.2}
    make_trainer(make_plan("diffusion/ect", steps=20, config=tuned)).run()
    rates = {step: rate for step, rate in tracker.series("train/lr").items() if rate}
    assert set(map(float, rates.values())) == {1e-3, 2e-4}
    assert all((rate < 1e-3) == (step - 1 >= 12) for step, rate in rates.items())
