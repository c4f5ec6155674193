"""What is decided is what is trained: its seconds, its config, and a key of its own."""

from pathlib import Path
from typing import Any

import pytest
from specs import image_item

from components.core.brief import Brief
from components.core.errors import BriefError
from components.core.records import Dataset, LocalDataset
from components.pipeline import resolve, training
from components.pipeline.backends import Backends
from components.pipeline.run import Run
from flows.settings import Settings


def planned(tmp_path: Path, **changes: Any) -> Run:
    known = {"name": "any", "modality": "image", "data": {"path": "nowhere", "items": 1797, "side": 32}}
    brief = Brief.model_validate(known | changes)
    facts, decision = resolve.plan(brief, Backends(Settings(home=tmp_path)))
    dataset = Dataset(
        name="any", repo=".", rev="HEAD", md5="0" * 32, item=image_item(32, 32, 3), count=1797, classes=(),
        splits={}, mean=(0.0,), std=(1.0,),
    )  # fmt: skip
    return Run(brief=brief, dataset=dataset, facts=facts, decision=decision, genwright="0.1.0")


def train_plan(run: Run) -> Any:
    data = LocalDataset(path="", **run.dataset.model_dump())
    return training._train_plan(run, Path("folder"), "run-1", data=data)


@pytest.mark.parametrize(
    ("compute", "name"),
    [
        ({"minutes": 3}, "compute.minutes"),
        ({"minutes": 600, "usd": 0.01}, "compute.usd"),
        ({"usd": 500, "spend": "all"}, "compute.usd"),
        ({"gpu_hours": 0.1}, "compute.gpu_hours"),
        ({"minutes": 3, "items_seen": 7000}, "compute.minutes"),
    ],
)
def test_it_trains_as_much_as_the_plan_says(tmp_path: Path, compute: dict[str, Any], name: str) -> None:
    run = planned(tmp_path, compute={**compute, "device": "cpu"})
    plan = train_plan(run)
    assert plan.ceiling.name == name
    assert plan.items_seen == compute.get("items_seen")
    if plan.items_seen is None:
        assert plan.ceiling.seconds == run.decision.estimate.training_s.value
    if "usd" in compute:
        assert run.decision.estimate.cost_usd.value <= compute["usd"]


def test_without_a_grant_the_tier_says_how_much(tmp_path: Path) -> None:
    plan = train_plan(planned(tmp_path, compute={"device": "cpu"}))
    assert (plan.items_seen, plan.ceiling) == (1500 * 128, None)


def test_processes_on_gpus_share_hours_and_none_shares_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_processes", lambda run: 4)
    for device, share in (("cpu", 1), ("cuda", 4)):
        for compute in ({"gpu_hours": 2.0}, {"gpu_hours": 2.0, "items_seen": 10**6}):
            plan = train_plan(planned(tmp_path, compute={**compute, "workers": 4, "device": device}))
            assert plan.ceiling.seconds == pytest.approx(7200 / share)
            assert plan.items_seen == compute.get("items_seen")


def test_threads_are_those_of_the_brief(tmp_path: Path) -> None:
    assert train_plan(planned(tmp_path, compute={"threads": 3, "device": "cpu"})).threads == 3
    assert train_plan(planned(tmp_path)).threads == 0


def test_little_data_and_a_big_budget_are_augmented(tmp_path: Path) -> None:
    big = {"usd": 20_000, "device": "cpu"}
    run = planned(tmp_path, compute=big)
    assert (run.decision.family, run.decision.config) == ("diffusion", {"augment": 0.12})
    assert any("augment: 0.12" in reason.text for reason in run.decision.reasons)
    assert train_plan(run).config["augment"] == 0.12
    forced = planned(tmp_path, compute=big, override={"config": {"augment": 0.0}})
    assert train_plan(forced).config["augment"] == 0.0
    assert planned(tmp_path, compute={"usd": 500, "device": "cpu"}, goal="quality").decision.config == {}
    large = planned(tmp_path, compute=big, data={"path": "nowhere", "items": 1797, "side": 256}).decision
    assert (large.variant, large.config) == ("latent", {})


def test_another_choice_is_another_run(tmp_path: Path) -> None:
    run = planned(tmp_path)
    more = run.decision.budget.model_copy(update={"items_seen": 1})
    for change in ({"family": "flow"}, {"config": {"augment": 0.5}}, {"budget": more}):
        other = run.model_copy(update={"decision": run.decision.model_copy(update=change)})
        assert other.key("train") != run.key("train")
    cheaper = run.decision.model_copy(update={"reasons": ()})
    assert run.model_copy(update={"decision": cheaper}).key("seal") == run.key("seal")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"nonsense": 3}, r"override\.config\.nonsense: Extra inputs are not permitted.*allowed: .*width"),
        ({"width": -16}, r"override\.config\.width: Input should be greater than or equal to 16"),
        ({"width": "lots"}, r"override\.config\.width: Input should be a valid integer"),
    ],
)
def test_a_config_that_the_family_does_not_know_is_refused_before_anything_is_made(
    tmp_path: Path, config: dict[str, Any], says: str
) -> None:
    with pytest.raises(BriefError, match=says):
        planned(tmp_path, override={"family": "diffusion", "variant": "edm", "config": config})
    assert list(tmp_path.iterdir()) == []
