"""The kinds of pipelines that can be a base: the parts that each has, of which classes, and the variant here that it is one of.

ddpm   unet + scheduler                   a U-Net of pixels
ldm    unet + vqvae or vae + scheduler    a U-Net of codes
dit    transformer + vae + scheduler      a transformer of codes
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from components.core.errors import NotBuilt

U_NET, TRANSFORMER = "UNet2DModel", "DiTTransformer2DModel"
RENAMED = {"Transformer2DModel": TRANSFORMER}  # before diffusers 0.29; of the other norms text steers it (PixArt)
ALLOWED = (
    f"a pipeline of a {U_NET} and a scheduler (DDPMPipeline, DDIMPipeline), with an autoencoder (LDMPipeline), or a DiTPipeline"
)
SCHEDULER = "scheduler"


class Layout(NamedTuple):
    """A kind of pipeline: the names of its parts, each with the classes that it may be of."""

    variant: str
    network: tuple[str, tuple[str, ...]]
    autoencoder: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


LAYOUTS = (
    Layout("ddpm", network=("unet", (U_NET,))),
    Layout("ldm", network=("unet", (U_NET,)), autoencoder=(("vqvae", "vae"), ("VQModel", "AutoencoderKL"))),
    Layout("dit", network=("transformer", (TRANSFORMER, *RENAMED)), autoencoder=(("vae",), ("AutoencoderKL",))),
)


class Found(NamedTuple):
    """What a folder is: the class of its pipeline, the variant, and the folders of its parts."""

    made_as: str
    variant: str
    network: str
    autoencoder: str | None

    @property
    def weighted(self) -> tuple[str, ...]:
        """The parts that have weights."""
        return (self.network, *([self.autoencoder] if self.autoencoder else []))


def find_layout(index: Mapping[str, Any], where: str) -> Found:
    """What a model_index.json tells of. Raises NotBuilt for a pipeline of other parts."""
    named = index.get("_class_name")
    made_as = str(named[-1] if isinstance(named, list) and named else named)
    parts = {part: str(kind[1]) for part, kind in index.items() if _is_part(part, kind)}
    others = dict(parts)
    others.pop(SCHEDULER, None)
    for layout in LAYOUTS:
        network, autoencoders = layout.network[0], [part for part in layout.autoencoder[0] if part in others]
        if set(others) == {network, *autoencoders[:1]} and bool(autoencoders) is bool(layout.autoencoder[0]):
            for part, classes in [layout.network, *((part, layout.autoencoder[1]) for part in autoencoders)]:
                if parts[part] not in classes:
                    raise NotBuilt(f"{where} is a {made_as} whose {part} is a {parts[part]}", allowed=ALLOWED)
            return Found(made_as, layout.variant, network, autoencoders[0] if autoencoders else None)
    what = f" with {', '.join(f'{part} ({kind})' for part, kind in sorted(others.items()))}" if others else " without a network"
    raise NotBuilt(f"{where} is a {made_as}{what}", allowed=ALLOWED)


def _is_part(part: str, kind: object) -> bool:
    return part != "_class_name" and isinstance(kind, list) and len(kind) == 2 and kind != [None, None]
