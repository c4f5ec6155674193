"""Sizes are those of the real families: counted offline, compared here."""

import json
from pathlib import Path

import pytest

from components.families import cards
from components.policy.sizes import TABLE, counted, published

ROWS = json.loads(Path(TABLE).read_text(encoding="utf-8"))
QUICK = ("vae/gaussian", "gan/dcgan", "autoencoder/plain")


def test_what_is_counted_is_built() -> None:
    """A variant that was not counted yet is estimated as one that is not built: scaled, as an interval of a factor of nine."""
    assert set(ROWS) <= {"/".join(key) for key in cards()}
    assert {"vae/gaussian", "gan/sngan", "flow/glow", "diffusion/edm", "diffusion/latent", "autoencoder/plain"} <= set(ROWS)
    assert all(rows for rows in ROWS.values())


def test_one_pass_uses_every_parameter() -> None:
    """A product for each, at least: so a pass that was drawn in several parts is counted whole."""
    worked = [(name, row) for name, rows in ROWS.items() for row in rows if row[4] is not None]
    assert [name for name, (_, _, params_m, _, gflop, _) in worked if gflop * 1e3 < params_m] == []


def check(name: str, *, every: int) -> None:
    from benchmarks.sizes import measured

    card = cards()[tuple(name.split("/"))][0]  # type: ignore[index]
    for row in [row for row in ROWS[name] if row[0] <= 64][::every]:
        assert measured(card, side=row[0], light=row[1]) == row, "make it anew: benchmarks/sizes.py"


@pytest.mark.parametrize("name", QUICK)
def test_counts_are_those_of_the_real_family(name: str) -> None:
    check(name, every=9)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS))
def test_counts_are_those_of_every_real_family(name: str) -> None:
    check(name, every=7)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_side_between_two_counted_ones_lies_between(name: str) -> None:
    family, variant = name.split("/")
    sides = sorted({row[0] for row in ROWS[name]})
    low, high = sides[0], sides[1]
    ends = [counted(family, variant, side=side, light=True) for side in (low, high)]
    between = counted(family, variant, side=(low + high) // 2, light=True)
    assert between is not None
    for found, a, b in zip(between, *ends, strict=True):  # type: ignore[arg-type]
        if found is not None:
            assert min(a, b) * 0.999 <= found <= max(a, b) * 1.001


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
