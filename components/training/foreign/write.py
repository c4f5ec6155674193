"""A model of a release as a folder of diffusers: model_index.json, its networks in safetensors, its scheduler, and a card.

    TO/NAME/model_index.json  README.md  scheduler/scheduler_config.json
    TO/NAME/unet/config.json  unet/diffusion_pytorch_model.safetensors
    TO/NAME/vqvae/...         where it draws codes; of a transformer TO/NAME/transformer/... and TO/NAME/vae/...
    TO/NAME/text_encoder/...  TO/NAME/tokenizer/...  as they were published, where a text steers it

What diffusers' pipeline draws from it is what the release draws, of the same noise in the same number of steps, or at the
`sigmas` that the card names; where denoised images are bounded, with `use_clipped_model_output=True`.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

from components.core.brief import HUB
from components.core.errors import disk_error
from components.core.files import write_whole
from components.core.records import Bundle
from components.training.foreign.layouts import reads_of
from components.training.foreign.licence import CARD

NOTHING: Mapping[str, Path] = MappingProxyType({})
PLAIN = """from diffusers import DDIMPipeline

pipeline = DDIMPipeline.from_pretrained("FOLDER")
images = pipeline(batch_size=4, num_inference_steps=50, use_clipped_model_output=True).images
"""
BY_CLASS = """import torch
from diffusers import DDIMPipeline

pipeline = DDIMPipeline.from_pretrained("FOLDER")
x, classes = torch.randn{shape}, torch.zeros(4, dtype=torch.int64)
pipeline.scheduler.set_timesteps(50)
with torch.no_grad():
    for t in pipeline.scheduler.timesteps:
        said = pipeline.unet(x, t, class_labels=classes).sample
        x = pipeline.scheduler.step(said, t, x, use_clipped_model_output=True).prev_sample  # in [-1, 1]
"""

CODES_BY_CLASS = """import torch
from diffusers import LDMPipeline

pipeline = LDMPipeline.from_pretrained("FOLDER")
net, vqvae, classes = pipeline.unet, pipeline.vqvae, torch.zeros(4, dtype=torch.int64)
x = torch.randn(4, net.config.in_channels, net.config.sample_size, net.config.sample_size)
pipeline.scheduler.set_timesteps(50)
with torch.no_grad():
    for t in pipeline.scheduler.timesteps:
        x = pipeline.scheduler.step(net(x, t, class_labels=classes).sample, t, x, use_clipped_model_output=True).prev_sample
    images = vqvae.decode(x / vqvae.config.scaling_factor).sample  # about [-1, 1]
"""
OF_CODES = """from diffusers import LDMPipeline

pipeline = LDMPipeline.from_pretrained("FOLDER")
images = pipeline(batch_size=4, num_inference_steps=50).images
"""
TRANSFORMER = """from diffusers import DiTPipeline

pipeline = DiTPipeline.from_pretrained("FOLDER")
# DiTPipeline takes label 1000 for none of the classes: with another number of them it draws without guidance (guidance_scale=1).
images = pipeline(class_labels=[0], guidance_scale={guidance:g}, num_inference_steps=50).images
"""
BY_TEXT = """from diffusers import {made_as}

