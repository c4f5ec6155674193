"""The shape of one item. Each modality has a record of its own, found by name: components/modalities/NAME.

N items travel in two forms. *Stored*: as they are kept, compared and delivered (an image: uint8 [N, H, W, C]). In *data units*:
as models see and make them, float32 [N, *shape] about [-1, 1] (an image: [N, C, H, W]).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import SerializeAsAny, WrapValidator
from pydantic_core import PydanticCustomError

from components.core.discovery import member, names
from components.core.record import Record

MODALITIES = "components.modalities"


@dataclass(frozen=True)
class Storage:
    """How data units x become what is stored: (x + offset) scale, with the axes of an item in another order.

    Whole numbers are rounded half to even and kept within `low` and `high`. `axes`: of each stored axis, which one of `shape` it
    is.
    """

    dtype: Literal["uint8", "int16", "int64", "float32"]
    axes: tuple[int, ...]
    scale: float = 1.0
    offset: float = 0.0
    low: float = -math.inf
    high: float = math.inf


class ItemSpec(Record):
    """The shape of one item of one modality. A member names its `dims`, fields of its own, and says how items are stored."""

    dims: ClassVar[tuple[str, ...]]  # the axes of an item in data units
    storage: ClassVar[Storage]
    modality: str

    @classmethod
    def of_stored(cls, shape: tuple[int, ...], details: Mapping[str, Any]) -> Self:
        """That of stored items of this shape; `details`: the fields that no axis tells."""
        return cls.model_validate(
            {**{cls.dims[axis]: size for axis, size in zip(cls.storage.axes, shape, strict=True)}, **details}
        )

    @property
    def details(self) -> dict[str, Any]:
        """The fields that no axis tells: a sample rate."""
        return self.model_dump(mode="json", exclude={"modality", *self.dims})

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one item in data units."""
        return tuple(getattr(self, name) for name in self.dims)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Of one stored item."""
        return tuple(self.shape[axis] for axis in self.storage.axes)

    @classmethod
    def declared(cls, *, side: int) -> Self | None:
        """The likeliest one of so many pixels a side, to plan with before the data is here; None where items have no side."""
        return None

    @property
    def side(self) -> int | None:
        """The longer edge in pixels, where an item has one."""
        return None

    @property
    def channel_axis(self) -> int | None:
        """Which stored axis tells the channels; None where there are none."""
        return self.storage.axes.index(self.dims.index("channels")) if "channels" in self.dims else None

    @property
    def text(self) -> str:
        """For people: 8x8x1."""
        return "x".join(map(str, self.stored_shape))


def spec_of(modality: str) -> type[ItemSpec]:
    """The record of a modality's items. Raises KeyError for one that nobody brings."""
    spec: type[ItemSpec] = member(MODALITIES, modality, "modality").Spec
    return spec


def _by_modality(value: Any, handler: Any) -> ItemSpec:
    if isinstance(value, ItemSpec):
        return value
    name = value.get("modality") if isinstance(value, dict) else None
    try:
        found = spec_of(str(name))
    except KeyError:
        allowed = ", ".join(names(MODALITIES))
        raise PydanticCustomError(
            "modality", "no modality {name}; allowed: {allowed}", {"name": repr(name), "allowed": allowed}
        ) from None
    return found.model_validate(value)


AnyItem = Annotated[SerializeAsAny[ItemSpec], WrapValidator(_by_modality)]


def with_item(value: Any) -> Any:
    """What a record is read from, with its item: before there were other kinds, `shape` told height, width and channels."""
    if not isinstance(value, dict) or "shape" not in value:
        return value
    rest = {name: each for name, each in value.items() if name not in ("shape", "modality")}
    height, width, channels = value["shape"]
    return rest | {"item": {"modality": "image", "channels": channels, "height": height, "width": width}}
