"""What an item is asked for by: a class, the embedding of a text, or another item. Asking for nothing is None.

N items. A condition is one more input of a sampler, [N, *shape]; its type and shape follow from its record.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from components.core.record import Record
from components.core.records.item import AnyItem

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class _Asked(Record):
    """What every condition can say of itself."""

    asked: ClassVar[str]  # how a brief and a card call it
    datatype: ClassVar[Literal["INT64", "FP32"]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what one item is asked for by."""
        return ()

    def rows(self, n: int, given: "Sequence[int] | npt.NDArray[Any] | None" = None) -> "npt.NDArray[Any]":
        """The input of n items, [n, *shape]: what is given, then zeros; of classes that is the first one."""
        import numpy as np

        rows = np.zeros((n, *self.shape), {"INT64": np.int64, "FP32": np.float32}[self.datatype])
        if given is not None:
            rows[: len(given)] = given
        return rows


class ClassCondition(_Asked):
    """One of some classes, by its index: int64 [N].

    >>> ClassCondition(classes=("cat", "dog")).examples(3).tolist()
    [0, 1, 0]
    """

    asked = "class"
    datatype = "INT64"
    kind: Literal["class"] = "class"
    classes: tuple[str, ...] = Field(min_length=1)

    def examples(self, n: int) -> "npt.NDArray[np.int64]":
        """Every class in turn, int64 [n]."""
        import numpy as np

        return np.arange(n, dtype=np.int64) % len(self.classes)


class EmbeddingCondition(_Asked):
    """What a pinned encoder makes of a text: float32 [N, L, D]."""

    asked = "text"
    datatype = "FP32"
    kind: Literal["embedding"] = "embedding"
    length: int = Field(ge=1)
    features: int = Field(ge=1)
    encoder: str  # name and digest

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length, self.features)

    def examples(self, n: int) -> "npt.NDArray[np.float32]":
        """Standard normal numbers, the same ones every time, float32 [n, L, D]."""
        return _normal((n, *self.shape))


class ItemCondition(_Asked):
    """Another item, in data units: a small image to be enlarged, a code to be decoded. float32 [N, *item.shape]."""

    asked = "item"
    datatype = "FP32"
    kind: Literal["item"] = "item"
    item: AnyItem

    @property
    def shape(self) -> tuple[int, ...]:
        return self.item.shape

    def examples(self, n: int) -> "npt.NDArray[np.float32]":
        """Small normal numbers, the same ones every time, within [-1, 1]."""
        return (0.3 * _normal((n, *self.shape))).clip(-1, 1)


Condition = Annotated[ClassCondition | EmbeddingCondition | ItemCondition, Field(discriminator="kind")]


def _normal(shape: tuple[int, ...]) -> "npt.NDArray[np.float32]":
    import numpy as np

    return np.random.Generator(np.random.Philox(0)).standard_normal(shape, dtype=np.float32)
