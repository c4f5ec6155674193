"""The contract of a modality: how items of one kind are read, stored, shown and delivered. Found by name:
components/modalities/NAME defines `modality`. Imports neither torch nor Pillow; what judges items is a module of its own,
components/modalities/NAME/features.py.

N items, stored as the spec says (core/item.py).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from components.core.discovery import member, names
from components.core.errors import DataError, InputError
from components.core.item import MODALITIES, ItemSpec
from components.core.proof_items import Asked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from components.core.arrays import Pictures, Raw, Stored


class Unreadable(DataError):
    """One item that cannot be used; it goes into quarantine under `reason`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


MAX_FILE_BYTES = 256 << 20  # of one item; a larger file is a mistake


class ItemReader(ABC):
    """Reads the items of one set: each is looked at once, then each is decoded as the whole set asks."""

    suffixes: ClassVar[frozenset[str]]  # of files that are items, in small letters
    resizer: str | None = None  # how items were brought to size, once `spec` was asked; None: they are as the source gives them

    @abstractmethod
    def look(self, item: "Raw") -> None:
        """See one item, of a file its header at least. Raises Unreadable."""

    @abstractmethod
    def spec(self, *, where: str) -> ItemSpec:
        """Of all items as they will be read. Raises DataError where those that were looked at do not go together."""

    @abstractmethod
    def read(self, item: "Raw") -> "Stored":
        """One item, [*stored_shape]. Raises Unreadable."""

    def left_alone(self) -> Mapping[str, int]:
        """Parts of files that are no items: pages after the first."""
        return {}

    def details(self) -> Mapping[str, Any]:
        """What the report of a preparation says of this kind alone."""
        return {}

    def vanishes(self, item: "Raw") -> bool:
        """Whether an item that came out flat did so by how it was read."""
        return False


@dataclass(frozen=True)
class Encoding:
    """A file of one item: its content type, the ending of its name, and how it is made of the stored item. `effort`: how many
    bytes could be copied in about the time that a byte of the item takes; `effort_least` in that of any item."""

    media_type: str
    suffix: str
    encode: "Callable[[Stored, ItemSpec], bytes]"
    effort: int = 16
    effort_least: int = 16 << 10


@dataclass(frozen=True)
class Option:
    """What a user may ask of how items are read: `genwright data prepare SOURCE --side 32`. `least`: of a number."""

    name: str  # as Python writes it: frame_rate for --frame-rate
    kind: type[int] | type[float] | type[str]
    help: str
    least: int | None = None

    @property
    def flag(self) -> str:
        """On the command line."""
        return f"--{self.name.replace('_', '-')}"

    def value(self, text: str) -> int | float | str | None:
        """What is written on a command line; None where nothing is. Raises ValueError for what is no such number."""
        return self.kind(text) if text else None


class Modality(ABC):
    """One kind of item."""

    name: ClassVar[str]
    singular: ClassVar[str] = "item"  # what people call one
    plural: ClassVar[str]  # and several: images
    flat: ClassVar[str] = "one value all over"  # what people call an item that shows nothing
    Spec: ClassVar[type[ItemSpec]]
    encodings: ClassVar[Mapping[str, Encoding]]  # by the name of the format; the first is the default
    options: ClassVar[tuple[Option, ...]] = ()

    @abstractmethod
    def reader(self, options: Mapping[str, Any], *, into: ItemSpec | None = None) -> ItemReader:
        """Of one set, with the user's options, which are some of `options`; `into`: each item is brought to this spec. Raises
        DataError for a value that an option cannot be."""

    def rules(self, details: Mapping[str, Any]) -> list[str]:
        """What was done to the items of a prepared set, for people; `details` are those of its reader."""
        return []

    def remarks(self, details: Mapping[str, Any], *, high: float, mean: Sequence[float], std: Sequence[float]) -> list[str]:
        """What a person should know of the values of a prepared set, each with what to do; `details` are those of its reader."""
        return []

    @abstractmethod
    def pictures(self, items: "Stored", spec: ItemSpec) -> "Pictures":
        """A picture of each item, uint8 [N, H, W, C]: for pages, sheets and grids."""

    @abstractmethod
    def noise(self, n: int, spec: ItemSpec, rng: "np.random.Generator") -> "Stored":
        """Stored of a sampler that learnt nothing: the upper mark of every distance."""

    @abstractmethod
    def vectors(self, items: "Stored") -> "npt.NDArray[np.float32]":
        """Stored as vectors float32 [N, D] in which copies lie next to each other: the items themselves, made smaller where they
        are large, less what copies differ in (the scale of an image's values)."""

    def variants(self, items: "Stored") -> "npt.NDArray[np.float32]":
        """The vectors of all that is still the same item: [V, N, D], the first those of `vectors`. Two items are as far apart as
        the nearest variant of one is from the other. An item alone where nothing is said: what small changes leave an item the
        same, and cannot be taken out of its vector, only its modality knows (a shift or a mirror of an image)."""
        return self.vectors(items)[None]

    def sketches(self, items: "Stored") -> "npt.NDArray[np.float32]":
        """Short vectors [N, E] that a search among many items looks at first; nearly the same for all variants of an item, and
        for a copy nearer than for most other items."""
        return self.vectors(items)

    def asked_of_unseen(self, least: int | None, *, given: bool) -> Asked:
        """What the network that only a proof asks is asked, of items whose shorter side is `least`; `given`: a brief names one.
        As its features say (core/features.py), without their imports."""
        return Asked()


def find_modality(name: str) -> Modality:
    """The modality of this name. Raises InputError for one that is not here.

    >>> list(find_modality("image").encodings)
    ['png']
    """
    try:
        found: Modality = member(MODALITIES, name, "modality")
    except KeyError:
        raise InputError(f"modality {name!r}", allowed=", ".join(modality_names())) from None
    return found


def modality_names() -> tuple[str, ...]:
    """All that are here, sorted."""
    return names(MODALITIES)


def reading_options() -> list[tuple[Option, str]]:
    """The options of all modalities, sorted by name, each with its help for people; two modalities may share one."""
    found: dict[str, tuple[Option, list[str]]] = {}
    for modality in map(find_modality, modality_names()):
        for option in modality.options:
            first, helps = found.setdefault(option.name, (option, []))
            if first.kind is not option.kind:
                raise TypeError(f"modality {modality.name}: its option {option.name} is of another type than another modality's")
            helps.append(f"of {modality.plural}: {option.help}")
    return [(option, "; ".join(helps)) for _, (option, helps) in sorted(found.items())]


def make_reader(modality: Modality, options: Mapping[str, Any]) -> ItemReader:
    """A reader of one set with the user's options. Raises DataError for an option that the modality has not, or a value that it
    cannot be."""
    known = {option.name: option.flag for option in modality.options}
    if unknown := next((name for name in options if name not in known), None):
        flag = f"--{unknown.replace('_', '-')}"
        raise DataError(f"{flag} given for the modality {modality.name}", allowed=", ".join(known.values()) or "none")
    return modality.reader(options)
