"""What an item is asked for by: a class, the embedding of a text, or another item. Asking for nothing is None.

N items. A condition is one more input of a sampler, [N, *shape]; its type and shape follow from its record. The record says all
that others ask of it: what the items of a split are asked for by, what a proof asks for, what a request may say.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import Field

from components.core.errors import DataError, InputError
from components.core.item import AnyItem
from components.core.record import Record

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Rows = npt.NDArray[Any]  # [N, *shape] of a condition
    Indices = npt.NDArray[np.int64]

NUMBER_MAX = 1000  # embeddings and items lie well within


class Split(Protocol):
    """What a condition needs of items: their classes where they have some. A core.protocols.ItemSplit."""

    labels: "npt.NDArray[np.int64] | None"  # [N]

    def __len__(self) -> int: ...


@runtime_checkable
class ConditionedSplit(Protocol):
    """A split that holds what each of its items is asked for by, where that is no class."""

    def take_condition(self, indices: "Indices", *, epoch: int = 0) -> "Rows":
        """Of the items at `indices`, float32 [len(indices), *shape of the condition]. An item of several conditions, such as
        captions, has another one in another epoch."""
        ...


class _Asked(Record, ABC):
    """What every condition can say of itself."""

    asked: ClassVar[str]  # how a brief and a card call it
    datatype: ClassVar[Literal["INT64", "FP32"]]
    lists: ClassVar[int] = 0  # how many lists deep a request's value for one item is
    required: ClassVar[bool] = True  # whether a request must say it

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what one item is asked for by."""
        return ()

    @property
    @abstractmethod
    def text(self) -> str:
        """What a request gives, for people."""

    def rows(self, n: int, given: "Sequence[int] | Rows | None" = None) -> "Rows":
        """The input of n items, [n, *shape]: what is given, then zeros; of classes that is the first one."""
        import numpy as np

        rows = np.zeros((n, *self.shape), {"INT64": np.int64, "FP32": np.float32}[self.datatype])
        if given is not None:
            rows[: len(given)] = given
        return rows

    @abstractmethod
    def examples(self, n: int) -> "Rows":
        """Some, the same ones every time, [n, *shape]."""

    @abstractmethod
    def of_items(self, split: "Split", indices: "Indices", *, epoch: int = 0) -> "Rows":
        """What the items at `indices` are asked for by, [len(indices), *shape]. Raises DataError where the data does not say."""

    @abstractmethod
    def like(self, split: "Split", n: int, *, seed: int) -> "Rows":
        """What n samples are asked for that are held against this split, [n, *shape]: as its items are.

        Row k does not depend on n. Raises DataError where the data does not say.
        """

    def watched(self, split: "Split", n: int) -> "Rows":
        """What the n samples are asked for that training is watched by, the same ones every time, [n, *shape]."""
        return self.like(split, n, seed=0)

    def listed(self, value: Any) -> list[Any] | None:
        """What a request's `value` asks for, one an item; None where it is one for all."""
        return value if _depth(value) > self.lists else None

    @abstractmethod
    def row(self, value: Any) -> "Rows":
        """The input of one item, [*shape], of a request's JSON value. Raises InputError."""

    @abstractmethod
    def unasked(self, seeds: Sequence[int]) -> "Rows":
        """What items of these seeds are asked for where a request does not say, [N, *shape]. Raises InputError where it must."""

    @property
    @abstractmethod
    def value_schema(self) -> dict[str, Any]:
        """The JSON schema of what `row` takes."""

    @property
    def number_schema(self) -> dict[str, Any]:
        """The JSON schema of one number of a row."""
        return {"type": "number", "minimum": -NUMBER_MAX, "maximum": NUMBER_MAX}

    def check(self, rows: "Rows") -> None:
        """Raise InputError for rows [N, *shape] that are none of its own; that they are finite is known."""
        return


