"""An adapter as files: those that peft reads, and beside them what drawing needs of the buffers.

adapter_config.json          peft's LoraConfig, keys and sets in order, so that the same adapter is the same bytes
adapter_model.safetensors    peft's names, with the same config in the header: without alpha a reader scales by 1
adapter_buffers.safetensors  the buffers that training measured anew, such as the moments of batch normalisation; left out where
                             there are none
pytorch_lora_weights.safetensors    the same matrices by the names that `load_lora_weights` of diffusers' pipelines knows, where
                                    the model is one that has this call
"""

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from components.core.errors import RunError
from components.core.family import Family
from components.training.adapter.merging import NAME, image_tolerance, images_apart, inject, lora_layers
from components.training.adapter.targets import network_name, network_of

if TYPE_CHECKING:
    from peft import LoraConfig

CONFIG, MATRICES, BUFFERS = "adapter_config.json", "adapter_model.safetensors", "adapter_buffers.safetensors"
OF_PIPELINE = "pytorch_lora_weights.safetensors"
PREFIX = "base_model.model."  # of every name in peft's files
METADATA = "lora_adapter_metadata"  # where diffusers keeps the config in a header

Files = Mapping[str, bytes]  # by their names


def adapter_files(adapted: Family, config: "LoraConfig", base: Mapping[str, Tensor]) -> dict[str, bytes]:
    """The files of an adapted family's adapter. `config`: as it was injected; `base`: the weights that it was laid beside."""
    text = json.dumps(_plain(config), indent=2, sort_keys=True)
    own = {name: value.contiguous() for name, value in _matrices(adapted, config).items()}
    matrices = save({f"{PREFIX}{name}": value for name, value in own.items()}, metadata={METADATA: text})
    files = {CONFIG: f"{text}\n".encode(), MATRICES: matrices}
    if part := adapted.lora_part:
        told = json.dumps({f"{part}.{key}": value for key, value in _plain(config).items()}, indent=2, sort_keys=True)
        files[OF_PIPELINE] = save({f"{part}.{name}": value for name, value in own.items()}, metadata={METADATA: told})
    buffers = ((name, value) for name, value in adapted.named_buffers() if name in base)
    measured = {name: value.contiguous() for name, value in buffers if not torch.equal(value, base[name])}
    return files | ({BUFFERS: save(measured)} if measured else {})


def load_adapter(plain: Family, files: Files, *, base_sha256: str) -> Family:
    """Lay the adapter of these files beside a family that has the weights of its base, through peft's own loader. All of it
    rests, as in `keep` and in peft: torch multiplies by a weight that learns in another order, also without gradients.

    Raises RunError for one of another base, for names that do not match and for shapes of another network.
    """
    from peft import LoraConfig, set_peft_model_state_dict

    try:
        config = LoraConfig(**_known(files))
    except (TypeError, ValueError) as error:
        raise RunError(f"{CONFIG}: not what peft takes: {error}") from error
    if config.base_model_name_or_path != f"sha256:{base_sha256}":
        what = f"this adapter is of the base {config.base_model_name_or_path}, and sha256:{base_sha256} is given"
        raise RunError(what, do="load it beside the base that it was trained on")
    config.inference_mode = False
    try:
        inject(plain, config)
        network = network_of(plain)
        network.peft_config = {NAME: config}  # type: ignore[assignment] # where peft looks for it
        matrices = {name.removeprefix(PREFIX): value for name, value in load(files[MATRICES]).items()}
        wanted = _matrices(plain, config).keys()
        if wrong := sorted(wanted ^ matrices.keys()):
            how = "missing in the file" if wrong[0] in wanted else "not of this network"
            raise RunError(f"{MATRICES}: {wrong[0]} is {how}, and {len(wrong) - 1} more names do not match")
        set_peft_model_state_dict(network, matrices, adapter_name=NAME)
        known = dict(plain.named_buffers())
        for name, value in (load(files[BUFFERS]) if BUFFERS in files else {}).items():
            known[name].copy_(value)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise RunError(f"this adapter does not fit {plain.card.family}/{plain.card.variant}: {error}") from error
    return plain.eval().requires_grad_(requires_grad=False)


