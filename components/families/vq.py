"""Vector quantisation: an autoencoder whose codes are integers on a grid (van den Oord et al. 2017, arXiv:1711.00937).

    k(x) = argmin_k |z(x) - e_k|^2                                                                          (eq. 2)
    loss = |x - D(z + sg[e - z])|^2 / var(x) + beta |z - sg[e]|^2                                            (eq. 3)
    N_k <- g N_k + (1 - g) n_k,   m_k <- g m_k + (1 - g) sum_i z_ik,   e_k = m_k / N_k                     (eqs. 6 to 8)

sg stops the gradient, so the decoder's gradient passes straight through the quantiser to the encoder, and the codebook follows
the moving means of its clusters instead of a gradient. A code that hardly anything chooses is moved to a random output of the
encoder (Dhariwal et al. 2020, arXiv:2005.00341, section 3); at the start that is all of them. What models the codes brings its
own prior: this module is shared by every family that has one.

B batch, C channels, H height, W width; h, w the grid of codes; K codes, D size of a code, N = B h w.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.records import DataSpec
from components.families.blocks import ResidualBlock, Upsample, group_norm
from components.families.dense import Dense, DenseConfig, if_few
from components.families.images import image_of, side_of
from components.families.two_stages import Added, TwoStageConfig
from components.runtime.processes import processes, rows_over_processes, sum_over_processes

REVIVED = 1.25  # weight of an entry that was just moved, as a multiple of that below which it is dead


class VQConfig(DenseConfig, TwoStageConfig):
    """What an autoencoder with a codebook needs; the config of a family that has one inherits it."""

    width: int = Field(
        default=64,
        ge=16,
        multiple_of=16,
        description="channels at full resolution; they double with each halving, up to four times",
    )
    blocks: int = Field(default=1, ge=1, description="residual blocks on the grid, in the encoder and in the decoder")
    halvings: int = Field(default=2, ge=1, description="how often the side is halved: the grid of codes is side / 2^halvings")
    codes: int = Field(default=512, ge=2, description="entries of the codebook (K)")
    latent: int = Field(default=16, ge=2, description="size of a code (D); small keeps the codebook in use, arXiv:2110.04627")
    commitment: float = Field(default=0.25, gt=0, description="weight of the commitment term (beta)")
    codebook_decay: float = Field(default=0.99, ge=0, lt=1, description="of the codebook's moving means (g)")
    dead_below: float = Field(default=0.1, gt=0, lt=1, description="a code used less than this share of the average is moved")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """A grid of 4x4 up to side 16, 8x8 to 64, 32x32 at 256; few images or small ones fill few codes.

        Of a light one the prior is short, and the codebook larger in its place: 4x4 codes up to side 32. Where an item has few
        values one code says all of them.
        """
        side = side_of(spec)
        plain = {
            "halvings": 1 if side <= 16 else 2 if side <= 64 else 3,
            "codes": 64 if side <= 16 else 128 if side <= 32 else 512,
        }
        short = {"width": 16, "halvings": 3, "codes": 256} if light and 16 < side <= 64 else {}
        return plain | short | if_few(spec, codes=512, width=128, blocks=2) | cls.sharp_defaults(spec)


class Quantiser(nn.Module):
    """z_BDhw -> the nearest entry of a codebook. The codebook and its moving means are buffers, moved by `fit` alone."""

    codebook_KD: Tensor
    count_K: Tensor
    sum_KD: Tensor

    def __init__(self, *, codes: int, size: int, decay: float = 0.99, dead_below: float = 0.1) -> None:
        super().__init__()
        self.decay = decay
        self.dead_below = dead_below
        self.register_buffer("codebook_KD", torch.randn(codes, size))
        self.register_buffer("count_K", torch.zeros(codes))  # all dead: the first `fit` places them on the data
        self.register_buffer("sum_KD", torch.zeros(codes, size))

    def nearest(self, z_BDhw: Tensor) -> Tensor:
        """codes_Bhw, int64: the entry with the smallest squared distance (eq. 2)."""
        flat_ND = _flat(z_BDhw)
        with torch.autocast(flat_ND.device.type, enabled=False):  # half precision would confuse near codes
            distance_NK = self.codebook_KD.square().sum(1) - 2 * flat_ND @ self.codebook_KD.T
        return distance_NK.argmin(1).view(len(z_BDhw), *z_BDhw.shape[2:])

    def look_up(self, codes_Bhw: Tensor) -> Tensor:
        """codes_Bhw -> their entries e_BDhw."""
        return F.embedding(codes_Bhw, self.codebook_KD).permute(0, 3, 1, 2)

    @torch.no_grad()
    def fit(self, z_BDhw: Tensor, rng: torch.Generator) -> Tensor:
        """Move dead entries to the data, assign, and move each entry to the moving mean of its cluster. Gives codes_Bhw."""
        flat_ND = _flat(z_BDhw)
        self._revive(flat_ND, rng)
        codes_Bhw = self.nearest(z_BDhw)
        codes_N = codes_Bhw.flatten()
        n_K = sum_over_processes(torch.zeros_like(self.count_K).index_add_(0, codes_N, torch.ones_like(flat_ND[:, 0])))
        z_KD = sum_over_processes(torch.zeros_like(self.sum_KD).index_add_(0, codes_N, flat_ND))
        self.count_K.lerp_(n_K, 1 - self.decay)
        self.sum_KD.lerp_(z_KD, 1 - self.decay)
        used_K1 = self.count_K[:, None] > 0
        self.codebook_KD.copy_(torch.where(used_K1, self.sum_KD / self.count_K[:, None], self.codebook_KD))
        return codes_Bhw

    def perplexity(self) -> Tensor:
        """exp of the entropy of the codes' moving use: from 1 (one code is used) to K (all equally)."""
        p_K = self.count_K / self.count_K.sum()
        perplexity: Tensor = torch.special.entr(p_K).sum().exp()
        return perplexity

    def _revive(self, flat_ND: Tensor, rng: torch.Generator) -> None:
        """Place entries used less than `dead_below` of the average on random rows, with a weight barely above that.

        One that nothing chooses is so moved again within some 20 batches, and one that is chosen soon follows its cluster. With
        the weight of an average one it would be left behind for 230 while the encoder moves on, as it does from its first step.
        """
        rows = processes() * len(flat_ND)
        share = rows / len(self.count_K)
        chosen_K = torch.randint(rows, self.count_K.shape, generator=rng, device=flat_ND.device)
        dead_K = self.count_K < self.dead_below * share
        self.codebook_KD.copy_(torch.where(dead_K[:, None], rows_over_processes(flat_ND, chosen_K), self.codebook_KD))
        weight = REVIVED * self.dead_below * share
        self.sum_KD.copy_(torch.where(dead_K[:, None], weight * self.codebook_KD, self.sum_KD))
        self.count_K.masked_fill_(dead_K, weight)


