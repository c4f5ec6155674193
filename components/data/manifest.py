"""dataset.json: what a prepared folder holds. Nothing in it depends on when, where or by whom it was prepared."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from components.core.errors import DataError
from components.core.item import ItemSpec, spec_of
from components.core.record import Record, first_complaint
from components.data.splits import Split

MANIFEST = "dataset.json"
QUARANTINE = "quarantine.jsonl"
FORMAT = 1  # raise it whenever a stage of dvc.yaml would write other bytes


class Shard(Record):
    """One file of stored items [count, *stored_shape] and, for a set with classes, one of int64 [count] beside it."""

    file: str
    count: int
    size_bytes: int
    sha256: str
    labels_file: str | None = None
    labels_size_bytes: int = 0
    labels_sha256: str | None = None


class Quarantine(Record):
    """Items that could not be used: how many, why, and how many are allowed. quarantine.jsonl names each."""

    count: int
    share_max: float
    reasons: dict[str, int]


class CaptionFile(Record):
    """What is said of the items of a split: a line an item, a JSON list of its captions."""

    file: str
    size_bytes: int
    sha256: str


class CaptionReport(Record):
    """What the captions are, and what was passed over."""

    rule: str  # where they come from: metadata, sidecar, folders, or a template
    most: int  # that one item has
    longest: int  # characters of a caption
    missing: int = 0  # items without a usable one, set aside
    empty: int = 0  # captions
    twice: int = 0  # captions that an item has more than once
    unusable: int = 0  # items that have one that cannot be read
    repeated: int = 0  # items whose first caption an earlier item has
    held_out: Literal["all", "first", "none"]  # which captions of an item no other split has
    seen: int = 0  # held-out items whose first caption a training item has
    examples: tuple[str, ...] = ()


class Report(Record):
    """What became of the files of a source, and what a person should know of the items before training on them."""

    used: int
    left_alone: dict[str, int]  # files that are no items, by suffix or rule
    class_counts: dict[Split, tuple[int, ...]]  # in the order of the classes
    identical: int  # items equal to an earlier one
    shared: int  # held-out items equal to one of the training items
    flat: int  # items of one value all over
    flat_by_ground: int = 0  # of these, transparent pictures laid over the ground
    low: int | float  # of all stored values
    high: int | float
    levels: int | None = None  # of pictures stored in more than eight bits; None: there are none, and no number was asked for
    levels_usual: int | None = Field(default=None, exclude_if=lambda levels: levels is None)  # that nearly all pixels stay within
    transparent: int = 0  # pictures with transparency
    background: str = ""  # what they were laid over
    captions: CaptionReport | None = Field(default=None, exclude_if=lambda captions: captions is None)
    notes: tuple[str, ...]  # rules that were applied

    @property
    def duplicates(self) -> float:
        """The share of items that equal an earlier one."""
        return self.identical / self.used if self.used else 0.0


class Manifest(Record):
    """A prepared dataset. The public sets, whose bytes their lock fixes, have no report in it."""

    format: Literal[1] = 1
    source: str
    modality: str = "image"
    count: int
    shape: tuple[int, ...]  # of a stored item: H, W, C of an image
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    splits: dict[Split, int]
    mean: tuple[float, ...]  # per channel of the training items, of stored values
    std: tuple[float, ...]
    seed: int
    resizer: str | None  # None: the items are as the source gives them
    quarantine: Quarantine
    shards: dict[Split, tuple[Shard, ...]]
    captions: int = Field(default=0, exclude_if=lambda captions: not captions)  # distinct ones of all splits
    caption_files: dict[Split, CaptionFile] = Field(default_factory=dict, exclude_if=lambda files: not files)
    report: Report | None = Field(default=None, exclude_if=lambda report: report is None)
    details: dict[str, Any] = Field(
        default_factory=dict, exclude_if=lambda details: not details
    )  # of an item, where no axis tells

    @property
    def item(self) -> ItemSpec:
        """The shape of one item. Raises DataError where its modality is not known here."""
        try:
            return spec_of(self.modality).of_stored(self.shape, self.details)
        except KeyError:
            raise DataError(f"{self.source}: items of the modality {self.modality!r}, which is not here") from None


def read_manifest(folder: Path) -> Manifest:
    """Read a prepared folder's dataset.json. Raises DataError."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{folder}: not a prepared dataset, it has no {MANIFEST}", do=f"run genwright data prepare SOURCE --to {folder}"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}", do="give it read permission") from error
    except ValidationError as error:
        raise DataError(f"{path}: damaged: {first_complaint(error)}", do="prepare or fetch the dataset again") from error
