"""A latent space that collapses is seen at every reading, logged, and said."""

from collections.abc import Callable
from typing import Any

import pytest

from components.core.arrays import Stored
from components.core.records import Reading
from components.training.diagnostics import complaints
from components.training.start import build
from components.training.trainer import Trainer


def quality(_: Stored) -> Reading:
    return Reading(distance=1.0)


@pytest.fixture
def run(make_plan: Any, digits: Any, tracker: Any) -> Callable[..., None]:
    def make(family: str, *, steps: int = 6, **more: Any) -> None:
        plan = make_plan(family, steps=steps, **more)
        Trainer(build(plan), plan, split=digits, quality=quality, tracker=tracker).run()

    return make


@pytest.mark.parametrize(
    ("diagnosed", "said"),
    [
        ({}, []),
        ({"active_units": 1.0, "codebook_share": 0.05, "other": 0.0}, []),
        ({"active_units": 0.0}, ["active_units 0: no latent unit is active"]),
        ({"codebook_share": 0.011}, ["codebook_share 0.011: the codebook has collapsed"]),
    ],
)
def test_only_a_collapse_is_complained_of(diagnosed: dict[str, float], said: list[str]) -> None:
    found = complaints(diagnosed)
    assert len(found) == len(said)
    assert all(line.startswith(begin) and "\n" not in line for line, begin in zip(found, said, strict=True))


@pytest.mark.parametrize("conditional", [False, True])
def test_active_units_are_logged_at_each_reading(run: Any, tracker: Any, conditional: bool) -> None:
    """With nearly no price on its code a VAE comes to use all four units."""
    run("vae/gaussian", steps=18, conditional=conditional, config={"beta": 1e-6, "warmup_steps": 2})
    units = tracker.series("train/active_units")
    assert list(units) == list(tracker.series("train/fd"))
    assert [*units.values()][-1] == 4


def test_a_posterior_that_has_collapsed_is_said(run: Any, tracker: Any, capsys: Any) -> None:
    run("vae/gaussian", steps=18, config={"beta": 1e4, "kl_warmup": 0.0, "warmup_steps": 2})
    assert list(tracker.series("train/active_units").values())[-1] == 0
    assert "step 18: active_units 0: no latent unit is active" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("family", ["vae/vq", "autoregressive/vq-transformer"])
def test_the_use_of_a_codebook_is_logged(run: Any, tracker: Any, family: str) -> None:
    run(family)
    perplexity, share = (tracker.series(f"train/codebook_{name}") for name in ("perplexity", "share"))
    assert all(1 <= value <= 16 for value in perplexity.values())
    assert len(set(perplexity.values())) > 1, "it follows the training"
    assert {step: value / 16 for step, value in perplexity.items()} == share


def test_a_family_without_diagnostics_says_nothing(run: Any, tracker: Any, capsys: Any) -> None:
    run("autoencoder/plain")
    assert not [name for _, values in tracker.logged for name in values if "active" in name or "codebook" in name]
    said = capsys.readouterr().err
    assert "active" not in said
    assert "codebook" not in said
