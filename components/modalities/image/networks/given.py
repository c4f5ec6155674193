"""Networks that a brief names by path and digest: Inception as TorchScript, DINOv2 by its published weights, or any TorchScript.

TorchScript is called with uint8 [B, 3, H, W] and gives features [B, D]; where its `forward` knows `return_features`, as that of
Inception does, it is asked for them. Nothing here runs Python of a file: TorchScript has an interpreter of its own, and weights
are read with `weights_only`.

Only known weights are called by a published name: FID is the Frechet distance of Inception's features (Heusel 2017, arXiv
1706.08500), FD-DINOv2 that of DINOv2 ViT-L/14 (Stein 2023, arXiv 2306.04675).
"""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from components.core.arrays import Stored
from components.core.errors import DataError
from components.core.features import Pretrained
from components.modalities.image.networks.asked import GIVEN
from components.modalities.image.networks.pixels import coloured, standardised

PUBLISHED = {  # by the digest of the file: the name of the network, and of the Frechet distance of its features
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4": ("inception-2015-12-05", "FID"),
    "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428": ("dinov2-vitl14", "FD-DINOv2"),
}
ALLOWED = "TorchScript (Inception's inception-2015-12-05.pt), or the published weights of a DINOv2 (dinov2_vitl14_pretrain.pth)"
BATCH = 32
SIDE, PATCH, HEAD = 224, 14, 64  # of DINOv2: pixels a side as FD-DINOv2 takes them, and of a patch; features of a head
Network = Callable[[Tensor], Tensor]  # uint8 [B, 3, H, W] to [B, D]


class Given(Pretrained):
    """One of them. It takes its time, so a part of the samples is asked. Raises DataError for a file that is none."""

    samples_most = GIVEN.samples
    real_most = GIVEN.real

    def __init__(self, path: Path, sha256: str) -> None:
        self._sha256 = sha256
        self.name, self.frechet = PUBLISHED.get(sha256, (path.stem, None))
        self._path, self._scripted = path, _is_torchscript(path)

    @property
    def sha256(self) -> str:
        return self._sha256

    def features(self, items: Stored, *, device: str = "cpu") -> npt.NDArray[np.float32]:
        network = (_torchscript if self._scripted else _dinov2)(self._path, device)
        with torch.inference_mode():
            parts = [network(coloured(items[at : at + BATCH]).to(device)) for at in range(0, len(items), BATCH)]
        if any(part.ndim != 2 for part in parts):
            raise DataError(f"proof.network: {self.name} gives {list(parts[0].shape)}", allowed="features [B, D]")
        return torch.cat(parts).float().cpu().numpy()


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"proof.network: {path.name} cannot be read: {error}", allowed=ALLOWED) from error


def _torchscript(path: Path, device: str) -> Network:
    try:
        network = torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0][:200]
        raise DataError(f"proof.network: {path.name} cannot be read: {said}", allowed=ALLOWED) from error
    asked = {argument.name for argument in network.forward.schema.arguments}
    return (lambda x: network(x, return_features=True)) if "return_features" in asked else network


def _dinov2(path: Path, device: str) -> Network:
    """The token of the class, after the last norm. The network is that of transformers."""
    from transformers import Dinov2Config, Dinov2Model

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        named = of_transformers(weights)
        width, depth = named["embeddings.cls_token"].shape[-1], 1 + max(int(k.split(".")[2]) for k in named if ".layer." in k)
        tokens = named["embeddings.position_embeddings"].shape[1] - 1
    except (RuntimeError, KeyError, AttributeError, ValueError, pickle.UnpicklingError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"proof.network: {path.name} is no DINOv2: {said}", allowed=ALLOWED) from error
    config = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=width // HEAD,
        image_size=PATCH * round(tokens**0.5),
        patch_size=PATCH,
    )
    with torch.random.fork_rng(devices=[]):
        network = Dinov2Model(config)
    try:
        network.load_state_dict(named)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"proof.network: {path.name} is no DINOv2: {said}", allowed=ALLOWED) from error
    network = network.eval().requires_grad_(False).to(device)

    def features(x_B3HW: Tensor) -> Tensor:
        wanted = functional.interpolate(x_B3HW.float(), size=(SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 255)
        tokens_BTD: Tensor = network(standardised(wanted)).last_hidden_state
        return tokens_BTD[:, 0]

    return features


def of_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they were published, by the names that transformers' Dinov2Model has for them."""
    outer = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
    }
    inner = {
        "norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2", "attn.proj": "attention.o_proj",
        "ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1",
    }  # fmt: skip
    found = {}
    for name, tensor in weights.items():
        stem, _, kind = name.rpartition(".")
        if not name.startswith("blocks."):
            found[outer[name] if name in outer else f"{outer[stem]}.{kind}"] = tensor
            continue
        _, block, own = name.split(".", 2)
        stem, layer = own.rpartition(".")[0], f"encoder.layer.{block}"
        if stem == "attn.qkv":
            for part, each in zip("qkv", tensor.chunk(3), strict=True):
                found[f"{layer}.attention.{part}_proj.{kind}"] = each
        else:
            found[f"{layer}.{inner[own] if own in inner else f'{inner[stem]}.{kind}'}"] = tensor
    return found
