"""Models of diffusers' own classes, written by `save_pretrained`: what a person brings who has trained elsewhere."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vq_model import VQModel
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
from diffusers.pipelines.deprecated.latent_diffusion_uncond.pipeline_latent_diffusion_uncond import LDMPipeline
from diffusers.pipelines.dit.pipeline_dit import DiTPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

NETWORK: dict[str, Any] = {
    "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (32, 32), "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D"), "norm_num_groups": 8,
    "add_attention": False,
}  # fmt: skip
TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 8, "num_layers": 2, "sample_size": 4,
    "patch_size": 2, "num_embeds_ada_norm": 10,
}  # fmt: skip
CODEC: dict[str, Any] = {
    "in_channels": 1, "out_channels": 1, "block_out_channels": (16, 16), "norm_num_groups": 8, "sample_size": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, "scaling_factor": 0.7,
}  # fmt: skip
CARD = "---\nlicense: apache-2.0\ntags: [digits]\n---\n# A model\n"


def network(**changes: Any) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(**NETWORK | changes)


def write_folder(
    folder: Path, *, scheduler: Any = None, net: UNet2DModel | None = None, card: str = CARD, **changes: Any
) -> Path:
    """A folder of a DDPMPipeline, with a README.md."""
    pipeline = DDPMPipeline(unet=net or network(**changes), scheduler=scheduler or DDPMScheduler())
    pipeline.save_pretrained(folder, safe_serialization=True)
    if card:
        (folder / "README.md").write_text(card)
    return folder


def transformer(**changes: Any) -> DiTTransformer2DModel:
    torch.manual_seed(1)
    return DiTTransformer2DModel(**TRANSFORMER | changes)


def autoencoder(**changes: Any) -> AutoencoderKL:
    torch.manual_seed(2)
    return AutoencoderKL(**CODEC | changes)


def codebook(**changes: Any) -> VQModel:
    torch.manual_seed(2)
    made = VQModel(**CODEC | {"latent_channels": 3, "num_vq_embeddings": 32} | changes)
    torch.nn.init.normal_(made.quantize.embedding.weight)  # as far apart as codes are
    return made


def write_transformer(folder: Path, *, net: Any = None, codec: Any = None, **changes: Any) -> Path:
    """A folder of a DiTPipeline, its noise that of the published ones."""
    parts = {"transformer": net or transformer(**changes), "vae": codec or autoencoder()}
    DiTPipeline(**parts, scheduler=DDIMScheduler(clip_sample=False)).save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").write_text(CARD)
    return folder


def write_codes(folder: Path, *, net: Any = None, codec: Any = None) -> Path:
    """A folder of an LDMPipeline, its noise that of the published ones."""
    codec = codec or codebook()
    net = net or network(sample_size=4, in_channels=3, out_channels=3, block_out_channels=(16, 16))
    scheduler = DDIMScheduler(beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False)
    LDMPipeline(vqvae=codec, unet=net, scheduler=scheduler).save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").write_text(CARD)
    return folder


def copied(folder: Path, to: Path) -> Path:
    """The same, to be damaged."""
    shutil.copytree(folder, to)
    return to


def train(
    net: UNet2DModel, scheduler: Any, images_NHWC: Any, labels_N: Any = None, *, steps: int, batch: int = 64
) -> UNet2DModel:
    """As diffusers' example trains: the squared error of the noise, by AdamW."""
    rng, torch_rng = np.random.default_rng(0), torch.Generator().manual_seed(0)
    x_NCHW = torch.as_tensor(images_NHWC).permute(0, 3, 1, 2).float() / 127.5 - 1
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    net.train()
    for _ in range(steps):
        at = torch.as_tensor(rng.integers(len(x_NCHW), size=batch))
        noise = torch.randn(x_NCHW[at].shape, generator=torch_rng)
        t_B = torch.randint(scheduler.config.num_train_timesteps, (batch,), generator=torch_rng)
        labels = None if labels_N is None else torch.as_tensor(labels_N)[at]
        said = net(scheduler.add_noise(x_NCHW[at], noise, t_B), t_B, class_labels=labels).sample
        loss = torch.nn.functional.mse_loss(said, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()
