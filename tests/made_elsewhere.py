"""Models of diffusers' own classes, written by `save_pretrained`: what a person brings who has trained elsewhere."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

NETWORK: dict[str, Any] = {
    "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (32, 32), "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D"), "norm_num_groups": 8,
    "add_attention": False,
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
