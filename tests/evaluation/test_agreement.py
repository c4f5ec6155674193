"""A graph that draws what torch draws agrees with it; one that goes astray on a share of the items does not."""

from typing import Any

import numpy as np
import pytest

from components.evaluation.agreement import agreement


@pytest.fixture
def sides(digits: Any, extractor: Any) -> dict[str, Any]:
    return {"train": digits.train.images[:200], "reference": digits.train.images[-400:], "extractor": extractor}


def test_rounding_is_no_disagreement(fitted: Any, sides: dict[str, Any]) -> None:
    theirs = fitted(12, seed=0).images[:200]
    ours = theirs.copy()
    ours[::7, 3, 3] ^= 1
    told = agreement(ours, theirs, **sides)
    assert told.holds
    assert told.fd[0] == pytest.approx(told.fd[1], rel=0.02)
    assert told.fd_real < told.fd[1]
    assert told.text.startswith("200 items of the graph and of torch: FD-local ")
    former = {"images" if name == "items" else name: each for name, each in told.model_dump(mode="json").items()}
    assert type(told).model_validate(former) == told, "as proofs of before tell it"


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_a_share_that_goes_astray_is_seen(fitted: Any, sides: dict[str, Any], share: float) -> None:
    theirs = fitted(12, seed=0).images[:200]
    ours = theirs.copy()
    ours[: int(200 * share)] = np.random.default_rng(0).integers(0, 256, (int(200 * share), 8, 8, 1), np.uint8)
    assert not agreement(ours, theirs, **sides).holds


def test_one_class_for_all_is_seen(fitted: Any, sides: dict[str, Any], digits: Any) -> None:
    zeros = digits.train.images[digits.train.labels == 0]
    assert not agreement(np.resize(zeros, (200, 8, 8, 1)), fitted(12, seed=0).images[:200], **sides).holds


def test_a_reference_in_the_order_of_its_classes_says_the_same(fitted: Any, sides: dict[str, Any], digits: Any) -> None:
    """As folders give it: of the first 200 of 1,337 images only two classes would be covered, and nothing else is precise."""
    images = fitted(12, seed=0).images[:200]
    order = np.argsort(digits.train.labels, kind="stable")
    mixed, ordered = (
        agreement(images, images, **sides | {"reference": each}) for each in (digits.train.images, digits.train.images[order])
    )
    assert ordered.precision[0] == pytest.approx(mixed.precision[0], abs=0.1)
    assert ordered.coverage[0] == pytest.approx(mixed.coverage[0], abs=0.1)
