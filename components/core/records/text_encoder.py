"""What is known of a text encoder: the pinned model by whose embeddings items are asked for."""

from typing import Literal

from pydantic import Field

from components.core.brief import LENGTH_MAX, TextPrecision
from components.core.record import Record
from components.core.records.condition import EmbeddingCondition
from components.core.records.foreign import Licence

ENCODER_JSON = "encoder.json"
EncoderKind = Literal["bert", "clip", "t5"]


class TextEncoder(Record):
    """One of some length: what it reads of a text, and what it makes of it. In its folder this record is encoder.json, beside
    text_encoder.onnx and tokenizer.json."""

    name: str  # minilm, hf:ORG/NAME@COMMIT, or the name of a folder
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # of its weights, its config and its tokenizer, as published
    kind: EncoderKind
    length: int = Field(ge=2, le=LENGTH_MAX)  # tokens of a text, those at its ends counted
    features: int = Field(ge=1)  # numbers a token
    vocabulary: int = Field(ge=2)
    precision: TextPrecision = "fp32"
    licence: Licence

    @property
    def address(self) -> str:
        """As a condition names it."""
        return f"{self.name}@{self.sha256}"

    @property
    def text(self) -> str:
        """For a person."""
        licence = self.licence.name or "licence not stated"
        return (
            f"{self.name} ({self.kind}, {self.sha256[:12]}, {self.length} tokens of {self.features}, {self.precision}, {licence})"
        )

    def condition(self, *, negative: bool = False) -> EmbeddingCondition:
        """What items are asked for by; `negative`: of a sampler that can be told what they shall be unlike."""
        return EmbeddingCondition(length=self.length, features=self.features, encoder=self.address, negative=negative)
