"""The codes of all items, computed once for the second stage: what is learnt stays the same, and what was killed goes on."""

import re
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from components.core.brief import LoraBrief
from components.core.records import Ceiling, MemoryUse, Reading
from components.families import cards, find
from components.families.two_stages import TwoStageFamily
from components.training import codes
from components.training.adapter.merging import adapt
from components.training.codes import Keepable
from components.training.distillation.consistency import LatentConsistencyStudent
from components.training.start import build
from components.training.trainer import Trainer
from components.training.tuning import Drawn, WithPrior
from components.training.work import MOMENTS, Probe, known_work, work_within

NAMES = sorted("/".join(key) for key in cards() if issubclass(find(*key), TwoStageFamily))
SLOW, NIGHTLY = pytest.mark.slow, pytest.mark.nightly
MEMBERS = [pytest.param(name, marks=() if name == "vae/vq" else NIGHTLY) for name in NAMES]
KILLED = [pytest.param(name, marks=SLOW if name == "diffusion/latent" else NIGHTLY) for name in NAMES]
STEPS = 40  # of 16 of 96 items: the second stage sees each of them four times
BEGINS = {name: find(*name.split("/")).Config.model_fields["autoencoder_share"].default for name in NAMES}
NO_CHANCE = {"dropout": 0.0}  # which is drawn from torch's own generator


@pytest.fixture
def make_trainer(make_plan: Any, digits: Any, tracker: Any) -> Callable[..., Trainer]:
    def make(family: str, *, quality: Any = lambda _: Reading(distance=1.0), split: Any = digits, **more: Any) -> Trainer:
        plan = make_plan(family, **({"steps": STEPS} | more))
        return Trainer(build(plan), plan, split=split, quality=quality, tracker=tracker)

    return make


