"""Two stages: the autoencoder learns, then rests while the prior learns its codes; samples are decoded draws of the prior."""

import math
from typing import Any

import pytest
import torch

from components.core.family import Batch
from components.families import cards

VARIANTS = tuple(card.variant for card, _, _ in cards().values() if card.family == "autoregressive" and card.latent)


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stage_has_the_loss_of_its_group_alone(variant: str, make_case: Any) -> None:
    case = make_case("autoregressive", variant)
    family = case.build(autoencoder_share=0.3)
    stages = [set(family.losses(case.batch(progress=at), torch.Generator().manual_seed(0))) for at in (0.0, 0.29, 0.3, 1.0)]
    assert stages == [{"autoencoder"}, {"autoencoder"}, {"prior"}, {"prior"}]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_codebook_moves_in_the_first_stage_and_rests_in_the_second(variant: str, make_case: Any) -> None:
    case = make_case("autoregressive", variant)
    family = case.build().train()
    start = snapshot(family.autoencoder)
    family.losses(case.batch(progress=0.0), torch.Generator().manual_seed(0))
    moved = snapshot(family.autoencoder)
    assert not same(start, moved)
    loss = family.losses(case.batch(progress=1.0), torch.Generator().manual_seed(0))["prior"]
    loss.backward()
    assert same(moved, snapshot(family.autoencoder))
    assert all(parameter.grad is None for parameter in family.autoencoder.parameters())
    assert all(parameter.grad is not None for parameter in family.prior.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_priors_loss_is_that_of_the_codes_of_the_batch(variant: str, make_case: Any) -> None:
    case = make_case("autoregressive", variant, conditional=True)
    family = case.build(dropout=0.0)
    batch: Batch = case.batch(progress=1.0)
    with torch.no_grad():
        loss = float(family.losses(batch, torch.Generator())["prior"])
        codes_Bhw = family.autoencoder.encode(batch.x)
        nats = family.prior.log_prob(codes_Bhw[:, None], batch.condition)
    assert codes_Bhw.shape[1:] == family.autoencoder.grid
    assert loss == pytest.approx(-float(nats.mean()), rel=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sample_is_a_decoded_draw_of_the_prior(variant: str, make_case: Any) -> None:
    case = make_case("autoregressive", variant, conditional=True)
    family = case.build().eval()
    uniform_Bhw, labels_B = case.inputs(4)
    with torch.no_grad():
        codes_B1hw = family.prior.draw(uniform_Bhw[:, None], labels_B)
        assert (codes_B1hw.min() >= 0) & (codes_B1hw.max() < family.autoencoder.codes)
        assert torch.equal(family.sampler()(uniform_Bhw, labels_B), family.autoencoder.decode(codes_B1hw[:, 0]))


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_trained_prior_gives_its_codes_fewer_nats_than_their_names_alone(variant: str, make_case: Any) -> None:
    """Of images that are one of three brightnesses, hardly more than the class is to be said."""
    case = make_case("autoregressive", variant, conditional=True, side=8)
    family = case.build(dropout=0.0, codes=16, prior_width=16)
    rng = torch.Generator().manual_seed(0)
    for group, progress in (("autoencoder", 0.0), ("prior", 1.0)):
        optimizer = torch.optim.Adam(family.parameter_groups()[group], lr=3e-3)
        for step in range(40):
            loss = family.losses(case.batch(24, seed=step, progress=progress), rng)[group]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        held_out = float(family.eval().losses(case.batch(24, seed=999), rng)["prior"])
    assert held_out < 0.8 * math.log(16)
