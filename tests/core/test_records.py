"""Laws of every record: frozen, closed, JSON there and back, one canonical form."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from specs import image_item

from components.core.errors import RunError
from components.core.record import Record
from components.core.records import Channel, Dataset, LedgerEntry

laws = settings(max_examples=15, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


def test_discovery_finds_the_records(record_classes: list[type[Record]]) -> None:
    names = {cls.__name__ for cls in record_classes}
    assert {"Brief", "Facts", "Decision", "Dataset", "Checkpoint", "Scorecard", "Bundle", "Release", "LedgerEntry"} <= names
    assert {"Channel", "NoiseInput", "Card", "FamilyConfig"} <= names


def test_every_record_keeps_the_laws(record_class: type[Record], strategy_of: Any) -> None:
    cls = record_class

    @laws
    @given(st.data())
    def check(data: st.DataObject) -> None:
        value = data.draw(strategy_of(cls))
        assert cls.model_validate_json(value.model_dump_json()) == value
        again = cls.model_validate_json(value.canonical())
        assert again == value
        assert (again.canonical(), again.digest()) == (value.canonical(), value.digest())
        assert b"\n" not in value.canonical()
        with pytest.raises(ValidationError, match="frozen"):
            setattr(value, next(iter(cls.model_fields)), None)
        with pytest.raises(ValidationError, match="Extra inputs"):
            cls.model_validate(json.loads(value.model_dump_json()) | {"another": 1})

    check()


def test_a_digest_is_that_of_the_values_alone() -> None:
    channel = Channel(model="digits", version=1, bundle_sha256="a" * 64, sequence=1)
    assert channel.canonical() == b'{"bundle_sha256":"' + b"a" * 64 + b'","model":"digits","sequence":1,"version":1}'
    assert channel.digest() == "7d0b3e9cc49638be8893e3577992e6bae81c58f91b569a241a3afe197f2f3756"
    values: dict[str, Any] = {"sequence": 1, "model": "m", "action": "promote", "from_version": None, "to_version": 1}
    values |= {"from_bundle": None, "to_bundle": "a", "who": "w", "when": "t", "why": "y"}
    one = LedgerEntry(**values, evidence={"a": 1, "b": {"c": 2, "d": 3}})
    other = LedgerEntry(**dict(reversed(values.items())), evidence={"b": {"d": 3, "c": 2}, "a": 1})
    assert one.digest() == other.digest()
    assert one.digest() != one.model_copy(update={"why": "z"}).digest()


def test_a_record_is_written_and_read(tmp_path: Path) -> None:
    channel = Channel(model="digits", version=1, bundle_sha256="a" * 64, sequence=1)
    channel.write(tmp_path / "new" / "channel.json")
    assert Channel.read(tmp_path / "new" / "channel.json") == channel
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["channel.json"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "no such channel"),
        (b"", "not a channel: the document: Invalid JSON"),
        (b"\xff\xfe", "not a channel: the document: Invalid JSON"),
        (b"{}", "not a channel: model: Field required"),
        (
            b'{"model":"m","version":"x","bundle_sha256":"a","sequence":1}',
            "not a channel: version: Input should be a valid integer",
        ),
    ],
)
def test_what_is_no_record_is_told_in_one_line(tmp_path: Path, content: bytes | None, line: str) -> None:
    path = tmp_path / "channel.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        Channel.read(path)
    assert line in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_deviation_of_a_dataset_is_that_of_all_its_values_about_the_means_of_their_channels() -> None:
    values = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3)) // np.array([1, 2, 4])
    dataset = Dataset(
        name="d", repo=".", rev="HEAD", md5="0" * 32, item=image_item(4, 4, 3), count=50, classes=(),
        splits={}, mean=tuple(values.mean((0, 1, 2))), std=tuple(values.std((0, 1, 2))),
    )  # fmt: skip
    assert dataset.deviation == pytest.approx(((values - values.mean((0, 1, 2))) / 127.5).std(), rel=1e-9)


def test_a_dataset_of_before_there_were_other_kinds_is_one_of_images() -> None:
    plain: dict[str, Any] = {"name": "d", "repo": ".", "rev": "HEAD", "md5": "0" * 32, "count": 1, "classes": (), "splits": {}}
    plain |= {"mean": (0.0,), "std": (1.0,)}
    old = Dataset.model_validate(plain | {"modality": "image", "shape": (8, 9, 3)})
    assert old == Dataset(item=image_item(8, 9, 3), **plain)
    assert old.modality == "image"
