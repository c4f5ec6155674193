"""The images that a bundle carries: made again here, compared, and damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.core.bundles import BUNDLE_JSON, parse_bundle, read_bundle
from components.core.errors import BundleError
from components.core.records import Bundle
from components.runtime.reference import ITEMS, add_reference, check_reference
from components.runtime.session import GraphSampler

Build = Callable[..., Path]


def sampler_of(folder: Path, bundle: Bundle) -> GraphSampler:
    return GraphSampler.of(folder, bundle)


@pytest.fixture
def carried(build: Build) -> Callable[..., tuple[Path, Bundle]]:
    """A bundle with its reference."""

    def make(*, discrete: bool = False, **shape: Any) -> tuple[Path, Bundle]:
        folder = build(**shape)
        return folder, add_reference(folder, read_bundle(folder), discrete=discrete)

    return make


@pytest.mark.parametrize("shape", [{}, {"classes": True}, {"max_batch": 1}, {"levels": True}], ids=str)
def test_where_it_was_sealed_the_bytes_are_the_same(carried: Any, shape: dict[str, Any]) -> None:
    folder, bundle = carried(**shape)
    assert (folder / "reference.u8").stat().st_size == ITEMS * 8 * 8
    assert bundle.files[-1].name == "reference.u8"
    assert check_reference(bundle, sampler_of(folder, bundle)) == "8 items, the same bytes as where it was sealed"


@pytest.mark.parametrize(
    ("discrete", "levels", "items", "refused"),
    [(False, 1, 8, False), (False, 9, 1, False), (False, 9, 2, True), (True, 9, 4, False), (True, 9, 5, True)],
)
def test_images_may_differ_by_a_little_and_few_by_more(
    carried: Any, discrete: bool, levels: int, items: int, refused: bool
) -> None:
    """So many of the images are so many levels apart."""
    folder, bundle = carried(discrete=discrete)
    x = np.frombuffer((folder / "reference.u8").read_bytes(), np.uint8).reshape(ITEMS, -1).copy()
    x[:items] = np.where(x[:items] > 127, x[:items] - levels, x[:items] + levels)
    (folder / "reference.u8").write_bytes(x.tobytes())
    if refused:
        with pytest.raises(BundleError, match=rf"other items on this machine .*: {items} of 8 differ by 9\.0 .*; allowed: 2; "):
            check_reference(bundle, sampler_of(folder, bundle))
    else:
        assert "on average at most" in check_reference(bundle, sampler_of(folder, bundle))


@pytest.mark.parametrize("data", [None, b"", b"\x00" * (ITEMS * 64 - 1)], ids=["missing", "empty", "cut"])
def test_a_reference_that_is_not_there_is_one_line(carried: Any, data: bytes | None) -> None:
    folder, bundle = carried()
    (folder / "reference.u8").unlink() if data is None else (folder / "reference.u8").write_bytes(data)
    with pytest.raises(BundleError, match=r"reference\.u8: not the 8 items that bundle\.json declares; fetch it again$"):
        check_reference(bundle, sampler_of(folder, bundle))


def test_a_bundle_of_before_has_none_and_is_served(build: Build) -> None:
    """Its record as it was written then, whose address stays."""
    folder = build()
    record = json.loads((folder / BUNDLE_JSON).read_bytes())
    del record["reference"]
    data = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    bundle = parse_bundle(data, where="here")
    assert bundle.reference is None
    assert "carries none" in check_reference(bundle, sampler_of(folder, bundle))
