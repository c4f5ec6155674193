"""A run that was killed and run again ends with the same bits as one that never was: SIGKILL in a real process."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.core.files import sha256_of
from components.core.records import Artifact, Checkpoint
from components.families import cards
from components.training.checkpoint import load_weights
from components.training.folder import weights_path
from components.training.plan import TrainPlan

MEMBERS = sorted("/".join(key) for key in cards())
FAST = {  # one of each family, and of each state that a run may have: two players, two stages, a codebook, numbers of torch's own
    "autoencoder/plain",
    "autoregressive/vq-pixelcnn",
    "diffusion/cascade",
    "flow/glow",
    "gan/style",
    "vae/vq",
}
SLOW, NIGHTLY = pytest.mark.slow, pytest.mark.nightly
LIKE_ANOTHER = {  # what they save is what others do
    f"diffusion/{each}" for each in ("lcm", "ldm", "mmdit", "mmdit-lcm", "unclip")
}
CLASSES = [
    pytest.param(
        name,
        "class" in card.conditioning,
        id=name,
        marks=() if name in FAST else NIGHTLY if name in LIKE_ANOTHER else SLOW,
    )
    for name, card in ((name, cards()[*name.split("/")][0]) for name in MEMBERS)
]


@pytest.fixture(scope="module")
def whole(forks: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[TrainPlan], dict[str, Any]]:
    """The uninterrupted run of a plan, done once for each family."""
    known: dict[str, dict[str, Any]] = {}

    def run(plan: TrainPlan) -> dict[str, Any]:
        key = f"{plan.family}/{plan.variant}{plan.spec.conditional}"
        if key not in known:
            folder = tmp_path_factory.mktemp("whole")
            known[key] = forks.train(plan.model_copy(update={"folder": str(folder)}))
            assert known[key]["exit"] == 0, known[key]
        return known[key]

    return run


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """The same weights kept, at the same step, and the same images drawn from the last weights."""
    kept = [{key: told["checkpoint"][key] for key in ("weights", "step", "quality", "steps_total")} for told in (one, other)]
    return kept[0] == kept[1] and one["readings"][-1] == other["readings"][-1]


def test_some_of_each_family_are_fast() -> None:
    assert set(MEMBERS) >= FAST
    assert {name.split("/")[0] for name in FAST} == {family for family, _ in cards()}


@pytest.mark.parametrize(("family", "conditional"), CLASSES)
def test_a_killed_run_ends_with_the_same_bits(forks: Any, whole: Any, make_plan: Any, family: str, conditional: bool) -> None:
    """With classes where it takes them. Three processes and one result: so two runs of a plan are the same, too."""
    plan = make_plan(family, conditional=conditional)
    assert forks.train(plan, at="step", n=4)["exit"] == -signal.SIGKILL
    rest, expected = forks.train(plan), whole(plan)
    assert same(rest, expected)
    assert rest["seen"]["step"] == 3, "it goes on from its last save"
    assert len(set(expected["readings"])) == len(expected["readings"]) > 3, "the weights move between readings"
    assert rest["checkpoint"]["stopped_by"] == expected["checkpoint"]["stopped_by"] == "items_seen"


def test_a_run_that_pauses_at_shares_of_its_work_ends_with_the_same_bits(forks: Any, whole: Any, make_plan: Any) -> None:
    """And trains no step twice; one that is asked again for a share that it has come to trains none."""
    plan, expected = make_plan("gan/style"), whole(make_plan("gan/style"))
    paused = [forks.train(plan.model_copy(update={"pause_at": share})) for share in (0.25, 0.25, 0.5)]
    assert [told["checkpoint"]["stopped_by"] for told in paused] == ["paused"] * 3
    assert [told["seen"].get("step", 0) for told in paused] == [2, 0, 1]
    assert [told["checkpoint"]["items_seen"] for told in paused] == [32, 32, 48]
    rest = forks.train(plan)
    assert same(rest, expected)
    assert rest["seen"]["step"] == 3
    assert rest["checkpoint"]["stopped_by"] == "items_seen"
    again = forks.train(plan.model_copy(update={"pause_at": 0.25}))
    assert again["checkpoint"] == rest["checkpoint"], "one that has ended does not pause"


@pytest.mark.slow
def test_a_killed_run_with_a_discriminator_ends_with_the_same_bits(forks: Any, make_plan: Any) -> None:
    """Killed while the autoencoder learns from it, by slopes that the step before has left."""
    config = {"adversarial": 0.5, "laplacian": 0.1, "discriminator_width": 8, "autoencoder_share": 0.9, "adversarial_from": 0.2}
    whole, killed = (make_plan("vae/vq", folder=name, config=config) for name in ("whole", "killed"))
    assert forks.train(killed, at="step", n=4)["exit"] == -signal.SIGKILL
    rest, expected = forks.train(killed), forks.train(whole)
    assert same(rest, expected)
    assert rest["seen"]["step"] == 3


@pytest.mark.parametrize(
    ("family", "at", "n", "left"),
    [
        pytest.param(name, *point, marks=pytest.mark.slow if name in FAST and "quality" in point else pytest.mark.nightly)
        for name in MEMBERS
        for point in (("step", 1, 6), ("quality", 2, 5))
    ],
)
def test_a_run_killed_elsewhere_ends_with_the_same_bits(
    forks: Any, whole: Any, make_plan: Any, family: str, at: str, n: int, left: int
) -> None:
    """Without classes; before its first step, and while its quality is read."""
    plan = make_plan(family)
    assert forks.train(plan, at=at, n=n)["exit"] == -signal.SIGKILL
    rest = forks.train(plan)
    assert same(rest, whole(plan))
    assert rest["seen"]["step"] == left


@pytest.mark.slow
def test_a_run_killed_before_any_file_appears_goes_on(forks: Any, whole: Any, make_plan: Any, tmp_path: Path) -> None:
    """At every third rename of a run: of states, weights and records; what stands after each kill is whole."""
    expected = whole(make_plan())
    renames = expected["seen"]["rename"]
    assert renames > 8
    for n in range(renames % 3 or 3, renames + 1, 3):
        plan = make_plan(folder=f"run-{n}")
        assert forks.train(plan, at="rename", n=n)["exit"] == -signal.SIGKILL
        record = tmp_path / f"run-{n}" / "best" / "checkpoint.json"
        if record.exists():
            weights = Checkpoint.read(record).weights
            assert load_weights(weights, weights_path(record.parent, weights))
        assert same_end(forks.train(plan), expected), n


def same_end(rest: dict[str, Any], expected: dict[str, Any]) -> bool:
    checkpoint = rest["checkpoint"]
    return all(checkpoint[key] == expected["checkpoint"][key] for key in ("weights", "step", "quality", "steps_total"))


def test_a_run_killed_again_and_again_ends_with_the_same_bits(forks: Any, whole: Any, make_plan: Any) -> None:
    plan = make_plan("gan/sngan")
    for _ in range(2):
        assert forks.train(plan, at="step", n=3)["exit"] == -signal.SIGKILL
    assert same(forks.train(plan), whole(plan))


def test_sigterm_saves_and_the_next_run_goes_on(forks: Any, whole: Any, make_plan: Any) -> None:
    plan = make_plan("diffusion/edm", state_every_s=3600.0)
    stopped = forks.train(plan, at="step", n=3, signal=int(signal.SIGTERM))
    assert stopped == {"exit": 1, "error": "training was stopped at step 3: SIGTERM; run it again to go on"}
    rest = forks.train(plan)
    assert rest["seen"]["step"] == 3
    assert same(rest, whole(plan))


def test_sigterm_during_the_last_step_does_not_undo_the_run(forks: Any, make_plan: Any) -> None:
    told = forks.train(make_plan(), at="step", n=6, signal=int(signal.SIGTERM))
    assert told["exit"] == 0
    assert told["checkpoint"]["steps_total"] == 6


def test_a_finished_run_is_not_trained_again(forks: Any, make_plan: Any, tmp_path: Path) -> None:
    plan = make_plan()
    first, second = forks.train(plan), forks.train(plan)
    assert second["checkpoint"] == first["checkpoint"]
    assert "step" not in second["seen"]
    assert not (tmp_path / "run" / "state.safetensors").exists()


def test_what_a_finished_run_leaves_is_what_its_record_names(forks: Any, make_plan: Any, tmp_path: Path) -> None:
    forks.train(make_plan(), at="rename", n=5)  # the first state that is saved
    assert [path for path in (tmp_path / "run").rglob(".*") if path.is_file()], "killed while a file was being written"
    checkpoint = forks.train(make_plan())["checkpoint"]
    left = {path.relative_to(tmp_path / "run") for path in (tmp_path / "run").rglob("*") if path.is_file()}
    weights = weights_path(tmp_path / "run" / "best", Artifact.model_validate(checkpoint["weights"]))
    records = {Path("finished.json"), Path("work.json"), Path("drawing.json"), Path("best/checkpoint.json")}
    assert left == records | {weights.relative_to(tmp_path / "run")}
    assert sha256_of(weights) == checkpoint["weights"]["sha256"]
    assert json.loads((tmp_path / "run" / "finished.json").read_text()) == checkpoint
