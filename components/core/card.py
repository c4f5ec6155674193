"""The card of a family: what the policy knows about it. A literal in the family's file, read without importing torch."""

from typing import Literal

from components.core.brief import Conditioning, FamilyName, Modality
from components.core.record import Record


class Card(Record):
    """What one variant of a family is for."""

    family: FamilyName
    variant: str
    title: str
    modalities: tuple[Modality, ...]
    conditioning: tuple[Conditioning, ...] = ("none",)
    likelihood: Literal["exact", "bound", "none"]
    latent: bool  # has encode and decode
    steps: int  # network evaluations a sample, by default
    side_max: int  # pixels; the largest image it is meant for
    data_appetite: int  # items below which it tends to fail or to memorise
    exports: bool = True  # False: it has no ONNX graph, and is not produced for a release
    discrete: bool = False  # draws from categories: a difference in the last bit may choose another one
    distils: str | None = None  # the many-step variant of this family that it makes few steps of
    references: tuple[str, ...]
