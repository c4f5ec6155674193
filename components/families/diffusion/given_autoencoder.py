"""Autoencoders that were made elsewhere, as diffusers has them: what latent models of its pipelines draw codes for.

    AutoencoderKL    z = mu(x) + exp(logvar(x) / 2) n, n ~ N(0, I)          (Rombach et al. 2022, arXiv:2112.10752)
    VQModel          z = E(x), decoded as the nearest vector of a codebook   (van den Oord et al. 2017)

Its codes are multiplied by its `scaling_factor`, one number, in place of moments that are measured. It rests: the prior has
learnt its codes as they are.

B batch, C channels, H height, W width, Z channels of the code, h and w its sides, K vectors of a codebook.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from components.core.records import DataSpec
from components.families.diffusion.given import BLOCKS, built
from components.families.diffusion.kl_autoencoder import LOGVAR, draw_from
from components.families.images import image_of

KL, VQ = "AutoencoderKL", "VQModel"


def check_autoencoder(config: Mapping[str, Any]) -> None:
    """Raises ValueError for a config of which none can be made here."""
    name, blocks = config.get("_class_name"), config.get(BLOCKS, [64])
    odd = {
        "_class_name": (name, name in (KL, VQ), f"{KL}, {VQ}"),
        BLOCKS: (blocks, isinstance(blocks, list | tuple) and len(blocks) > 0, "a list of widths"),
        "scaling_factor": (config.get("scaling_factor", 0.18215), config.get("scaling_factor", 0.18215) != 0, "a factor"),
        "shift_factor": (config.get("shift_factor"), not config.get("shift_factor"), "none: codes are multiplied alone"),
        "latents_mean": ("a list", not config.get("latents_mean"), "none: codes are multiplied alone"),
        "norm_type": (config.get("norm_type", "group"), config.get("norm_type", "group") == "group", "group"),
    }
    for key, (given, fits, allowed) in odd.items():
        if not fits:
            raise ValueError(f"autoencoder: {key}: {given}; allowed: {allowed}")


class GivenAutoencoder(nn.Module):
    """x_BCHW <-> z_BZhw."""

    net: Any

    def __init__(self, config: Mapping[str, Any], spec: DataSpec) -> None:
        super().__init__()
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.autoencoders.vq_model import VQModel

        self.has_codebook = config["_class_name"] == VQ
        self.net = built(VQModel if self.has_codebook else AutoencoderKL, config).requires_grad_(requires_grad=False)
        told = self.net.config
        self.factor = float(told.scaling_factor)
        each, image = 2 ** (len(told.block_out_channels) - 1), image_of(spec)
        channels = (told.vq_embed_dim if self.has_codebook else None) or told.latent_channels
        self.shape = (channels, image.height // each, image.width // each)

    def encode(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """mu and logvar of the code, each BZhw; one with a codebook has no variance."""
        said = _through(self.net.quant_conv, self.net.encoder(x_BCHW))
        if self.has_codebook:
            return said, torch.full_like(said, LOGVAR[0])
        mu, logvar = said.chunk(2, dim=1)
        return mu, logvar.clamp(*LOGVAR)

    def posterior(self, x_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Mean and deviation of the code, each BZhw; with a codebook the code alone."""
        mu, logvar = self.encode(x_BCHW)
        return (mu,) if self.has_codebook else (mu, (0.5 * logvar).exp())

    def draw(self, x_BCHW: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A code z_BZhw, and 0 for what its training would weigh."""
        z_BZhw = draw_from(self.posterior(x_BCHW), rng)
        return z_BZhw, torch.zeros_like(z_BZhw)

    def decoder(self, z_BZhw: Tensor) -> Tensor:
        """x_BCHW, not clamped."""
        quantised_BZhw = self._nearest(z_BZhw) if self.has_codebook else z_BZhw
        x_BCHW: Tensor = self.net.decoder(_through(self.net.post_quant_conv, quantised_BZhw))
        return x_BCHW

    def loss(self, x_BCHW: Tensor, rng: torch.Generator, **_: Any) -> Tensor:
        raise AssertionError("it rests")

    def measure(self, z_BZhw: Tensor) -> None:
        """Its scale is known."""

    def standardise(self, z_BZhw: Tensor, *, deviation: float) -> Tensor:
        """Codes of about the given deviation."""
        return z_BZhw * (self.factor * deviation)

    def restore(self, codes_BZhw: Tensor, *, deviation: float) -> Tensor:
        """The inverse of `standardise`."""
        return codes_BZhw / (self.factor * deviation)

    def _nearest(self, z_BZhw: Tensor) -> Tensor:
        """The vector of the codebook that is nearest to each place's."""
        book_KZ: Tensor = self.net.quantize.embedding.weight
        z_BhwZ = z_BZhw.permute(0, 2, 3, 1)
        distance_BhwK = book_KZ.square().sum(1) - 2 * z_BhwZ @ book_KZ.T  # but for what all have in common
        nearest: Tensor = book_KZ[distance_BhwK.argmin(-1)].permute(0, 3, 1, 2)
        return nearest


def _through(layer: Any, x: Tensor) -> Tensor:
    """A layer that may not be there."""
    return x if layer is None else layer(x)
