"""One constant says how many items a proof needs: the split, `prepare`, `plan`, `produce` and the proof agree on it."""

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from components.core.brief import DataBrief, parse_brief
from components.core.errors import DataError
from components.core.proof_items import ITEMS_NEEDED, PROOF_ITEMS, held_out_block
from components.core.records import Dataset
from components.data.splits import split_of
from components.data.versions import describe
from components.evaluation import yardstick
from components.families import cards
from components.policy.decide import decide
from components.policy.facts import check_items, facts
from components.policy.view import view

from .conftest import Prepared, blocks, encoded, lay

NEED = f"a proof needs {ITEMS_NEEDED}: {PROOF_ITEMS} held out and {PROOF_ITEMS} to train on"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(items=st.integers(ITEMS_NEEDED, 400), seed=st.integers(0, 2**32 - 1))
def test_from_that_many_items_on_every_split_is_large_enough(items: int, seed: int) -> None:
    counts = Counter(split_of(at, seed=seed, block=held_out_block(items)) for at in range(items))
    assert counts["train"] >= PROOF_ITEMS
    assert counts["validation"] + counts["test"] >= PROOF_ITEMS


def test_large_sets_keep_their_shares() -> None:
    assert {held_out_block(items) for items in range(160, 2000)} == {10}


def test_the_proof_asks_for_the_same_number() -> None:
    assert yardstick.PROOF_ITEMS is PROOF_ITEMS
    with pytest.raises(DataError, match=f"31 items to compare with; allowed: {PROOF_ITEMS} or more"):
        yardstick.RealSide.of(np.zeros(31), None, None)  # type: ignore[arg-type]


def dataset_of(made: Prepared, conditioning: str = "none") -> tuple[Dataset, str, list[str]]:
    """The dataset, what `plan` shows of a brief on it, and the codes of its warnings."""
    dataset = describe(DataBrief(path=made.folder.name, rev="workspace"), cache=made.folder, base=made.folder.parent)
    assert dataset is not None
    assert dataset.duplicates == made.report.duplicates
    brief = parse_brief(f"name: a\nmodality: image\nconditioning: {conditioning}\ndata: {{path: set}}\n")
    known = facts(brief, dataset=dataset, device="cpu")
    decision = decide(known, cards={key: entry[0] for key, entry in cards().items()})
    out = Console(file=io.StringIO(), width=120)
    out.print(view(known, decision))
    return dataset, out.file.getvalue(), [warning.code for warning in decision.warnings]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("count", "height", "width"), [(120, 37, 53), (60, 64, 1), (63, 1, 64), (64, 101, 3), (40, 5, 5), (159, 1, 1)]
)
def test_prepare_plan_and_produce_agree(
    count: int, height: int, width: int, made: Callable[..., Prepared], tmp_path: Path
) -> None:
    found = made(lay(tmp_path / "src", {f"{at}.png": encoded(blocks(at, height, width)) for at in range(count)}))
    dataset, plan, codes = dataset_of(found)
    known = facts(parse_brief("name: a\nmodality: image\ndata: {path: set}\n"), dataset=dataset, device="cpu")
    if count >= ITEMS_NEEDED:
        assert NEED not in found.words + plan
        check_items(known, where="set")
        assert dataset.splits["train"] >= PROOF_ITEMS
        assert dataset.held_out >= PROOF_ITEMS
        return
    assert f"{count} items, and {NEED}; `produce` will refuse this data" in found.words
    assert f"{count} items, and {NEED}" in " ".join(plan.split())
    assert "too-few-items" in codes
    with pytest.raises(DataError, match=f"set: {count} items, and {NEED}; add more data"):
        check_items(known, where="set")


def test_declared_items_are_held_to_it_too() -> None:
    brief = parse_brief(f"name: a\nmodality: image\ndata: {{path: d, items: {ITEMS_NEEDED - 1}, side: 32}}\n")
    with pytest.raises(DataError, match=NEED):
        check_items(facts(brief, dataset=None, device="cpu"), where="d")


def test_a_set_prepared_before_is_held_to_its_own_splits(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """Earlier versions split 120 items by tenths: 24 are held out, whatever the count says."""
    found = made(lay(tmp_path / "src", {f"{at}.png": encoded(blocks(at)) for at in range(120)}))
    older = dataset_of(found)[0].model_copy(update={"splits": {"train": 96, "validation": 12, "test": 12}})
    known = facts(parse_brief("name: a\nmodality: image\ndata: {path: set}\n"), dataset=older, device="cpu")
    with pytest.raises(DataError, match=f"24 of 120 items are held out, and {NEED}"):
        check_items(known, where="set")


def test_the_plan_warns_of_rare_classes_and_copies(made: Callable[..., Prepared], tmp_path: Path) -> None:
    names = ["a"] * 100 + ["b"] * 100 + ["c", "d"]
    files = {f"{name}/{at:03}.png": encoded(blocks(at % 150)) for at, name in enumerate(names)}
    found = made(lay(tmp_path / "src", files))
    dataset, plan, codes = dataset_of(found, "class")
    assert dataset.rare_classes == ("c", "d")
    assert {"rare-class", "identical-items"} <= set(codes)
    assert "2 classes lack an item to train on or one that is held out: c, d" in " ".join(plan.split())
    assert "rare-class" not in dataset_of(found)[2], "only a conditional brief asks for classes"
