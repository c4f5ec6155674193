"""Every family and variant by name: planned, trained, proved, exported and promoted from nothing but a brief.

One in the slow tests, where other files produce by a VAE; a road reads no more of a variant than its card.
The others nightly; how each learns, is exported and drawn is held by tests of those parts.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.families import cards
from components.pipeline import production, proof
from components.pipeline.resolve import resolve

TINY: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).parents[1].joinpath("tiny.yaml").read_text())
NAMED = {
    "autoencoder": "plain denoising",
    "vae": "gaussian beta vq",
    "gan": "dcgan sngan wgan-gp r3gan style",
    "flow": "realnvp glow",
    "diffusion": "ddpm edm latent ldm dit mmdit cascade ect latent-ect lcm mmdit-lcm unclip",
    "autoregressive": "pixelcnn pixelcnn-pp image-transformer vq-pixelcnn vq-transformer",
}
VARIANTS = sorted("/".join(key) for key in cards())
SLOW = {"gan/sngan"}
ROADS = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else pytest.mark.nightly) for name in VARIANTS]


def test_every_name_is_built() -> None:
    assert {f"{family}/{variant}" for family, variants in NAMED.items() for variant in variants.split()} == set(VARIANTS)


@pytest.mark.parametrize("name", ROADS)
def test_it_is_produced_from_a_brief(
    first: Any, trains_here: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for delivery in proof.SAMPLES:  # the numbers of a proof are not at stake here
        monkeypatch.setitem(proof.SAMPLES, delivery, 64)
    road = first.road.beside(tmp_path / "road")
    family, variant = name.split("/")
    brief = road.brief(name="one", override={"family": family, "variant": variant, "config": TINY.get(name, {})})
    backends = road.backends()
    run = resolve(brief, backends)
    assert (run.decision.family, run.decision.variant, run.decision.mode) == (family, variant, "scratch")
    records: dict[str, Any] = {}
    with trains_here():
        produced = production.produce(run, backends, production.in_process(backends), records.__setitem__)
    assert set(records["export"].parity) == {1, 2, 7, 32}
    told = set(records["prove"].scorecard.metrics)
    card = cards()[family, variant][0]
    assert ("bits_per_dim" in told, "reconstruction_error" in told) == (card.likelihood != "none", card.latent)
    assert produced.promoted
    assert backends.versions.resolve("one").version == 1