class ClassCondition(_Asked):
    """One of some classes, by its index: int64 [N].

    >>> animal = ClassCondition(classes=("cat", "dog"))
    >>> animal.examples(3).tolist()
    [0, 1, 0]
    >>> int(animal.row("dog"))
    1
    """

    asked = "class"
    datatype = "INT64"
    required = False
    kind: Literal["class"] = "class"
    classes: tuple[str, ...] = Field(min_length=1)

    @property
    def text(self) -> str:
        return "a class by id or name"

    def origins(self, new: Sequence[str]) -> list[int | None]:
        """Of each class of other data the class here that it begins as: that of its name, or where no name is known that of its
        place; None: there is none.

        >>> ClassCondition(classes=("cat", "dog")).origins(("dog", "emu"))
        [1, None]
        >>> ClassCondition(classes=("0", "1")).origins(("5", "6", "7"))
        [0, 1, None]
        """
        if set(self.classes) & set(new):
            return [self.classes.index(name) if name in self.classes else None for name in new]
        return [place if place < len(self.classes) else None for place in range(len(new))]

    def examples(self, n: int) -> "npt.NDArray[np.int64]":
        """Every class in turn, int64 [n]."""
        import numpy as np

        return np.arange(n, dtype=np.int64) % len(self.classes)

    def of_items(self, split: "Split", indices: "Indices", *, epoch: int = 0) -> "npt.NDArray[np.int64]":
        return self._labels(split)[indices]

    def like(self, split: "Split", n: int, *, seed: int) -> "npt.NDArray[np.int64]":
        """Each class as often as the split has it. One that the model does not know is passed over."""
        import numpy as np

        from components.core.asked_labels import labels_like

        known = len(self.classes)
        return labels_like(np.bincount(self._labels(split), minlength=known)[:known], n, seed=seed)

    def row(self, value: Any) -> "Rows":
        import numpy as np

        if isinstance(value, str) and value in self.classes:
            return np.asarray(self.classes.index(value))
        if type(value) is int and 0 <= value < len(self.classes):
            return np.asarray(value)
        names = ", ".join(self.classes[:20]) + (", ..." if len(self.classes) > 20 else "")
        raise InputError(f"{str(value)[:80]!r} given", allowed=f"0 to {len(self.classes) - 1}, or a name: {names}")

    def unasked(self, seeds: Sequence[int]) -> "npt.NDArray[np.int64]":
        """The class that is the seed modulo their number, so that seeds in a row show all of them."""
        import numpy as np

        return np.array([seed % len(self.classes) for seed in seeds], np.int64)

    @property
    def value_schema(self) -> dict[str, Any]:
        return {"enum": [*range(len(self.classes)), *self.classes], "description": self.text}

    @property
    def number_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": 0, "maximum": len(self.classes) - 1}

    def check(self, rows: "Rows") -> None:
        if not ((rows >= 0) & (rows < len(self.classes))).all():
            raise InputError("a class that does not exist", allowed=f"0 to {len(self.classes) - 1}")

    def _labels(self, split: "Split") -> "npt.NDArray[np.int64]":
        if split.labels is None:
            raise DataError("a model that is asked by class, and data without classes", do="prepare the data with labels")
        return split.labels


class _OfData(_Asked):
    """A condition that stands with each item of the data, float32; nothing stands for one that is left out."""

    datatype = "FP32"

    @property
    def given_shape(self) -> tuple[int, ...]:
        """Of what the data holds with one item."""
        return self.shape

    def of_items(self, split: "Split", indices: "Indices", *, epoch: int = 0) -> "npt.NDArray[np.float32]":
        import numpy as np

        rows = np.asarray(taken(split, indices, epoch=epoch), np.float32)
        if rows.shape != (len(indices), *self.given_shape):
            raise DataError(
                f"conditions of {list(rows.shape[1:])} in the data", allowed=f"{list(self.given_shape)}, as the model takes"
            )
        return rows

    def like(self, split: "Split", n: int, *, seed: int) -> "npt.NDArray[np.float32]":
        """Those of the split's items in the order of `items_asked`."""
        import numpy as np

        chosen_N = items_asked(split, n, seed=seed)
        distinct, back_N = np.unique(chosen_N, return_inverse=True)  # sorted: neighbours on disk are read together
        return self.of_items(split, distinct)[back_N]

    def unasked(self, seeds: Sequence[int]) -> "npt.NDArray[np.float32]":
        raise InputError("left out", allowed=self.text, do="send one, or a list with one an item")


