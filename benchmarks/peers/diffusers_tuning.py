"""Fine-tuning with diffusers' and peft's own classes, by the recipe of their scripts; whole, or LoRA where a rank is given.

Called with one JSON argument; writes an npz of images and what it took. From examples/unconditional_image_generation: AdamW with
betas 0.95 and 0.999, weight decay 1e-6, a cosine after a warm-up (a tenth of the run in place of 500 steps), EMAModel with its
warm-up; batches of 32. LoRA as in examples/text_to_image, and of convolutions too, of which the network mostly consists.
Seconds are of the CPU, on one thread, so what else a machine does takes none of them.
"""

import copy
import json
import math
import sys
import time

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler
from diffusers.training_utils import EMAModel
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.nn import functional as F

BATCH, DRAWN = 32, 50


def main() -> None:
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(asked["seed"])
    pipeline = DDPMPipeline.from_pretrained(asked["base"], use_safetensors=True)
    network, noise = pipeline.unet.train(), DDPMScheduler.from_config(pipeline.scheduler.config)
    with np.load(asked["data"]) as data:
        images = torch.from_numpy(data["train"]).permute(0, 3, 1, 2).float() / 127.5 - 1
        first = torch.from_numpy(data["noise"])  # of the samples
    if asked["rank"]:
        network.requires_grad_(False)
        layers = [name for name, each in network.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)]
        config = LoraConfig(r=asked["rank"], lora_alpha=asked["rank"], init_lora_weights="gaussian", target_modules=layers)
        inject_adapter_in_model(config, network)
    learning = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=asked["rate"], betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    average = EMAModel(learning, decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    steps, began = 0, time.process_time()
    while (spent := time.process_time() - began) < asked["seconds"]:
        done = spent / asked["seconds"]
        rate = min(1.0, done / 0.1) * 0.5 * (1 + math.cos(math.pi * max(0.0, done - 0.1) / 0.9))
        optimizer.param_groups[0]["lr"] = asked["rate"] * rate
        clean = images[torch.randint(len(images), (BATCH,))]
        eps, t = torch.randn_like(clean), torch.randint(noise.config.num_train_timesteps, (BATCH,))
        target = noise.get_velocity(clean, eps, t) if noise.config.prediction_type == "v_prediction" else eps
        loss = F.mse_loss(network(noise.add_noise(clean, eps, t), t, return_dict=False)[0], target)
        loss.backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.step(learning)
        steps += 1
    train_s = time.process_time() - began
    averaged = copy.deepcopy(network).eval()
    average.copy_to([each for each in averaged.parameters() if each.requires_grad])
    drawn = []
    scheduler = DDIMScheduler.from_config(noise.config)
    with torch.no_grad():
        for noisiest in first.split(DRAWN):
            x = noisiest
            scheduler.set_timesteps(asked["steps"])
            for t in scheduler.timesteps:
                x = scheduler.step(averaged(x, t, return_dict=False)[0], t, x, use_clipped_model_output=True).prev_sample
            drawn.append(((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    np.savez(
        asked["out"],
        images=np.concatenate(drawn),
        train_s=train_s,
        steps=steps,
        trainable=sum(each.numel() for each in learning),
    )


if __name__ == "__main__":
    main()
