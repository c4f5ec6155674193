# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "diffusers==0.42.1", "numpy"]
# ///
"""diffusers: UNet2DModel with the usual recipe (epsilon, linear schedule of 1,000 steps, EMA), sampled by DDIM in 50 steps."""

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from task import Task, linear_decay
from torch import Tensor
from torch.nn import functional as F

STEPS = 50


def main() -> None:
    task = Task()
    channels, height, width = task.shape
    small = max(height, width) <= 16
    lr_peak, batch = (2e-3, 32) if small or task.device == "cpu" else (1e-3, 64)  # as ours have it
    patch = task.patch
    levels = (32, 64) if small or patch > 1 else (32, 64, 64)
    multiple = patch * 2 ** (len(levels) - 1)
    padded = [-(-side // multiple) * multiple for side in (height, width)]
    model = UNet2DModel(
        sample_size=(padded[0] // patch, padded[1] // patch),
        in_channels=channels * patch**2,
        out_channels=channels * patch**2,
        layers_per_block=2,
        block_out_channels=levels,
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * (len(levels) - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (len(levels) - 1),
    ).to(task.device)
    schedule = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr_peak)
    ema = EMAModel(model.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
    extra = (0, padded[1] - width, 0, padded[0] - height)
    for x_BCHW, done in task.batches(batch):
        data = F.pixel_unshuffle(F.pad(2 * x_BCHW - 1, extra, value=-1.0), patch)
        noise, t_B = torch.randn_like(data), torch.randint(1000, (len(data),), device=data.device)
        loss = F.mse_loss(model(schedule.add_noise(data, noise, t_B), t_B).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        linear_decay(optimizer, peak=lr_peak, done=done)
        optimizer.step()
        ema.step(model.parameters())
    ema.copy_to(model.parameters())
    sampler = DDIMScheduler(num_train_timesteps=1000)
    sampler.set_timesteps(STEPS)

    def sample(n: int) -> Tensor:
        x = F.pixel_unshuffle(torch.randn(n, channels, *padded, device=task.device), patch)
        for t in sampler.timesteps:
            x = sampler.step(model(x, t).sample, t, x).prev_sample
        return (F.pixel_shuffle(x, patch)[:, :, :height, :width] + 1) / 2

    task.finish(model.eval(), sample)


if __name__ == "__main__":
    main()
