"""What is known of a model that was made elsewhere: where it came from, what it may be used for, and what it makes."""

from typing import Any, Literal

from pydantic import Field

from components.core.brief import FamilyName
from components.core.item import AnyItem
from components.core.record import Record
from components.core.records.artifact import Artifact
from components.core.records.condition import EmbeddingCondition

Terms = Literal["free", "use-based", "noncommercial", "unknown"]


class Licence(Record):
    """What a model's card and licence say. `terms`: whether it forbids commercial use, limits some uses, or neither."""

    name: str  # as the card has it; empty where nothing says it
    terms: Terms
    said_by: str = ""  # the file that says so
    against: str = (
        ""  # words of a licence's file, and its name, that forbid what `name` permits: then `terms` are those of the file
    )

    @property
    def text(self) -> str:
        """Its name, and what speaks against it."""
        return (self.name or "unknown") + (f", against {self.against}" if self.against else "")


class Foreign(Record):
    """A model made elsewhere, as its folder says. `name` is the same wherever it is read from the same files."""

    name: str  # hf:ORG/NAME@COMMIT, or FOLDER@DIGEST, of its files
    revision: str | None = None  # the commit of the hub that the files are of; None where nothing here knows it
    unverified: str | None = (
        None  # the revision that a brief asks for, of a mirror that knows no commit: digests are all that is known
    )
    made_as: str  # the class of its pipeline, as DDPMPipeline
    family: FamilyName
    variant: str
    config: dict[str, Any]  # of the family here that it is one of
    item: AnyItem
    classes: int = 0  # that it may be asked for; 0: none
    text: EmbeddingCondition | None = None  # what a text becomes that it is asked by; None: none asks it
    weights: Artifact | None = None  # as published, of several files their bytes as one; None: not fetched yet
    files: dict[str, str] = Field(default_factory=dict)  # SHA-256 of what else was read, by the path in the folder
    beside: dict[str, Artifact] = Field(default_factory=dict)  # published files that are no weights of it here, by their path
    licence: Licence
    tags: tuple[str, ...] = ()

    @property
    def revision_text(self) -> str:
        """The commit, or why there is none."""
        asked = f"revision {self.unverified} asked for, not verified by this mirror" if self.unverified else "none"
        return self.revision or asked
