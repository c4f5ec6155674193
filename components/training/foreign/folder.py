"""What the folder of a model made elsewhere holds: a UNet2DModel and the scheduler of its training, in diffusers' layout.

    FOLDER/model_index.json                  DDPMPipeline, DDIMPipeline or another one of a network and a scheduler alone
    FOLDER/unet/config.json                  the network
    FOLDER/unet/diffusion_pytorch_model.safetensors
    FOLDER/scheduler/scheduler_config.json   betas, and what the network predicts

It becomes a `diffusion/ddpm`, whose network it is (components/families/diffusion/given.py). Nothing here imports torch.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from components.core.errors import DataError, NotBuilt
from components.core.files import sha256_of
from components.core.item import spec_of
from components.core.records import Foreign
from components.training.foreign.licence import CARD, FILES, read_licence
from components.training.foreign.weights import find_weights, shapes_of, weights_artifact

NETWORK = "UNet2DModel"
PARTS = ("unet", "scheduler")
ALLOWED = f"a folder of a pipeline of {NETWORK} and a scheduler, as DDPMPipeline or DDIMPipeline"
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine", "sigmoid": "sigmoid"}
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
# Schedulers of one process, that of Ho et al. 2020; and whether one bounds denoised images where its config does not say so.
SCHEDULERS = {
    "DDPMScheduler": True, "DDIMScheduler": True, "DDIMParallelScheduler": True, "DDPMParallelScheduler": True,
    "PNDMScheduler": False, "DPMSolverMultistepScheduler": False, "DPMSolverSinglestepScheduler": False,
    "DEISMultistepScheduler": False, "UniPCMultistepScheduler": False, "LMSDiscreteScheduler": False,
    "EulerDiscreteScheduler": False, "EulerAncestralDiscreteScheduler": False, "HeunDiscreteScheduler": False,
}  # fmt: skip
DPM = ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler")
MULTIPLE = 16  # of the width of every network here, so that narrower students can be made of it
RATE = 1e-4  # the peak of diffusers' own training script (examples/unconditional_image_generation)


def read_folder(folder: Path, *, name: str, revision: str | None = None, weights: bool) -> Foreign:
    """The model in a folder; `weights`: they are here, and read too. `name`: hf:ORG/NAME, or what a brief calls it.

    Raises NotBuilt for a model of another kind, DataError for a folder that is not whole.
    """
    where = f"pretrained.model: {name}"
    made_as = _pipeline(folder, where)
    network = _document(folder / "unet" / "config.json", where)
    scheduler = _document(folder / "scheduler" / "scheduler_config.json", where)
    channels, height, width = _shape(network, where)
    config = {**_of_scheduler(scheduler, where), **_of_network(network, where, channels=channels)}
    files = _digests(folder)
    artifact = None
    if weights:
        path = find_weights(folder / "unet", where=where)
        shapes_of(path, where=where)  # that it is whole is said before anything else is asked of it
        artifact = weights_artifact(path)
    licence, tags = read_licence(folder)
    return Foreign(
        name=f"{name}@{revision}" if revision else f"{name}@{_digest_of(files, artifact.sha256 if artifact else None)[:12]}",
        revision=revision,
        made_as=made_as,
        family="diffusion",
        variant="ddpm",
        config=config,
        item=spec_of("image").model_validate({"channels": channels, "height": height, "width": width}),
        classes=network.get("num_class_embeds") or 0,
        weights=artifact,
        files=files,
        licence=licence,
        tags=tags,
    )


def weights_of(folder: Path, *, where: str) -> Path:
    """The file of its weights. Raises DataError."""
    return find_weights(folder / "unet", where=where)


def _pipeline(folder: Path, where: str) -> str:
    """The class of the pipeline. Raises NotBuilt for one with other parts than a network and a scheduler."""
    if not (folder / "model_index.json").is_file():
        told = _document(folder / "config.json", where) if (folder / "config.json").is_file() else {}
        what = (
            f"{where} is a {told.get('_class_name', 'folder')} without a scheduler"
            if told
            else f"{where} has no model_index.json"
        )
        raise NotBuilt(f"{what}, so how noise was added in its training is not known", allowed=ALLOWED)
    index = _document(folder / "model_index.json", where)
    named = index.get("_class_name")
    made_as = str(named[-1] if isinstance(named, list) and named else named)
    parts = {part: kind for part, kind in index.items() if isinstance(kind, list) and len(kind) == 2 and kind != [None, None]}
    network = parts.get("unet", [None, None])[1] or next((kind[1] for part, kind in parts.items() if part == "transformer"), None)
    if network != NETWORK:
        raise NotBuilt(f"{where} is a {made_as}" + (f" of {network}" if network else ""), allowed=ALLOWED)
    if others := [part for part in parts if part not in PARTS and part != "_class_name"]:
        raise NotBuilt(f"{where} is a {made_as} with {', '.join(others)}", allowed=ALLOWED)
    return made_as


def _shape(network: Mapping[str, Any], where: str) -> tuple[int, int, int]:
    """Channels, height and width of what it makes."""
    if network.get("_class_name", NETWORK) != NETWORK:
        raise NotBuilt(f"{where}: unet/config.json is of a {network['_class_name']}", allowed=ALLOWED)
    side = network.get("sample_size")
    sides = [side, side] if isinstance(side, int) else side
    if not (isinstance(sides, list) and len(sides) == 2 and all(isinstance(each, int) and each > 0 for each in sides)):
        raise DataError(
            f"{where}: unet/config.json has sample_size: {json.dumps(side)}",
            allowed="pixels a side",
            do="write those it was trained on",
        )
    channels = network.get("in_channels", 3)
    if not isinstance(channels, int) or channels < 1:
        raise DataError(f"{where}: unet/config.json has in_channels: {channels}", allowed="a whole number of at least 1")
    return channels, sides[0], sides[1]


def _of_network(network: Mapping[str, Any], where: str, *, channels: int) -> dict[str, Any]:
    """What a config here has of the network."""
    given = {name: value for name, value in network.items() if not name.startswith("_")}
    widths = given.get("block_out_channels")
    width = widths[0] if isinstance(widths, list) and widths else None
    if not isinstance(width, int) or width < MULTIPLE or width % MULTIPLE:
        allowed = f"a list whose first is a multiple of {MULTIPLE}"
        raise DataError(f"{where}: unet/config.json has block_out_channels: {json.dumps(widths)}", allowed=allowed)
    out = given.get("out_channels", 3)
    if out not in (channels, 2 * channels):
        raise NotBuilt(f"{where}: unet/config.json makes {out} channels of {channels}", allowed=f"{channels}, or {2 * channels}")
    return {
        "network": given,
        "width": width,
        "dropout": given.get("dropout", 0.0),
        "learned_variance": out == 2 * channels,
        "lr_peak": RATE,
    }


def _of_scheduler(scheduler: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a config here has of the scheduler."""
    kind = str(scheduler.get("_class_name"))
    if kind not in SCHEDULERS:
        raise NotBuilt(f"{where}: its scheduler is a {kind}", allowed=", ".join(SCHEDULERS))
    schedule, prediction = scheduler.get("beta_schedule", "linear"), scheduler.get("prediction_type", "epsilon")
    clip = scheduler.get("clip_sample", SCHEDULERS[kind])
    odd = {
        "beta_schedule": (schedule, schedule in SCHEDULES, ", ".join(SCHEDULES)),
        "prediction_type": (prediction, prediction in PREDICTIONS, ", ".join(PREDICTIONS)),
        "trained_betas": ("a list", scheduler.get("trained_betas") is None, "none"),
        "thresholding": (True, not scheduler.get("thresholding", False), "false"),
        "clip_sample_range": (
            scheduler.get("clip_sample_range"),
            not clip or scheduler.get("clip_sample_range", 1.0) == 1,
            "1.0",
        ),
    }
    for key, (given, fits, allowed) in odd.items():
        if not fits:
            raise NotBuilt(f"{where}: its scheduler has {key}: {given}", allowed=allowed)
    return {
        "schedule": SCHEDULES[schedule],
        "levels": scheduler.get("num_train_timesteps", 1000),
        "prediction": PREDICTIONS[prediction],
        "zero_snr": bool(scheduler.get("rescale_betas_zero_snr", False)),
        "clip": bool(clip),
        "solver": "dpm++" if kind in DPM else "ddim",
        **({} if schedule == "squaredcos_cap_v2" else _ends(scheduler)),
    }


def _ends(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    return {"betas_from": scheduler.get("beta_start", 1e-4), "betas_to": scheduler.get("beta_end", 0.02)}


def _digests(folder: Path) -> dict[str, str]:
    """Of what is read besides the weights."""
    names = ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json", CARD, *FILES)
    return {name: sha256_of(folder / name) for name in names if (folder / name).is_file()}


def _digest_of(files: Mapping[str, str], weights: str | None) -> str:
    return sha256(json.dumps([dict(files), weights], sort_keys=True).encode()).hexdigest()


def _document(path: Path, where: str) -> dict[str, Any]:
    """A JSON object. Raises DataError."""
    short = "/".join(path.parts[-2:])
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{where}: no {short} in it", allowed=ALLOWED) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: {short} cannot be read: {error}", do="fetch it again") from error
    if not isinstance(document, dict):
        raise DataError(f"{where}: {short} holds no object", do="fetch it again")
    return document
