# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "denoising-diffusion-pytorch==2.3.4", "numpy"]
# [tool.uv]
# override-dependencies = ["torchvision; sys_platform == 'never'", "pytorch-fid; sys_platform == 'never'"]
# ///
"""denoising-diffusion-pytorch: its Unet in GaussianDiffusion (v-prediction, as it advises for few steps; DDIM in 50 steps), or in
ElucidatedDiffusion (EDM: its own sampler in 18 steps of two evaluations).

Its Trainer imports torchvision, of which there is no CPU build beside torch's; the two classes used here do not need it.
"""

import sys
from types import ModuleType

import torch
from task import Task, linear_decay
from torch import Tensor
from torch.nn import functional as F


def without_torchvision() -> None:
    for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):
        sys.modules[name] = ModuleType(name)
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]
    sys.modules["torchvision"].utils = sys.modules["torchvision.utils"]  # type: ignore[attr-defined]


def main() -> None:
    without_torchvision()
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from denoising_diffusion_pytorch.elucidated_diffusion import ElucidatedDiffusion
    from ema_pytorch import EMA

    task = Task()
    channels, height, width = task.shape
    small = max(height, width) <= 16
    lr_peak, batch = (2e-3, 32) if small or task.device == "cpu" else (1e-3, 64)  # as ours have it
    edm = task.model == "edm"
    patch = task.patch
    assert height % patch == width % patch == 0, "the images fold into whole patches"
    channels, height, width = channels * patch**2, height // patch, width // patch
    sizes = {"dim": 32, "dim_mults": (1, 2) if small or patch > 1 else (1, 2, 2), "channels": channels, "flash_attn": False}
    net = Unet(**sizes, learned_sinusoidal_cond=edm)
    if edm:
        assert height == width, "it draws squares"
        deviation = float((2 * task.units(task.train_NHWC[:5000]) - 1).std())
        model = ElucidatedDiffusion(net, image_size=height, channels=channels, num_sample_steps=18, sigma_data=deviation)
    else:
        model = GaussianDiffusion(net, image_size=(height, width), timesteps=1000, sampling_timesteps=50, objective="pred_v")
    model = model.to(task.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr_peak, betas=(0.9, 0.99))
    ema = EMA(model, beta=0.995, update_every=10)
    for x_BCHW, done in task.batches(batch):
        loss = model(F.pixel_unshuffle(x_BCHW, patch))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        linear_decay(optimizer, peak=lr_peak, done=done)
        optimizer.step()
        ema.update()
    averaged = ema.ema_model.eval()

    def sample(n: int) -> Tensor:
        return F.pixel_shuffle(averaged.sample(batch_size=n), patch)

    task.finish(model, sample)


if __name__ == "__main__":
    main()