class VQAutoencoder(nn.Module):
    """x_BCHW <-> codes_Bhw: convolutional encoder and decoder around a quantiser, without classes and without a prior.

    `grid` is (h, w) and `codes` is K. A family holds one and trains it with `loss` before it trains its prior on `encode`.
    """

    def __init__(self, config: VQConfig, spec: DataSpec) -> None:
        super().__init__()
        sizes = [(1, 1) if config.dense else (image_of(spec).height, image_of(spec).width)]
        for _ in range(config.halvings):
            sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
        widths = [config.width * min(2**level, 4) for level in range(len(sizes))]
        self.grid = sizes[-1]
        self.codes = config.codes
        self.commitment = config.commitment
        self.variance = spec.std**2
        self.encoder = _encoder(config, spec, widths)
        self.decoder = _decoder(config, spec, widths, sizes)
        self.quantiser = Quantiser(
            codes=config.codes, size=config.latent, decay=config.codebook_decay, dead_below=config.dead_below
        )

    def encode(self, x_BCHW: Tensor) -> Tensor:
        """codes_Bhw, int64 in [0, K)."""
        return self.quantiser.nearest(self.embed(x_BCHW))

    def embed(self, x_BCHW: Tensor) -> Tensor:
        """The encoder's vectors z_BDhw, of which each will be replaced by the nearest entry of the codebook."""
        z_BDhw: Tensor = self.encoder(x_BCHW)
        return z_BDhw

    def decode(self, codes_Bhw: Tensor) -> Tensor:
        """x_BCHW in [-1, 1]."""
        x_BCHW: Tensor = self.decoder(self.quantiser.look_up(codes_Bhw))
        return x_BCHW.clamp(-1, 1)

    def loss(
        self, x_BCHW: Tensor, rng: torch.Generator, *, fitted_Bhw: Tensor | None = None, added: Added | None = None
    ) -> Tensor:
        """Reconstruction, what is `added` to it, and commitment (eq. 3); in training mode it also moves the codebook, unless that
        was done to give these images their codes (`fitted_Bhw`)."""
        z_BDhw = self.encoder(x_BCHW).float()
        if fitted_Bhw is not None:
            codes_Bhw = fitted_Bhw
        else:
            codes_Bhw = self.quantiser.fit(z_BDhw, rng) if self.training else self.quantiser.nearest(z_BDhw)
        e_BDhw = self.quantiser.look_up(codes_Bhw)
        back_BCHW = self.decoder(straight_through(z_BDhw, e_BDhw))
        error = F.mse_loss(back_BCHW, x_BCHW) / self.variance
        error = error + added(x_BCHW, back_BCHW, error) if added else error
        return error + self.commitment * F.mse_loss(z_BDhw, e_BDhw)


