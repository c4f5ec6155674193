"""Prior preservation against forgetting: real trainings of the same seeds, with and without what the base drew."""

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from components.core.records import Checkpoint, Reading
from components.training.checkpoint import restore
from components.training.start import build
from components.training.start.finetune import Finetune
from components.training.trainer import Trainer
from components.training.tuning import drawn_by_base, losses_of, with_prior

SEEDS = (0, 1, 2)
SHARE = 0.5
RECIPE = {"batch_size": 32, "lr_peak": 0.002, "ema_decay": 0.98}


@pytest.fixture
def styles(make_split: Any) -> tuple[Any, Any, Any, Any]:
    """Digits in white on black, to learn from and held out; and of other digits, few in black on white, and those held out."""
    raw = load_digits()
    images = (raw.images * 255 / 16).round().astype(np.uint8)[..., None]
    old, new = images[raw.target < 5], 255 - images[raw.target >= 5]
    parts = (old[:-64], old[-64:], new[:100], new[-64:])
    return tuple(make_split(part, np.zeros(len(part), np.int64)) for part in parts)


def trained(plan: Any, split: Any, tracker: Any) -> tuple[Checkpoint, Path]:
    """The last weights of a training, and where they lie."""
    family = build(plan)
    drawn = drawn_by_base(family, plan, split)
    quality = lambda images: Reading(distance=1.0)  # noqa: E731
    trainer = Trainer(family, plan, split=with_prior(split, drawn, plan), quality=quality, tracker=tracker)
    kept = trainer.run()
    return kept, trainer.best_path(kept)


@pytest.mark.nightly
def test_what_the_base_drew_lessens_forgetting_by_more_than_seeds_differ(make_plan: Any, tracker: Any, styles: Any) -> None:
    """The loss on real items of the base's own data that nothing learnt from. The same steps are taken either way, so the new
    style is learnt from half as many of its items; it is learnt nevertheless."""
    old, old_held_out, new, new_held_out = styles

    def loss(kept: tuple[Checkpoint, Path], split: Any) -> float:
        every = np.arange(len(split))
        return fmean(losses_of(restore(*kept), split.take(every), None, device=torch.device("cpu")))

    def plan(folder: str, **more: Any) -> Any:
        return make_plan("diffusion/edm", folder=folder, config=RECIPE, state_every_s=1e9, **more)

    base = trained(plan("base", steps=600), old, tracker)
    forgot: dict[float, list[float]] = {0.0: [], SHARE: []}
    learnt: dict[float, list[float]] = {0.0: [], SHARE: []}
    for seed in SEEDS:
        for share, lost in forgot.items():
            start = Finetune(base=base[0], weights=base[1], prior_preservation=share)
            tuned = trained(plan(f"{seed}-{share}", start=start, seed=seed, steps=300), new, tracker)
            lost.append(loss(tuned, old_held_out) - loss(base, old_held_out))
            learnt[share].append(loss(base, new_held_out) - loss(tuned, new_held_out))
    spared = [without - with_prior for without, with_prior in zip(forgot[0.0], forgot[SHARE], strict=True)]
    assert min(forgot[0.0]) > 0, "there is something to forget"
    assert fmean(spared) > 2 * stdev(spared)
    assert fmean(spared) > 0.5 * fmean(forgot[0.0]), "more than half of it is kept"
    assert min(learnt[SHARE]) > 0.8 * min(learnt[0.0]), "and the new style is learnt"
