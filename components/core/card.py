"""The card of a family: what it is and what it can do. A literal in the family's file, read without importing torch.

Whoever must know whether a family can do a thing asks its card, and never for its name.
"""

from collections.abc import Mapping
from typing import Any, Literal

from components.core.brief import Conditioning, FamilyName, Modality, Mode
from components.core.record import Record


class Card(Record):
    """What one variant of a family is for."""

    family: FamilyName
    variant: str
    title: str
    modalities: tuple[Modality, ...]
    conditioning: tuple[Conditioning | Literal["item"], ...] = ("none",)  # an item: of what another model makes
    likelihood: Literal["exact", "bound", "none"]
    latent: bool  # has encode and decode
    steps: int  # network evaluations a sample, by default
    side_max: int  # pixels; the largest image it is meant for
    data_appetite: int  # items below which it tends to fail or to memorise
    sequential: Literal["none", "pixel", "code", "token"] = "none"  # what it draws one after another
    stepwise: bool = False  # denoises in steps, whose number can be chosen
    solver: str = "ddim"  # of these steps, by default
    stages: int = 1  # that are drawn one after another, each in half the steps of the one before
    on_codes: bool = False  # its steps are on the codes of an autoencoder of its own
    invertible: bool = False  # x to z and back without loss
    wide: bool = False  # meant for more than 256 pixels a side
    starts: tuple[Mode, ...] = ("scratch", "finetune")  # where its weights may begin
    exports: bool = True  # False: it has no ONNX graph, and is not produced for a release
    per_part: tuple[str, ...] = ()  # statistics of the batch that each part has of its own, where memory does not hold the whole
    discrete: bool = False  # draws from categories: a difference in the last bit may choose another one
    distils: str | None = None  # the many-step variant of this family that it makes few steps of
    steers: bool = False  # of a text beside it, it takes another that an item is to be unlike, under guidance
    varies: bool = False  # has variations: draws others like a given item
    student: str | None = None  # the variant of this family that its students are of; None: it has none
    student_steps: tuple[int, ...] = ()  # of a student of this variant, the most first
    loop_above: int | None = None  # a graph of more steps is a loop, whose products are not lowered to eight bits
    student_rate: float = 1.0  # of the teacher's peak learning rate, for a student that begins with its weights
    student_halves: bool = False  # a student of this variant is taught by one of twice its steps, where there is one
    references: tuple[str, ...]

    def takes_negative(self, config: Mapping[str, Any]) -> bool:
        """Whether a model of this recipe can be told what an item is to be unlike: EmbeddingCondition.negative of what it is made
        for."""
        return self.steers and config.get("guidance") != 1