def straight_through(z: Tensor, e: Tensor) -> Tensor:
    """The value of e with the gradient of z."""
    return z + (e - z).detach()


def _flat(z_BDhw: Tensor) -> Tensor:
    """z_BDhw -> float32 [N, D]."""
    return z_BDhw.detach().float().permute(0, 2, 3, 1).flatten(0, 2)


def _encoder(config: VQConfig, spec: DataSpec, widths: list[int]) -> nn.Sequential:
    """Strided convolutions, then residual blocks on the grid, where they are cheap (section 4.1)."""
    if config.dense:
        network = Dense(math.prod(spec.shape), config.latent, width=config.width, blocks=config.blocks)
        return nn.Sequential(network, nn.Unflatten(1, (config.latent, 1, 1)))
    layers: list[nn.Module] = []
    for before, width in pairwise([image_of(spec).channels, *widths[1:]]):
        layers += [nn.SiLU(), nn.Conv2d(before, width, 3, stride=2, padding=1)]
    layers += _blocks(config, widths[-1])
    return nn.Sequential(*layers[1:], group_norm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], config.latent, 1))


def _decoder(config: VQConfig, spec: DataSpec, widths: list[int], sizes: list[tuple[int, int]]) -> nn.Sequential:
    """The encoder mirrored, with a last convolution at full resolution."""
    if config.dense:
        network = Dense(config.latent, math.prod(spec.shape), width=config.width, blocks=config.blocks)
        return nn.Sequential(network, nn.Unflatten(1, spec.shape))
    layers: list[nn.Module] = [nn.Conv2d(config.latent, widths[-1], 3, padding=1), *_blocks(config, widths[-1])]
    layers.append(group_norm(widths[-1]))
    for level in reversed(range(1, len(widths))):
        layers += [nn.SiLU(), Upsample(widths[level], widths[level - 1], sizes[level - 1])]
    return nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(widths[0], image_of(spec).channels, 3, padding=1))


def _blocks(config: VQConfig, width: int) -> list[nn.Module]:
    return [ResidualBlock(width, width) for _ in range(config.blocks)]
