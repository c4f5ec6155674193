# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "pythae==0.1.2", "numpy", "setuptools"]
# ///
"""pythae: ae and vae, beta-vae, vq-vae, each with its own sampler and its default networks.

Its convolutions for MNIST (17 million parameters) take 41 steps in four minutes of one thread; the default ones take thousands.

A plain autoencoder is sampled by a Gaussian mixture over its codes, a VQ-VAE by pythae's own PixelCNN over its codes, which gets
half of the time.
"""

import logging
import sys
import time
from typing import Any

import torch
from pythae.models import AE, VAE, VQVAE, AEConfig, BetaVAE, BetaVAEConfig, VAEConfig, VQVAEConfig
from pythae.samplers import (
    GaussianMixtureSampler,
    GaussianMixtureSamplerConfig,
    NormalSampler,
    PixelCNNSampler,
    PixelCNNSamplerConfig,
)
from pythae.trainers import BaseTrainerConfig
from task import Task, linear_decay
from torch import Tensor

LR_PEAK = 1e-3
LATENT = 16
BATCH = 64


def build(name: str, shape: tuple[int, int, int]) -> Any:
    common = {"input_dim": shape, "latent_dim": LATENT}
    bound = {**common, "reconstruction_loss": "bce"}  # by its default, the squared error, both collapse on 8x8 digits
    kinds: dict[str, tuple[Any, Any]] = {
        "ae": (AE, AEConfig(**common)),
        "vae": (VAE, VAEConfig(**bound)),
        "beta-vae": (BetaVAE, BetaVAEConfig(**bound, beta=2.0)),  # at 4 it collapses on 8x8 digits in every seed
        "vq-vae": (VQVAE, VQVAEConfig(**common, num_embeddings=128)),
    }
    cls, config = kinds[name]
    return cls(config)


def sampler_of(name: str, model: Any, task: Task, *, seconds: float) -> Any:
    """Fit what the model is sampled by, on the training images."""
    if name in ("vae", "beta-vae"):
        return NormalSampler(model)
    train_NCHW = task.units(task.train_NHWC)
    if name == "ae":
        sampler = GaussianMixtureSampler(model, GaussianMixtureSamplerConfig(n_components=10))
        sampler.fit(train_NCHW[:10_000])
        return sampler
    sampler = PixelCNNSampler(model, PixelCNNSamplerConfig(n_layers=4))
    began = time.monotonic()
    recipe = {"learning_rate": LR_PEAK, "per_device_train_batch_size": BATCH, "no_cuda": task.device == "cpu"}
    sampler.fit(train_NCHW, training_config=BaseTrainerConfig(num_epochs=1, **recipe))  # says how many epochs fit in
    epochs = int(seconds / (time.monotonic() - began)) - 1
    if epochs > 0:
        sampler = PixelCNNSampler(model, PixelCNNSamplerConfig(n_layers=4))
        sampler.fit(train_NCHW, training_config=BaseTrainerConfig(num_epochs=epochs, **recipe))
    return sampler


def main() -> None:
    logging.disable(logging.WARNING)
    task = Task()
    total = task.seconds
    if task.model == "vq-vae":
        task.seconds = total / 2
    model = build(task.model, task.shape).to(task.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR_PEAK)
    for x_BCHW, done in task.batches(BATCH):
        loss = model({"data": x_BCHW}).loss
        optimizer.zero_grad()
        loss.backward()
        linear_decay(optimizer, peak=LR_PEAK, done=done)
        optimizer.step()
    model.eval()
    began = time.monotonic()
    sampler = sampler_of(task.model, model, task, seconds=total - task.train_s)
    task.train_s += time.monotonic() - began

    def sample(n: int) -> Tensor:
        drawn: Tensor = sampler.sample(num_samples=n, batch_size=n, return_gen=True)
        return drawn.reshape(n, *task.shape)

    task.finish(model, sample)


if __name__ == "__main__":
    sys.exit(main())