pipeline = {made_as}.from_pretrained("FOLDER")
images = pipeline("a text", negative_prompt="", guidance_scale={guidance:g}, {drawn}{sides}).images
"""
LABELS = 1000  # of the classes that a DiTPipeline's call is made for

if TYPE_CHECKING:
    from components.core.family import Family


def write_diffusers(
    family: "Family", bundle: Bundle, *, version: int, to: Path, beside: Mapping[str, Path] = NOTHING
) -> list[Path]:
    """Write the folder of a release; every file in it. `beside`: what of its base's published files reads texts, by their paths
    there. Raises BriefError for a family that diffusers has no pipeline for."""
    return write_release(family, bundle, to / bundle.model, name=f"{bundle.model}, version {version}", beside=beside)


def write_release(
    family: "Family", bundle: Bundle, folder: Path, *, name: str, beside: Mapping[str, Path] = NOTHING
) -> list[Path]:
    """The same into this folder; `name` heads its card."""
    try:
        made_as = write_pipeline(family, folder, beside=beside)
    except OSError as error:
        raise disk_error(error, folder) from error
    told: dict[str, Any] = {"guidance": getattr(family.config, "guidance", 1.0), "steps": getattr(family.config, "steps", 50)}
    code = code_of(made_as, bundle, **told, sigmas=getattr(family, "sigmas", None))
    write_whole(folder / CARD, card_of(bundle, name=name, code=code).encode())
    return sorted(path for path in folder.rglob("*") if path.is_file())


def write_pipeline(family: "Family", folder: Path, *, beside: Mapping[str, Path]) -> str:
    """Write a family as a folder of diffusers; the class of its pipeline."""
    pipeline = family.pipeline()
    folder.mkdir(parents=True, exist_ok=True)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for path, file in beside.items():
        (folder / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(file, folder / path)
    if beside:
        index = folder / "model_index.json"
        told = json.loads(index.read_bytes()) | reads_of(type(pipeline).__name__)
        write_whole(index, json.dumps(told, indent=2, sort_keys=True).encode())
    return type(pipeline).__name__


def code_of(made_as: str, bundle: Bundle, *, guidance: float, steps: int, sigmas: list[float] | None = None) -> str:
    """How a program without genwright draws from the folder; at these levels, where its scheduler would choose others."""
    if made_as in ("StableDiffusionPipeline", "AuraFlowPipeline"):
        _, height, width = bundle.spec.shape
        length = getattr(bundle.spec.condition, "length", 256)
        sides = "" if made_as == "StableDiffusionPipeline" else f", height={height}, width={width}, max_sequence_length={length}"
        drawn = f"num_inference_steps={steps}" if sigmas is None else f"sigmas={sigmas}"
        return BY_TEXT.format(made_as=made_as, guidance=guidance, drawn=drawn, sides=sides)
    asked = bundle.spec.condition is not None
    if made_as == "DiTPipeline":
        return TRANSFORMER.format(guidance=guidance if len(bundle.spec.classes) == LABELS else 1.0)
    if made_as == "LDMPipeline" and not asked:
        return OF_CODES
    if not asked:
        return PLAIN
    return BY_CLASS.format(shape=(4, *bundle.spec.shape)) if made_as != "LDMPipeline" else CODES_BY_CLASS


def card_of(bundle: Bundle, *, name: str, code: str) -> str:
    """README.md with what the hub reads at its top: the licence and the base go with all that is made of it."""
    origin = bundle.lineage.foreign
    told: dict[str, object] = {"library_name": "diffusers", "tags": ["genwright", "unconditional-image-generation"]}
    if bundle.spec.condition is not None and not bundle.spec.classes:
        told["tags"] = ["genwright", "text-to-image"]
    if origin is not None and origin.licence.name:
        told["license"] = origin.licence.name
    if origin is not None and origin.name.startswith(HUB):
        told["base_model"] = origin.name.removeprefix(HUB).partition("@")[0]
    base = f"\n\nIts weights began with {origin.name}, licence {origin.licence.text}." if origin else ""
    item, asked = bundle.spec.item, bundle.spec.condition
    classes = len(bundle.spec.classes)
    what = f"images of {item.text}" + (f", of {classes} classes" if classes else ", asked for by a text" if asked else "")
    return (
        f"---\n{yaml.safe_dump(told, sort_keys=False)}---\n\n# {name}\n\n"
        f"`{bundle.family}/{bundle.variant}` makes {what}; trained on data `{bundle.lineage.dataset_md5[:12]}`.{base}\n\n"
        f"```python\n{code}```\n"
    )