class EmbeddingCondition(_OfData):
    """What a pinned encoder makes of a text: float32 [N, L, D], a row a token; after the last token the rows are zero. Zeros
    alone ask for nothing in particular, and the network knows what that means.

    A sampler that can be told what its items shall be unlike (`negative`) takes float32 [N, 2, L, D]: what is asked for, and
    that.
    """

    asked = "text"
    lists = 2
    kind: Literal["embedding"] = "embedding"
    length: int = Field(ge=1)
    features: int = Field(ge=1)
    encoder: str  # NAME@SHA256
    negative: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, *self.given_shape) if self.negative else self.given_shape

    @property
    def given_shape(self) -> tuple[int, ...]:
        return (self.length, self.features)

    def of_items(self, split: "Split", indices: "Indices", *, epoch: int = 0) -> "npt.NDArray[np.float32]":
        return self.asked_for(super().of_items(split, indices, epoch=epoch))

    def asked_for(
        self, wanted: "npt.NDArray[np.float32]", unwanted: "npt.NDArray[np.float32] | None" = None
    ) -> "npt.NDArray[np.float32]":
        """The input, [N, *shape], of embeddings [N, L, D] of what is wanted, and of what is not where the sampler can be told."""
        import numpy as np

        return np.stack([wanted, np.zeros_like(wanted) if unwanted is None else unwanted], axis=1) if self.negative else wanted

    @property
    def text(self) -> str:
        return f"{self.length} lists of {self.features} numbers, what {self.encoder} makes of a text"

    def examples(self, n: int) -> "npt.NDArray[np.float32]":
        """Standard normal numbers, the same ones every time, float32 [n, L, D]."""
        return _normal((n, *self.shape))

    def row(self, value: Any) -> "npt.NDArray[np.float32]":
        """Of the nested lists that `tolist()` gives of the encoder's array."""
        import numpy as np

        try:
            found = np.array(value)
            numbers = found.shape == self.given_shape and found.dtype.kind in "iuf" and np.abs(found).max() <= NUMBER_MAX
            numbers = numbers and not any(isinstance(each, bool) for row in value for each in row)  # beside numbers they are 0, 1
        except (ValueError, OverflowError):  # lists of unequal lengths, whole numbers beyond any array
            numbers = False
        if not numbers:
            raise InputError("not the numbers of an embedding", allowed=self.text)
        asked: npt.NDArray[np.float32] = self.asked_for(found[None].astype(np.float32))[0]
        return asked

    def check(self, rows: "Rows") -> None:
        if (rows > NUMBER_MAX).any() or (rows < -NUMBER_MAX).any():
            raise InputError("a number that is none of an embedding's", allowed=f"-{NUMBER_MAX} to {NUMBER_MAX}")

    @property
    def value_schema(self) -> dict[str, Any]:
        numbers = _list_of(self.number_schema, self.features)
        return _list_of(numbers, self.length) | {"description": self.text}


class ItemCondition(_OfData):
    """Another item, in data units: a small image to be enlarged, a code to be decoded. float32 [N, *item.shape]."""

    asked = "item"
    kind: Literal["item"] = "item"
    item: AnyItem

    @property
    def shape(self) -> tuple[int, ...]:
        return self.item.shape

    @property
    def text(self) -> str:
        return f"the {self.item.modality} of {self.item.text} as {' or '.join(self._formats)}, in base64"

    def examples(self, n: int) -> "npt.NDArray[np.float32]":
        """Small normal numbers, the same ones every time, within [-1, 1]."""
        return (0.3 * _normal((n, *self.shape))).clip(-1, 1)

    def row(self, value: Any) -> "npt.NDArray[np.float32]":
        """Of the bytes of an item's file in base64, read as a preparation reads files and brought to the item's shape."""
        import base64

        from components.core.modality import find_modality
        from components.core.units import to_units

        if not isinstance(value, str):
            raise InputError(f"{str(value)[:80]!r} given", allowed=self.text)
        try:
            raw = base64.b64decode(value, validate=True)
            reader = find_modality(self.item.modality).reader({}, into=self.item)
            reader.look(raw)
            stored = reader.read(raw)
        except (ValueError, DataError) as error:  # not base64, not ASCII; not an item
            raise InputError(f"not an item: {error}", allowed=self.text) from error
        if stored.shape != self.item.stored_shape:
            raise InputError(f"an item of {'x'.join(map(str, stored.shape))}", allowed=self.text)
        units: npt.NDArray[np.float32] = to_units(stored[None], self.item)[0]
        return units

    @property
    def value_schema(self) -> dict[str, Any]:
        return {"type": "string", "contentEncoding": "base64", "description": self.text}

    @property
    def _formats(self) -> tuple[str, ...]:
        from components.core.modality import find_modality

        return tuple(find_modality(self.item.modality).encodings)


Condition = Annotated[ClassCondition | EmbeddingCondition | ItemCondition, Field(discriminator="kind")]


def items_asked(split: "Split", n: int, *, seed: int) -> "Indices":
    """The items whose conditions n samples are asked for, int64 [n]: all of a split in an order drawn from the seed, again and
    again."""
    import numpy as np

    order_M = np.random.default_rng([seed, 2]).permutation(len(split))
    return order_M[np.arange(n) % len(split)]


def taken(split: "Split", indices: "Indices", *, epoch: int = 0) -> "Rows":
    """What a split holds with the items at `indices`. Raises DataError where it holds nothing but classes."""
    if not isinstance(split, ConditionedSplit):
        raise DataError(
            "a model that is asked by a text or an item, and data that holds none",
            do="prepare it with captions (docs/data.md), or write conditioning: none or class",
        )
    return split.take_condition(indices, epoch=epoch)


def _normal(shape: tuple[int, ...]) -> "npt.NDArray[np.float32]":
    import numpy as np

    return np.random.Generator(np.random.Philox(0)).standard_normal(shape, dtype=np.float32)


def _depth(value: Any) -> int:
    """How many lists deep, by the first of each; what is empty asks for no item."""
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return depth


def _list_of(schema: dict[str, Any], length: int) -> dict[str, Any]:
    return {"type": "array", "items": schema, "minItems": length, "maxItems": length}
