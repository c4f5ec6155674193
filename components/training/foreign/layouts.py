"""The kinds of pipelines that can be a base: the parts that each has, of which classes, and the variant here that it is one of.

ddpm   unet + scheduler                                       a U-Net of pixels
ldm    unet + vqvae or vae + scheduler                        a U-Net of codes
ldm    unet + vae + text_encoder + tokenizer + scheduler      a U-Net of codes that a text steers: Stable Diffusion
dit    transformer + vae + scheduler                          a transformer of codes
mmdit  transformer + vae + text_encoder + tokenizer + scheduler    a transformer of codes and text, by flow matching: AuraFlow

A safety checker and what it looks through are no part of what is drawn, and left where they are.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from components.core.errors import DataError, NotBuilt

U_NET, TRANSFORMER, TEXT_U_NET = "UNet2DModel", "DiTTransformer2DModel", "UNet2DConditionModel"
FLOW_TRANSFORMER = "AuraFlowTransformer2DModel"
TEXT_ENCODER, TOKENIZER = "text_encoder", "tokenizer"
CLIP = {TEXT_ENCODER: ("CLIPTextModel",), TOKENIZER: ("CLIPTokenizer", "CLIPTokenizerFast")}
T5 = {
    TEXT_ENCODER: ("T5EncoderModel", "UMT5EncoderModel"),
    TOKENIZER: ("T5TokenizerFast", "T5Tokenizer", "LlamaTokenizerFast", "LlamaTokenizer", "PreTrainedTokenizerFast"),
}
LEFT_OUT = ("safety_checker", "feature_extractor")
RENAMED = {"Transformer2DModel": TRANSFORMER}  # before diffusers 0.29; of the other norms text steers it (PixArt)
ALLOWED = (
    f"a pipeline of a {U_NET} and a scheduler (DDPMPipeline, DDIMPipeline), with an autoencoder (LDMPipeline), a "
    "StableDiffusionPipeline, a DiTPipeline, or an AuraFlowPipeline"
)
SCHEDULER = "scheduler"


class Layout(NamedTuple):
    """A kind of pipeline: the names of its parts, each with the classes that it may be of."""

    variant: str
    network: tuple[str, tuple[str, ...]]
    autoencoder: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    reads: Mapping[str, tuple[str, ...]] = {}  # where a text asks it: the parts that read one
    made_as: str = ""  # where it is known by the class of its pipeline: that


LAYOUTS = (
    Layout("ddpm", network=("unet", (U_NET,))),
    Layout("ldm", network=("unet", (U_NET,)), autoencoder=(("vqvae", "vae"), ("VQModel", "AutoencoderKL"))),
    Layout(
        "ldm",
        network=("unet", (TEXT_U_NET,)),
        autoencoder=(("vae",), ("AutoencoderKL",)),
        reads=CLIP,
        made_as="StableDiffusionPipeline",
    ),
    Layout(
        "mmdit",
        network=("transformer", (FLOW_TRANSFORMER,)),
        autoencoder=(("vae",), ("AutoencoderKL",)),
        reads=T5,
        made_as="AuraFlowPipeline",
    ),
    Layout("dit", network=("transformer", (TRANSFORMER, *RENAMED)), autoencoder=(("vae",), ("AutoencoderKL",))),
)


class Found(NamedTuple):
    """What a folder is: the class of its pipeline, the variant, and the folders of its parts."""

    made_as: str
    variant: str
    network: str
    autoencoder: str | None
    kind: str = ""  # the class of its network
    text: bool = False

    @property
    def weighted(self) -> tuple[str, ...]:
        """The parts whose weights are those of the model here."""
        return (self.network, *([self.autoencoder] if self.autoencoder else []))


def find_layout(index: Mapping[str, Any], where: str) -> Found:
    """What a model_index.json tells of. Raises NotBuilt for a pipeline of other parts, DataError for one that lacks what reads
    texts."""
    named = index.get("_class_name")
    made_as = str(named[-1] if isinstance(named, list) and named else named)
    parts = {part: str(kind[1]) for part, kind in index.items() if _is_part(part, kind)}
    others = {part: kind for part, kind in parts.items() if part not in (SCHEDULER, *LEFT_OUT)}
    for layout in LAYOUTS:
        if layout.reads and layout.made_as == made_as and others.get(layout.network[0]) in layout.network[1]:
            _check_reads(others, layout.reads, f"{where} is a {made_as}")
        if layout.made_as not in ("", made_as):
            continue
        network, autoencoders = layout.network[0], [part for part in layout.autoencoder[0] if part in others]
        if set(others) == {network, *autoencoders[:1], *layout.reads} and bool(autoencoders) is bool(layout.autoencoder[0]):
            classes = dict([layout.network, *((part, layout.autoencoder[1]) for part in autoencoders)])
            for part, known in (classes | dict(layout.reads)).items():
                if parts[part] not in known:
                    raise NotBuilt(f"{where} is a {made_as} whose {part} is a {parts[part]}", allowed=ALLOWED)
            codec = autoencoders[0] if autoencoders else None
            return Found(made_as, layout.variant, network, codec, layout.network[1][0], bool(layout.reads))
    what = f" with {', '.join(f'{part} ({kind})' for part, kind in sorted(others.items()))}" if others else " without a network"
    raise NotBuilt(f"{where} is a {made_as}{what}", allowed=ALLOWED)


def _check_reads(parts: Mapping[str, str], reads: Mapping[str, tuple[str, ...]], what: str) -> None:
    if lacking := [part for part in reads if part not in parts]:
        raise DataError(
            f"{what} without its {lacking[0]}, and its network is asked by what that makes of a text",
            do="save it whole with diffusers: pipeline.save_pretrained(FOLDER)",
        )


def reads_of(made_as: str) -> dict[str, list[str]]:
    """How a model_index.json names what reads texts in such a pipeline, where it was saved without."""
    (reads,) = (layout.reads for layout in LAYOUTS if layout.made_as == made_as)
    return {part: ["transformers", known[0]] for part, known in reads.items()}


def _is_part(part: str, kind: object) -> bool:
    return part != "_class_name" and isinstance(kind, list) and len(kind) == 2 and kind != [None, None]
