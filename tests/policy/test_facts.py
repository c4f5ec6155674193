"""From a brief to Facts: what is measured outranks what is declared, and budgets become tiers."""

from typing import Any, Literal

import pytest
from specs import image_item

from components.core.brief import Brief, ComputeBrief, DataBrief
from components.core.errors import BriefError
from components.core.records import Dataset, ItemSpec, Storage
from components.policy.facts import facts


class Sound(ItemSpec):
    """Of a modality that is not here."""

    dims = ("length",)
    storage = Storage(dtype="int16", axes=(0,))
    modality: Literal["audio"] = "audio"
    length: int


def brief_of(**changes: Any) -> Brief:
    return Brief(**{"name": "any", "modality": "image", "data": DataBrief(path="data/x", items=100, side=16), **changes})


def dataset_of(**changes: Any) -> Dataset:
    plain: dict[str, Any] = {
        "name": "x", "repo": ".", "rev": "HEAD", "md5": "0" * 32, "item": image_item(24, 32, 3),
        "count": 5_000, "classes": ("a", "b"), "splits": {"train": 5_000}, "mean": (1.0,), "std": (1.0,),
    }  # fmt: skip
    return Dataset(**{**plain, **changes})


def test_measured_outranks_declared() -> None:
    made = facts(brief_of(), dataset=dataset_of(), device="cpu")
    assert (made.items, made.side, made.classes) == (5_000, 32, 2)


def test_declared_is_enough_to_plan() -> None:
    made = facts(brief_of(), dataset=None, device="cpu")
    assert (made.items, made.side, made.classes) == (100, 16, 0)


@pytest.mark.parametrize(
    ("data", "missing"),
    [
        (DataBrief(path="data/x"), "items and side not declared"),
        (DataBrief(path="data/x", items=10), "and side not declared"),
        (DataBrief(path="data/x", side=10), "and items not declared"),
    ],
)
def test_neither_is_refused_in_one_line(data: DataBrief, missing: str) -> None:
    with pytest.raises(BriefError) as caught:
        facts(brief_of(data=data), dataset=None, device="cpu")
    line = str(caught.value)
    assert "data/x" in line
    assert missing in line
    assert "declare items: and side:" in line
    assert "\n" not in line
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_sound_and_text_need_no_side(modality: str) -> None:
    made = facts(brief_of(modality=modality, data=DataBrief(path="x", items=10)), dataset=None, device="cpu")
    assert made.side is None


@pytest.mark.parametrize(
    ("compute", "device", "tier", "because"),
    [
        ({"usd": 99.99}, "cuda", "tiny", "compute.usd"),
        ({"usd": 100}, "cpu", "small", "compute.usd"),
        ({"usd": 999.99}, "cpu", "small", "compute.usd"),
        ({"usd": 1_000}, "cpu", "medium", "compute.usd"),
        ({"usd": 99_999}, "cpu", "medium", "compute.usd"),
        ({"usd": 100_000}, "cpu", "large", "compute.usd"),
        ({"gpu_hours": 49}, "cpu", "tiny", "98 USD"),
        ({"gpu_hours": 50}, "cpu", "small", "100 USD"),
        ({"usd": 5, "gpu_hours": 1e6}, "cuda", "tiny", "compute.usd"),
        ({}, "cpu", "tiny", "the device is a CPU"),
        ({}, "cuda", "small", "the device is one GPU"),
        ({"minutes": 5}, "cpu", "tiny", "the device is a CPU"),
    ],
)
def test_tiers(compute: dict[str, float], device: Any, tier: str, because: str) -> None:
    made = facts(brief_of(compute=ComputeBrief(**compute)), dataset=None, device=device)
    assert made.tier == tier
    assert because in made.tier_because


def test_the_price_of_an_hour_is_a_setting() -> None:
    brief = brief_of(compute=ComputeBrief(gpu_hours=40))
    assert facts(brief, dataset=None, device="cuda").tier == "tiny"
    assert facts(brief, dataset=None, device="cuda", usd_per_gpu_hour=4.0).tier == "small"


def test_contradictions_with_the_data_are_refused() -> None:
    with pytest.raises(BriefError, match="holds audio"):
        facts(brief_of(), dataset=dataset_of(item=Sound(length=8)), device="cpu")
    with pytest.raises(BriefError, match="0 classes"):
        facts(brief_of(conditioning="class"), dataset=dataset_of(classes=()), device="cpu")
