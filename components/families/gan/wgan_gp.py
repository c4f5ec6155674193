"""WGAN-GP (Gulrajani et al. 2017, arXiv:1704.00028): a critic D kept near Lipschitz one by a penalty on its gradient.

    L_D = E[D(G(z))] - E[D(x)] + lambda E[(|| grad D(x^) || - 1)^2],   x^ = e x + (1 - e) G(z),  e ~ U[0, 1]      (eq. 3)
    L_G = -E[D(G(z))]

-L_D without the penalty estimates the Wasserstein distance of data and samples. The networks are residual, as the paper's for
CIFAR-10 (appendix), G with batch normalisation and D with none: the penalty is of each input on its own (section 4). D takes
five steps for one of G, at one rate; on small images and on a CPU two, at twice G's (Heusel et al. 2017, arXiv:1706.08500),
which suit short runs.

B batch, C channels, H height, W width.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.card import Card
from components.core.randomness import uniform
from components.core.records import DataSpec
from components.families.gan.adversarial import Adversarial, Scored
from components.families.gan.dense import DenseDiscriminator, DenseGenerator, few
from components.families.gan.layers import PatchedConfig, narrowed, patched
from components.families.gan.penalties import one_centred
from components.families.gan.residual import Discriminator, Generator


class WGANGPConfig(PatchedConfig):
    critic_steps: int = Field(default=5, ge=1, description="k, steps of D for one of G; 2 up to side 32 and on a CPU")
    penalty_weight: float = Field(default=10.0, gt=0, description="lambda")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """Small images, a narrow network and a higher rate."""
        recipe = {"lr_peak": 1e-3, "batch_size": 32, "critic_steps": 2, "discriminator_rate": 2.0}
        return (
            narrowed(spec, light=light, **recipe)
            | patched(spec, light=light)
            | few(spec, lr_peak=8e-4, discriminator_rate=3.0, penalty_weight=0.1)
        )


class WGANGP(Adversarial):
    """The steadiest loss of the GANs, which means something; several steps of the critic for one of the generator."""

    card = Card(
        family="gan",
        variant="wgan-gp",
        title="Wasserstein GAN with a gradient penalty",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=False,
        steps=1,
        side_max=64,
        data_appetite=5_000,
        wide=True,
        per_part=("batch normalisation", "batch deviation", "minibatch discrimination"),
        starts=("scratch", "finetune", "lora"),
        references=("arXiv:1704.00028", "arXiv:1701.07875"),
    )
    Config = WGANGPConfig
    config: WGANGPConfig
    centred = False

    def __init__(self, config: WGANGPConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        if config.dense:
            self.generator = DenseGenerator(config, spec, last=nn.Tanh())
            self.discriminator = DenseDiscriminator(config, spec, waves=False)
        else:
            self.generator = Generator(config, spec, class_noise=True)
            self.discriminator = Discriminator(config, spec, limit=nn.Identity())
        if spec.conditional:
            nn.init.normal_(self.discriminator.get_parameter("project.weight"), std=0.3)

    def generator_loss(self, real_B: Tensor | None, fake_B: Tensor) -> Tensor:
        return -fake_B.mean()

    def discriminator_loss(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        return fake_B.mean() - real_B.mean()

    def penalty(self, scored: Scored, rng: torch.Generator) -> Tensor:
        """lambda E[(|| grad D(x^) || - 1)^2] at a random point between each real image and a generated one."""
        real_BCHW, fake_BCHW = scored.real_BCHW.detach(), scored.fake_BCHW.detach()
        share_B111 = uniform((len(real_BCHW), 1, 1, 1), rng)
        between_BCHW = (fake_BCHW + share_B111 * (real_BCHW - fake_BCHW)).requires_grad_()
        return self.config.penalty_weight * one_centred(self.discriminator(between_BCHW, scored.labels_B), between_BCHW)
