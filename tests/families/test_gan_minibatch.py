"""Minibatch discrimination by hand, and that it shows D a batch that is all alike."""

import math
import re
from typing import Any

import pytest
import torch
from specs import image_data
from torch import nn

from components.families import cards, find
from components.families.gan.minibatch import SIZE, MinibatchDiscrimination, nearness
from components.policy.tables import load_tables


def test_nearness_by_hand() -> None:
    """Two kernels of two numbers: c = exp(-|M_i - M_j|_1), and the mean over the batch, oneself included."""
    m_BKS = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[0.5, -0.5], [1.0, 1.0]], [[2.0, 0.0], [1.0, 3.0]]])
    first = [1 + math.exp(-1) + math.exp(-2), 1 + math.exp(-1) + math.exp(-2), 1 + 2 * math.exp(-2)]
    second = [2 + math.exp(-2), 2 + math.exp(-2), 1 + 2 * math.exp(-2)]
    torch.testing.assert_close(nearness(m_BKS), torch.tensor([first, second]).T / 3)


def test_images_that_are_all_alike_are_as_near_as_can_be() -> None:
    layer = MinibatchDiscrimination(nn.Linear(7, 4 * SIZE, bias=False), kernels=4)
    h_BF = torch.randn(16, 7, generator=torch.Generator().manual_seed(0))
    varied, alike = layer(h_BF), layer(h_BF[:1].expand(16, 7))
    assert varied.shape == (16, 7 + 4)
    assert torch.equal(varied[:, :7], h_BF)
    assert torch.equal(alike[:, 7:], torch.ones(16, 4))
    assert float(varied.detach()[:, 7:].max()) < 0.9


@pytest.mark.slow
def test_a_critic_learns_to_tell_a_collapsed_batch_by_it(make_case: Any) -> None:
    """Planted: the generated images are one real image over and over, a new one in each batch, so that no image gives itself
    away. A critic that looks at each on its own has nothing to go by."""
    case = make_case("gan", "sngan")
    found = {}
    for kernels in (0, 8):
        family = case.build(seed=1, minibatch_kernels=kernels, batch_deviation=False, shift=0.0).train()
        critic = family.discriminator
        optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.9))
        rights = []
        for step in range(60):
            batch = case.batch(24, seed=step)
            alike_BCHW = batch.x[step % 24].expand_as(batch.x)
            real_B, fake_B = (critic(x_BCHW, batch.condition) for x_BCHW in (batch.x, alike_BCHW))
            optimizer.zero_grad()
            family.discriminator_loss(real_B, fake_B).backward()
            optimizer.step()
            rights.append(float((real_B.mean() > fake_B.mean()).float()))
        found[kernels] = sum(rights[-30:]) / 30
    assert found[8] > 0.95
    assert found[0] < 0.9


def test_the_warning_about_collapse_names_an_option_that_every_gan_has() -> None:
    options = dict(re.findall(r"override\.config\.(\w+): (\w+)", load_tables().warnings["mode-collapse-unchecked"].fix))
    assert options == {"minibatch_kernels": "16"}
    for family, variant in cards():
        if family == "gan":
            config = find(family, variant).configure({"minibatch_kernels": 16}, image_data(channels=1, height=8, width=8))
            assert config.minibatch_kernels == 16