def encoder_calls(trainer: Trainer) -> list[int]:
    """By the step in which it is called, as often as it is; an autoencoder's first stage counted in."""
    calls: list[int] = []
    trainer.family.autoencoder.encoder.register_forward_hook(lambda *_: calls.append(trainer.step))
    return calls


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_kept_codes_is_that_of_the_items(make_trainer: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same bits, with the same draws: a posterior is drawn from anew in each step."""
    trainer = make_trainer(name)
    trainer.family.eval()
    batch = trainer._batch(1.0)
    kept = replace(batch, codes=codes.encoded(trainer.learner, batch.x))
    losses = [
        trainer.family.losses(each, torch.Generator().manual_seed(seed)) for each, seed in ((batch, 0), (kept, 0), (kept, 1))
    ]
    assert losses[0] == losses[1]
    assert losses[0].keys() == {"prior"}
    assert (losses[1] == losses[2]) == name.startswith(("vae", "autoregressive")), "codes of a codebook are not drawn"
    monkeypatch.setattr(trainer.family, "encoded", None)
    assert trainer.family.losses(kept, torch.Generator().manual_seed(0)) == losses[0], "the encoder is not asked"


@pytest.mark.parametrize("name", MEMBERS)
def test_a_second_stage_with_kept_codes_learns_the_same_and_never_encodes(
    make_trainer: Any, tracker: Any, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(name)
    begins, calls = int(STEPS * BEGINS[name]), encoder_calls(trainer)
    checkpoint = trainer.run()
    assert [step for step in calls if step >= begins] == [begins] * (96 // 16)
    assert checkpoint.memory.codes_gb == trainer.codes.size_bytes / 1e9 > 0
    assert tracker.series("train/codes_gb") == {0: checkpoint.memory.codes_gb}
    assert re.search(r"codes of 96 items: \S+ GB, computed once, and kept", capfd.readouterr().err)
    assert "codes of all items" in checkpoint.memory.text
    losses = tracker.series("train/loss_prior")
    tracker.logged.clear()
    monkeypatch.setattr(codes, "WORTH", 10**9)
    other = make_trainer(name, folder="other")
    calls = encoder_calls(other)
    assert other.run().memory.codes_gb == 0
    assert [step for step in calls if step >= begins] == list(range(begins, STEPS))
    assert tracker.series("train/loss_prior") == pytest.approx(losses, rel=1e-3)
    assert len(losses) > 3


@pytest.mark.parametrize("name", KILLED)
def test_a_run_killed_in_its_second_stage_ends_with_the_same_bits(forks: Any, make_plan: Any, name: str) -> None:
    """In the middle of an epoch: the codes are computed again, in the same pieces."""
    whole, killed = (make_plan(name, folder=folder, steps=STEPS) for folder in ("whole", "killed"))
    assert forks.train(killed, at="step", n=30)["exit"] == -signal.SIGKILL
    rest, expected = forks.train(killed), forks.train(whole)
    assert rest["seen"]["step"] == STEPS - 29
    assert rest["checkpoint"]["weights"] == expected["checkpoint"]["weights"]
    assert rest["readings"][-1] == expected["readings"][-1]
    assert rest["checkpoint"]["memory"]["codes_gb"] == expected["checkpoint"]["memory"]["codes_gb"] > 0


@NIGHTLY
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_with_kept_codes_learn_as_one(forks: Any, make_plan: Any, name: str) -> None:
    """Each encodes its share of the items, and has the codes of all."""
    plans = [make_plan(name, folder=f"of-{of}", steps=STEPS, config=NO_CHANCE if "vq" in name else {}) for of in (1, 2)]
    one, two = (forks.train(plan, of=of) for of, plan in enumerate(plans, start=1))
    assert {one["exit"], *two["exits"]} == {0}
    for alone, shared in zip(one["losses"], two["losses"], strict=True):
        assert shared == pytest.approx(alone, rel=2e-3)
    assert [told["checkpoint"]["memory"]["codes_gb"] > 0 for told in (one, two)] == [True, True]


def test_each_process_has_the_codes_of_all_items(make_trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shares of three processes, of pieces that do not come out even, are laid together without a gap."""
    item_codes = make_trainer("diffusion/latent", config={"batch_size": 10}).codes
    expected = item_codes._computed()
    shares = []
    monkeypatch.setattr(codes, "processes", lambda: 3)
    for number in range(3):
        monkeypatch.setattr(codes, "rank", lambda number=number: number)
        shares.append(item_codes._computed())
    for whole, *parts in zip(expected, *shares, strict=True):
        assert torch.equal(sum(parts), whole)
        assert len(whole) == 96


def test_each_item_gets_its_own_codes(make_trainer: Any, digits: Any, make_split: Any) -> None:
    """Also what a base drew, which prior preservation mixes in."""
    drawn = Drawn(255 - digits.images[:8], None)
    split = WithPrior(make_split(digits.images, digits.labels), drawn, share=0.2)
    trainer = make_trainer("diffusion/latent", split=split)
    trainer.codes.kept = True
    for trainer.step in (0, 9):
        batch = trainer.codes.beside(trainer._batch(1.0))
        for kept, own in zip(batch.codes, trainer.family.encoded(batch.x), strict=True):
            assert torch.allclose(kept, own, atol=1e-5)
    assert len(trainer.codes._tables[0]) == len(split) == 96 + 24


@NIGHTLY
def test_a_batch_in_parts_takes_its_codes_along(make_trainer: Any, tracker: Any) -> None:
    losses = []
    for parts in (1, 3):
        tracker.logged.clear()
        trainer = make_trainer("diffusion/latent", folder=f"of-{parts}")
        trainer.learner.parts = parts
        calls = encoder_calls(trainer)
        assert trainer.run().memory.codes_gb > 0
        begins = int(STEPS * BEGINS["diffusion/latent"])
        assert {step for step in calls if step >= begins} == {begins}
        losses.append(tracker.series("train/loss_prior"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@SLOW
def test_codes_that_take_too_much_memory_are_computed_in_each_step(
    make_trainer: Any, tracker: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """Both are trained to the end; a run that goes on where they no longer fit does the same."""
    roomy = make_trainer("diffusion/latent", folder="roomy").run().memory
    tight = make_trainer("diffusion/latent", folder="tight", memory_gb=roomy.needed_gb + roomy.codes_gb)
    calls = encoder_calls(tight)
    assert tight.run().memory.codes_gb == 0
    assert set(range(STEPS)) <= set(calls)
    assert "not kept for want of memory" in capfd.readouterr().err
    first = make_trainer("diffusion/latent", folder="shrunk")
    first.stop("to look at")
    with pytest.raises(Exception, match="to look at"):
        first.run()
    assert first.codes.kept
    shrunk = make_trainer("diffusion/latent", folder="shrunk", memory_gb=roomy.needed_gb + roomy.codes_gb)
    assert shrunk.run().memory.codes_gb == 0


@NIGHTLY
def test_what_was_not_kept_at_first_is_not_kept_later(make_trainer: Any) -> None:
    """So that the run goes on as it was."""
    roomy = make_trainer("diffusion/latent", folder="roomy").run().memory
    first = make_trainer("diffusion/latent", memory_gb=roomy.needed_gb + roomy.codes_gb)
    first.stop("to look at")
    with pytest.raises(Exception, match="to look at"):
        first.run()
    assert make_trainer("diffusion/latent").run().memory.codes_gb == 0


@SLOW
def test_a_rollback_computes_them_again(make_trainer: Any) -> None:
    """It takes other weights of the autoencoder, those of the average."""
    left = iter([0.5, 0.4, 0.9, 0.3, 0.3, 0.3])

    def quality(_: Any) -> Reading:
        return Reading(distance=(distance := next(left)), collapse="few modes" if distance == 0.9 else "")

    config = {"on_collapse": "rollback", "autoencoder_share": 0.3}
    trainer = make_trainer("diffusion/latent", quality=quality, config=config)
    calls = encoder_calls(trainer)
    trainer.run()
    begins, back = int(0.3 * STEPS), STEPS // 2
    assert [step for step in calls if step >= begins] == [begins] * 6 + [back] * 6


def test_a_training_that_sees_its_items_once_keeps_no_codes(make_trainer: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert make_trainer("diffusion/latent", steps=16).run().memory.codes_gb == 0
    assert "codes of" not in capfd.readouterr().err
    assert [Keepable(100, 0.5).is_worth(seen) for seen in (399, 400)] == [False, True]


def test_they_are_of_autoencoders_that_rest(make_trainer: Any, make_plan: Any) -> None:
    """From the first step beneath an adapter, and of a student; of one stage there are none."""
    assert {name: make_trainer(name).codes.begins for name in NAMES} == BEGINS
    family: Any = build(make_plan("diffusion/latent"))
    assert adapt(family, LoraBrief(rank=1), base_sha256="b", seed=0).encoded_from() == 0.0
    assert LatentConsistencyStudent.encoded_from(family) == 0.0  # type: ignore[arg-type]
    plain = make_trainer("diffusion/edm").codes
    assert plain.begins is None
    assert (
        plain.keepable(MemoryUse(items=1, parts=1, recomputing=False, free_gb=9, asked_gb=1, needed_gb=1, measured=False)) is None
    )


def test_a_ceiling_has_room_for_more_items_where_codes_are_kept(make_plan: Any) -> None:
    """By the formula: a step of the second stage is shorter by its encoding, and all items are encoded once."""
    plan = make_plan(steps=None, ceiling=Ceiling(name="compute.usd", seconds=100.0))
    probe, found = Probe(step_s=0.5, reading_s=1.0, encoding_s=0.4), {"whole": 16, "readings": 6, "spent_s": 4.0, "threads": 2}
    assert sum(moment >= 0.3 for moment in MOMENTS) / len(MOMENTS) == 0.75
    kept = work_within(plan, probe, **found, keepable=Keepable(96, 0.3))
    assert (kept.items_seen, kept.codes_kept) == (16 * int((88 - 6 * 0.4) / 0.2 + 1e-9), True)
    without = work_within(plan, probe, **found)
    assert (without.items_seen, without.codes_kept) == (16 * 176, False)
    many = work_within(plan, probe, **found, keepable=Keepable(16 * 180, 0.3))
    assert (many.items_seen, many.codes_kept) == (without.items_seen, False)
    enough = work_within(plan.model_copy(update={"items_enough": 200}), probe, **found, keepable=Keepable(96, 0.3))
    assert (enough.items_seen, enough.codes_kept, enough.enough) == (200, False, True)


def test_a_probe_measures_the_encoding(make_trainer: Any) -> None:
    trainer = make_trainer("diffusion/latent", steps=None, ceiling=Ceiling(name="compute.minutes", seconds=3.0))
    trainer._fit_into_memory()
    trainer._settle_work()
    assert trainer.codes.kept
    work = known_work(trainer.plan)
    assert work is not None
    assert work.probe is not None
    assert 0 < work.probe.encoding_s < work.probe.step_s
