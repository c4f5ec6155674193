"""SNGAN (Miyato et al. 2018, arXiv:1802.05957), residual, with the hinge loss.

    L_D = E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))],   L_G = -E[D(G(z))]          (Lim & Ye 2017, arXiv:1705.02894)

Every layer of D is divided by its largest singular value; sampling uses an average of G's weights (Yazici et al. 2019,
arXiv:1806.04498). Classes enter G by conditional normalisation and D by projection (Miyato & Koyama 2018, arXiv:1802.05637).
D takes five steps for one of G, as the paper's for CIFAR-10 (appendix); on small images and on a CPU one. It sees the standard
deviation over the batch (Karras et al. 2018, arXiv:1710.10196, section 3), which makes a collapsed batch visible to it.

B batch, C channels, H height, W width.
"""

from typing import Any

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from components.core.card import Card
from components.core.records import DataSpec
from components.families.gan.adversarial import Adversarial
from components.families.gan.dense import DenseDiscriminator, DenseGenerator, few
from components.families.gan.layers import PatchedConfig, narrowed, patched
from components.families.gan.residual import Discriminator, Generator
from components.families.images import side_of


class SNGANConfig(PatchedConfig):
    critic_steps: int = Field(default=5, ge=1, description="k, steps of D for one of G; 1 up to side 16 and on a CPU")
    batch_deviation: bool = Field(default=True, description="D sees the standard deviation over the batch")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """Small images, a narrow network and a higher rate. In a short run there is no time for five steps of D to one of G."""
        short = {"lr_peak": 1e-3, "batch_size": 32, "critic_steps": 1}
        recipe = short if light or side_of(spec) <= 16 else {"lr_peak": 4e-4}
        return narrowed(spec, light=light, **recipe) | patched(spec, light=light) | few(spec, lr_peak=6e-4)


class SNGAN(Adversarial):
    """One-pass sampling and sharp images; adversarial training is unstable and may lose modes."""

    card = Card(
        family="gan",
        variant="sngan",
        title="GAN with spectral normalisation and the hinge loss",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=False,
        steps=1,
        side_max=128,
        data_appetite=5_000,
        wide=True,
        per_part=("batch normalisation", "batch deviation", "minibatch discrimination"),
        starts=("scratch", "finetune", "lora"),
        references=("arXiv:1802.05957", "arXiv:1802.05637", "arXiv:1705.02894"),
    )
    Config = SNGANConfig
    config: SNGANConfig

    def __init__(self, config: SNGANConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        if config.dense:
            self.generator = DenseGenerator(config, spec, last=nn.Tanh())
            self.discriminator = DenseDiscriminator(config, spec, limit=spectral_norm)
        else:
            self.generator = Generator(config, spec)
            self.discriminator = Discriminator(config, spec, limit=spectral_norm)

    def generator_loss(self, real_B: Tensor | None, fake_B: Tensor) -> Tensor:
        return -fake_B.mean()

    def discriminator_loss(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """The hinge."""
        return F.relu(1 - real_B).mean() + F.relu(1 + fake_B).mean()
