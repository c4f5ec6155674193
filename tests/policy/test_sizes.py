"""Sizes are those of the real families: counted offline, compared here."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.families import cards
from components.policy.sizes import TABLE, counted, key_of, published

ROWS = json.loads(Path(TABLE).read_text(encoding="utf-8"))
QUICK = ("vae/gaussian", "gan/dcgan", "autoencoder/plain")


def test_what_is_counted_is_built() -> None:
    """A variant that was not counted yet is estimated as one that is not built: scaled, as an interval of a factor of nine."""
    every = [card for card, _, _ in cards().values()]
    texts = {key_of(card.family, card.variant, by_text=True) for card in every if "text" in card.conditioning}
    assert set(ROWS) <= {key_of(*key) for key in cards()} | texts
    assert texts <= set(ROWS), "make it anew: benchmarks/sizes.py"
    assert {"vae/gaussian", "gan/sngan", "flow/glow", "diffusion/edm", "diffusion/latent", "autoencoder/plain"} <= set(ROWS)
    assert all(rows for rows in ROWS.values())


def test_one_pass_uses_every_parameter() -> None:
    """A product for each, at least: so a pass that was drawn in several parts is counted whole."""
    worked = [(name, row) for name, rows in ROWS.items() for row in rows if row[4] is not None]
    assert [name for name, (_, _, params_m, _, gflop, _) in worked if gflop * 1e3 < params_m] == []


def check(name: str, *, every: int) -> None:
    from benchmarks.sizes import measured

    own, by_text, _ = name.partition(" by text")
    card = cards()[tuple(own.split("/"))][0]  # type: ignore[index]
    for row in [row for row in ROWS[name] if row[0] <= 64][::every]:
        found = measured(card, side=row[0], light=row[1], by_text=bool(by_text))
        assert found == row, "make it anew: benchmarks/sizes.py"


@pytest.mark.parametrize("name", QUICK)
def test_counts_are_those_of_the_real_family(name: str) -> None:
    check(name, every=9)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS))
def test_counts_are_those_of_every_real_family(name: str) -> None:
    check(name, every=7)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_side_between_two_counted_ones_lies_between(name: str) -> None:
    own, by_text, _ = name.partition(" by text")
    family, variant = own.split("/")
    sides = sorted({row[0] for row in ROWS[name]})
    low, high = sides[0], sides[1]
    told: dict[str, Any] = {"light": True, "by_text": bool(by_text)}
    ends = [counted(family, variant, side=side, **told) for side in (low, high)]
    between = counted(family, variant, side=(low + high) // 2, **told)
    assert between is not None
    for found, a, b in zip(between, *ends, strict=True):  # type: ignore[arg-type]
        if found is not None:
            assert min(a, b) * 0.999 <= found <= max(a, b) * 1.001


def test_a_text_takes_a_network_and_passes_of_its_own() -> None:
    """Cross-attention, and under guidance each step asks twice."""
    plain, asked = (counted("diffusion", "edm", side=32, light=True, by_text=text) for text in (False, True))
    assert plain is not None
    assert asked is not None
    assert asked.params_m > 1.2 * plain.params_m
    assert plain.gflop is not None
    assert asked.gflop is not None
    assert asked.gflop > 1.8 * plain.gflop


def test_what_is_not_built_has_no_size() -> None:
    assert counted("gan", "wavegan", side=32, light=True) is None


@pytest.mark.parametrize(
    ("model", "millions"),
    [
        ("hf:stable-diffusion-v1-5/stable-diffusion-v1-5", 860),
        ("hf:stabilityai/stable-diffusion-2-1", 865),
        ("hf:stabilityai/stable-diffusion-xl-base-1.0", 2567),
        ("hf:black-forest-labs/FLUX.1-dev", 12000),
        ("hf:openai-community/gpt2", 124),
        ("hf:openai-community/gpt2-xl", 1558),
    ],
)
def test_published_counts(model: str, millions: float) -> None:
    found = published(model)
    assert found is not None
    assert found[0] == millions


@pytest.mark.parametrize("model", ["hf:some-org/some-model", "models:/base@champion", "./folder"])
def test_others_are_unknown(model: str) -> None:
    assert published(model) is None
