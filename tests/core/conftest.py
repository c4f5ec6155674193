"""Every record of the core, found by discovery, and how to make arbitrary ones."""

import importlib
import pkgutil
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as at
import pytest
from hypothesis import strategies as st

import components.core
from components.core.brief import Brief, ComputeBrief, PretrainedBrief, ProofBrief, ScheduleBrief, TextBrief
from components.core.record import Record
from components.core.records import GraphFile, ItemSpec, TextEncoder
from components.modalities.image.spec import ImageSpec

FINITE = {"allow_nan": False, "allow_infinity": False}
DIGEST = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(**FINITE) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
# What one field cannot know of another, or of a pattern.
SPECIAL: dict[tuple[type[Record], str], st.SearchStrategy[Any]] = {
    (Brief, "name"): st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True),
    (Brief, "modality"): st.sampled_from(["image", "audio", "video"]),
    (Brief, "require"): st.just(()),
    (Brief, "evidence"): st.sampled_from([None, "none"]) | DIGEST,
    (Brief, "text"): st.none(),  # else conditioning must be text
    (ComputeBrief, "spend"): st.just("enough"),
    (GraphFile, "name"): st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True),
    (PretrainedBrief, "adapters"): st.none()
    | st.dictionaries(
        st.from_regex(r"models:/[a-z]{1,8}(@champion|/[1-9])", fullmatch=True), st.floats(-2, 2), min_size=1, max_size=3
    ),
    (ProofBrief, "network"): st.none(),  # with a digest only
    (ProofBrief, "sha256"): st.none(),
    (ScheduleBrief, "cron"): st.sampled_from([None, "0 3 * * 1", "*/5 0-6 1,15 * *", "@daily"]),
    (ScheduleBrief, "on_event"): st.sampled_from([None, "data.landed", "prefect.asset.materialization.succeeded"]),
    (ScheduleBrief, "on_new_base"): st.just(False),  # true needs a base in the brief
    (ScheduleBrief, "timezone"): st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    (TextBrief, "sha256"): st.none() | DIGEST,
    (TextEncoder, "sha256"): DIGEST,
}


def records() -> list[type[Record]]:
    """All subclasses of Record that the core defines."""
    for module in pkgutil.iter_modules(components.core.__path__):
        importlib.import_module(f"components.core.{module.name}")
    found, todo = [], [Record]
    while todo:
        todo += (below := todo.pop().__subclasses__())
        found += [cls for cls in below if cls.__module__.startswith("components.core.")]
    found = [cls for cls in found if cls is not ItemSpec and not cls.__name__.startswith("_")]  # what is only built upon
    return sorted(set(found), key=lambda cls: cls.__name__)


def arbitrary(cls: type[Record]) -> st.SearchStrategy[Record]:
    """Any valid value of a record."""
    fields = {}
    for name, field in cls.model_fields.items():
        special = SPECIAL.get((cls, name))
        fields[name] = _values(field.annotation, tuple(field.metadata)) if special is None else special
    return st.builds(cls, **fields)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "record_class" in metafunc.fixturenames:
        metafunc.parametrize("record_class", records(), ids=lambda cls: cls.__name__)


@pytest.fixture(scope="session")
def record_classes() -> list[type[Record]]:
    return records()


@pytest.fixture(scope="session")
def strategy_of() -> Callable[[type[Record]], st.SearchStrategy[Record]]:
    return arbitrary


def _values(kind: Any, bounds: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _values(args[0], bounds + _flat(args[1:]))
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (Union, UnionType):
        return st.one_of([_values(option, bounds) for option in args])
    if origin is tuple and args[-1] is Ellipsis:
        least = max((getattr(bound, "min_length", 0) or 0 for bound in bounds), default=0)
        return st.lists(_values(args[0]), min_size=least, max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(_values(item) for item in args))
    if origin is dict:
        return st.dictionaries(_values(args[0]), _values(args[1]), max_size=3)
    if kind is ItemSpec:
        return arbitrary(ImageSpec)
    if isinstance(kind, type) and issubclass(kind, Record):
        return arbitrary(kind)
    if kind is float:
        return st.floats(**(FINITE | _range(bounds, float))) if bounds else st.floats(allow_nan=False)
    if kind is int:
        return st.integers(**_range(bounds, int)) if bounds else st.integers(-(2**60), 2**60)
    if kind is str and bounds:
        return st.text(min_size=max(getattr(bound, "min_length", 0) or 0 for bound in bounds), max_size=12)
    return {bool: st.booleans(), str: st.text(max_size=12), type(None): st.none(), Any: JSON}[kind]


def _flat(metadata: tuple[Any, ...]) -> tuple[Any, ...]:
    """The bounds inside pydantic's FieldInfo, which an Annotated alias keeps."""
    return tuple(bound for item in metadata for bound in getattr(item, "metadata", [item]))


def _range(bounds: tuple[Any, ...], kind: type) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for bound in bounds:
        step = {int: 1, float: 1e-6}[kind]
        if isinstance(bound, at.Ge):
            limits["min_value"] = kind(bound.ge)
        elif isinstance(bound, at.Gt):
            limits["min_value"] = bound.gt + step
        elif isinstance(bound, at.Le):
            limits["max_value"] = kind(bound.le)
        elif isinstance(bound, at.Lt):
            limits["max_value"] = bound.lt - step
    return limits
