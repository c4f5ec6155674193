"""What is decided is what is trained: its seconds, its config, and a key of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from specs import image_data, image_item

from components.core.brief import Brief
from components.core.errors import BriefError
from components.core.records import Artifact, Checkpoint, Dataset, LocalDataset
from components.pipeline import refusals, resolve, train_plan
from components.pipeline.backends import Backends
from components.pipeline.run import Base, Run
from components.training import start
from components.training.start.scratch import Scratch
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


def plan_of(run: Run) -> Any:
    data = LocalDataset(path="", **run.dataset.model_dump())
    return train_plan.train_plan(run, Path("folder"), "run-1", data=data, start=Scratch())


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
    plan = plan_of(run)
    assert plan.ceiling.name == name
    assert plan.items_seen == compute.get("items_seen")
    if plan.items_seen is None:
        assert plan.ceiling.seconds == run.decision.estimate.training_s.value
    if "usd" in compute:
        assert run.decision.estimate.cost_usd.value <= compute["usd"]


def test_without_a_grant_the_tier_says_how_much(tmp_path: Path) -> None:
    plan = plan_of(planned(tmp_path, compute={"device": "cpu"}))
    assert (plan.items_seen, plan.ceiling) == (1500 * 128, None)


def test_processes_on_gpus_share_hours_and_none_shares_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_plan, "processes_of", lambda run, machine: 4)
    for device, share in (("cpu", 1), ("cuda", 4)):
        for compute in ({"gpu_hours": 2.0}, {"gpu_hours": 2.0, "items_seen": 10**6}):
            plan = plan_of(planned(tmp_path, compute={**compute, "workers": 4, "device": device}))
            assert plan.ceiling.seconds == pytest.approx(7200 / share)
            assert plan.items_seen == compute.get("items_seen")


def test_memory_is_what_the_brief_allows_and_makes_no_other_run(tmp_path: Path) -> None:
    tight, roomy = planned(tmp_path, compute={"memory_gb": 1.5, "device": "cpu"}), planned(tmp_path, compute={"device": "cpu"})
    assert (plan_of(tight).memory_gb, plan_of(roomy).memory_gb) == (1.5, None)
    assert tight.key("train") == roomy.key("train")


def test_threads_are_those_of_the_brief(tmp_path: Path) -> None:
    assert plan_of(planned(tmp_path, compute={"threads": 3, "device": "cpu"})).threads == 3
    assert plan_of(planned(tmp_path)).threads == 0


def test_little_data_and_a_big_budget_are_augmented(tmp_path: Path) -> None:
    big = {"usd": 20_000, "device": "cpu"}
    run = planned(tmp_path, compute=big)
    assert (run.decision.family, run.decision.config) == ("diffusion", {"augment": 0.12})
    assert any("augment: 0.12" in reason.text for reason in run.decision.reasons)
    assert plan_of(run).config["augment"] == 0.12
    forced = planned(tmp_path, compute=big, override={"config": {"augment": 0.0}})
    assert plan_of(forced).config["augment"] == 0.0
    assert planned(tmp_path, compute={"usd": 500, "device": "cpu"}, goal="quality").decision.config == {}
    large = planned(tmp_path, compute=big, data={"path": "nowhere", "items": 1797, "side": 256}).decision
    assert (large.variant, large.config) == ("latent", {})


DROPPED_IN = """
from typing import Literal

from components.training.start import ModelPlan, Start


class Warm(Start):
    kind: Literal["warm"] = "warm"

    def build(self, plan: ModelPlan):
        raise AssertionError("nothing is built here")
"""


@pytest.fixture
def warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A start of a test's own."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "warm.py").write_text(DROPPED_IN)
    monkeypatch.setattr(start, "__path__", [*start.__path__, str(tmp_path / "more")])
    start.starts.cache_clear()
    yield
    start.starts.cache_clear()


def test_a_start_that_is_dropped_in_is_named_by_a_brief(warm: None, tmp_path: Path) -> None:
    run = planned(tmp_path / "home", override={"mode": "warm"})
    assert run.decision.mode == "warm"
    assert run.decision.overridden is not None, "the policy says what it would have chosen"
    refusals.check_built(run.facts, run.decision)
    began = train_plan.start_of(run, Backends(Settings(home=tmp_path / "home")))
    assert type(began) is start.find_start("warm")
    assert run.key("train") != planned(tmp_path / "home").key("train")
    assert type(train_plan.start_of(planned(tmp_path / "home"), Backends(Settings(home=tmp_path / "home")))) is Scratch


def test_another_choice_is_another_run(tmp_path: Path) -> None:
    run = planned(tmp_path)
    more = run.decision.budget.model_copy(update={"items_seen": 1})
    for change in ({"family": "flow"}, {"config": {"augment": 0.5}}, {"budget": more}):
        other = run.model_copy(update={"decision": run.decision.model_copy(update=change)})
        assert other.key("train") != run.key("train")
    cheaper = run.decision.model_copy(update={"reasons": ()})
    assert run.model_copy(update={"decision": cheaper}).key("seal") == run.key("seal")


@pytest.mark.parametrize(
    ("variant", "delivery", "trained", "steps"), [("edm", "many_step", "edm", 9), ("edm", "few_step", "ect", None)]
)
def test_what_is_fine_tuned_has_the_config_of_its_base(
    tmp_path: Path, variant: str, delivery: str, trained: str, steps: int | None
) -> None:
    """What the brief gives outranks it."""
    config = {"width": 48, "lr_peak": 0.02, "steps": 9, "batch_size": 32}
    checkpoint = Checkpoint(
        weights=Artifact(name="w", sha256="a", size_bytes=1), family="diffusion", variant=variant, config=config,
        spec=image_data(channels=3, height=32, width=32), dataset_md5="d", run_id="r", step=1, steps_total=1, train_s=1.0,
        quality=1.0, stopped_by="items_seen",
    )  # fmt: skip
    run = planned(tmp_path, override={"family": "diffusion", "variant": variant, "delivery": delivery})
    base = Base(model="base", version=3, bundle_sha256="b", checkpoint=checkpoint)
    begun = run.model_copy(update={"base": base})
    plan = plan_of(begun)
    assert plan.variant == trained
    given = {"width": 48, "batch_size": 32, "lr_peak": 0.02} | ({"steps": steps} if steps else {})
    assert {name: plan.config[name] for name in given} == given
    assert ("steps" in plan.config) == (steps is not None)
    assert not plan.config["mean_data"], "as it was before"
    forced = run.brief.override.model_copy(update={"config": {"lr_peak": 0.5}})
    brief = run.brief.model_copy(update={"override": forced})
    assert plan_of(begun.model_copy(update={"brief": brief})).config["lr_peak"] == 0.5

    weights = checkpoint.model_copy(update={"weights": checkpoint.weights.model_copy(update={"sha256": "other"})})
    keys = {
        each.key("train")
        for each in (run, begun, begun.model_copy(update={"base": base.model_copy(update={"checkpoint": weights})}))
    }
    assert len(keys) == 3
    released_again = base.model_copy(update={"version": 4, "bundle_sha256": "c"})
    assert begun.model_copy(update={"base": released_again}).key("train") == begun.key("train"), "the same weights"


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