def check_reloads(adapted: Family, files: Files, base: Mapping[str, Tensor], *, base_sha256: str) -> None:
    """Raises RunError unless the files beside the base are the adapted family to the last bit: every weight, buffer and scale.

    The base is made anew from its weights, so nothing of the adapted family's memory can help. Images are compared besides, for
    what stands in none of these. They are the same bits where both rest; but what is all equal must not end a training.
    """
    plain = type(adapted)(adapted.config, adapted.spec)
    plain.load_state_dict(dict(base))
    again = load_adapter(plain.eval(), files, base_sha256=base_sha256)
    known, other = adapted.state_dict(), "the adapter that was written is not the one that was trained: "
    beside = {id(parameter) for parameter in adapted.beside_adapter()}  # a discriminator: no part of what draws, nor of the files
    drawing = known.keys() - {name for name, parameter in adapted.named_parameters() if id(parameter) in beside}
    if wrong := [name for name, value in again.state_dict().items() if name in drawing and not torch.equal(value, known[name])]:
        raise RunError(f"{other}{wrong[0]} and {len(wrong) - 1} more weights differ")
    scales = {name: layer.scaling[NAME] for name, layer in lora_layers(adapted)}
    if wrong := [name for name, layer in lora_layers(again) if layer.scaling[NAME] != scales[name]]:
        raise RunError(f"{other}the scale of {wrong[0]} and {len(wrong) - 1} more layers differs")
    if not (apart := images_apart(again, adapted)) <= image_tolerance(adapted):
        raise RunError(f"{other}it draws other images, by {apart:.2g} on average", allowed=f"{image_tolerance(adapted):g}")


def learnt_state(folder: Path, adapted: Family) -> dict[str, Tensor]:
    """The matrices in a folder by their names in the adapted family, so that its training can go back to them."""
    name = f"{network_name(adapted)}." if network_name(adapted) else ""
    with safe_open(folder / MATRICES, framework="pt") as file:
        kept = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    own = (key for key in adapted.state_dict() if ".lora_" in key)
    return {key: kept[f"{PREFIX}{_in_files(key.removeprefix(name))}"] for key in own}


def factors_of(files: Files) -> dict[str, tuple[Tensor, Tensor]] | None:
    """A and s B of each layer, in double precision, by its name in the network: its weight grows by (s B) A. None where there are
    no files, and for DoRA, which is no such sum. Raises RunError for files that are damaged."""
    if CONFIG not in files:
        return None
    config = _known(files)
    if config["use_dora"]:
        return None
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config["use_rslora"] else config["r"])
    try:
        named = {name.removeprefix(PREFIX): value.double() for name, value in load(files[MATRICES]).items()}
    except (SafetensorError, KeyError) as error:
        raise RunError(f"{MATRICES}: cannot be read: {error}") from error
    ends = (".lora_A.weight", ".lora_B.weight")
    layers = [name.removesuffix(ends[0]) for name in named if name.endswith(ends[0])]
    return {layer: (named[f"{layer}{ends[0]}"], scale * named[f"{layer}{ends[1]}"]) for layer in layers}


def _in_files(key: str) -> str:
    """
    >>> _in_files("conv.lora_A.default.weight"), _in_files("conv.lora_magnitude_vector.default.weight")
    ('conv.lora_A.weight', 'conv.lora_magnitude_vector')
    """
    layer, _, kind = key.removesuffix(f".{NAME}.weight").rpartition(".")
    return f"{layer}.{kind}" if kind == "lora_magnitude_vector" else f"{layer}.{kind}.weight"


def _matrices(adapted: Family, config: "LoraConfig") -> dict[str, Tensor]:
    """By peft's names, without its prefix."""
    from peft import get_peft_model_state_dict

    network = network_of(adapted)
    network.peft_config = {NAME: config}  # type: ignore[assignment] # where peft looks for it
    found: dict[str, Tensor] = get_peft_model_state_dict(network, adapter_name=NAME, save_embedding_layers=False)
    return {name: value.detach() for name, value in found.items()}


def _plain(config: "LoraConfig") -> dict[str, Any]:
    """A config as JSON has it, ready to be loaded: the names of layers in order, where peft has a set."""
    told = copy.deepcopy(config.to_dict()) | {"inference_mode": True}
    return {key: sorted(value) if isinstance(value, set) else value for key, value in told.items()}


def _known(files: Files) -> dict[str, Any]:
    """What LoraConfig takes of adapter_config.json. Raises RunError for another file."""
    try:
        found: dict[str, Any] = json.loads(files[CONFIG])
        if found.pop("peft_type") != "LORA":
            raise ValueError("not of LoRA")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{CONFIG}: cannot be read: {error}") from error
    return {key: value for key, value in found.items() if key not in ("auto_mapping", "peft_version")}
