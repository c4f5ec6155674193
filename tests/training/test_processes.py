"""Several processes learn what one does from the same batches: the same losses, step by step."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from components.core.errors import DataError
from components.core.records import Artifact, ClassCondition
from components.families import cards
from components.training.folder import weights_path
from components.training.stream import BatchStream

CLASSES = ClassCondition(classes=tuple("0123456789"))
NAMES = sorted("/".join(key) for key in cards())
FAST = {"vae/gaussian"}
SLOW = {  # one of each family, and of each way to take statistics of a batch
    "autoencoder/plain",
    "autoregressive/vq-transformer",
    "diffusion/edm",
    "diffusion/latent",
    "flow/glow",
    "gan/sngan",
    "gan/style",
    "vae/vq",
}
MEMBERS = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow if name in SLOW else pytest.mark.nightly) for name in NAMES
]


def told(forks: Any, plan: Any, **how: Any) -> dict[str, Any]:
    """What the first of the processes says; all of them must have ended well."""
    said: dict[str, Any] = forks.train(plan, **how)
    assert {said["exit"], *said.get("exits", [])} == {0}, said
    return said


@pytest.mark.parametrize("family", MEMBERS)
def test_two_processes_learn_as_one(forks: Any, make_plan: Any, family: str) -> None:
    """With a batch of the same size; dropout, whose numbers are each process's own, is off."""
    dropout = {"dropout": 0.0} if family in {"vae/gaussian", "vae/beta"} or "vq" in family or "autoregressive" in family else {}
    plans = [make_plan(family, folder=f"of-{of}", config=dropout) for of in (1, 2)]
    one, two = (told(forks, plan, of=of) for of, plan in enumerate(plans, start=1))
    assert len(one["losses"]) == len(two["losses"]) == 6
    for alone, shared in zip(one["losses"], two["losses"], strict=True):
        assert shared == pytest.approx(alone, rel=2e-4, abs=2e-5)
    assert two["seen"]["step"] == 6
    assert two["seen"]["quality"] == one["seen"]["quality"]
    assert two["checkpoint"]["quality"] == pytest.approx(one["checkpoint"]["quality"], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vae/vq", "diffusion/latent"])
def test_two_processes_with_a_discriminator_learn_as_one(forks: Any, make_plan: Any, family: str) -> None:
    """Five of six steps are the autoencoder's; the discriminator learns in the last three, and is learnt from in the last two."""
    config = {"adversarial": 0.5, "laplacian": 0.1, "discriminator_width": 8, "autoencoder_share": 0.8, "adversarial_from": 0.5}
    config |= {"dropout": 0.0} if "vq" in family else {}
    one, two = (told(forks, make_plan(family, folder=f"of-{of}", config=config), of=of) for of in (1, 2))
    for alone, shared in zip(one["losses"], two["losses"], strict=True):
        assert shared == pytest.approx(alone, rel=2e-4, abs=2e-5)
    assert sum("train/loss_discriminator" in losses for losses in one["losses"]) == 3


def test_two_processes_that_were_stopped_go_on_to_the_same_end(forks: Any, make_plan: Any) -> None:
    whole, halves = (make_plan("gan/sngan", folder=name, state_every_s=3600.0) for name in ("whole", "halves"))
    stopped = forks.train(halves, at="step", n=3, signal=int(signal.SIGTERM), of=2)
    assert stopped["exits"] == [1, 1], "both end, and with a reason"
    assert stopped["error"] == "training was stopped at step 3: SIGTERM; run it again to go on"
    rest = told(forks, halves, of=2)
    assert rest["seen"]["step"] == 3
    expected = told(forks, whole, of=2)
    assert rest["checkpoint"]["weights"] == expected["checkpoint"]["weights"]
    assert rest["readings"][-1] == expected["readings"][-1]


def test_those_that_are_named_here_are_there() -> None:
    assert set(NAMES) >= FAST | SLOW
    assert {name.split("/")[0] for name in SLOW} == {family for family, _ in cards()}


def test_only_the_first_process_reads_quality_and_writes(forks: Any, make_plan: Any, tmp_path: Path) -> None:
    checkpoint = told(forks, make_plan(), of=2)["checkpoint"]
    weights = weights_path(tmp_path / "run" / "best", Artifact.model_validate(checkpoint["weights"]))
    left = {path.relative_to(tmp_path / "run") for path in (tmp_path / "run").rglob("*") if path.is_file()}
    records = {Path("finished.json"), Path("work.json"), Path("drawing.json"), Path("best/checkpoint.json")}
    assert left == records | {weights.relative_to(tmp_path / "run")}


def test_the_parts_of_all_processes_are_the_batch(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = BatchStream(digits, batch_size=16, seed=0, condition=CLASSES)(7)
    monkeypatch.setattr("components.training.stream.processes", lambda: 2)
    parts = []
    for number in range(2):
        monkeypatch.setattr("components.training.stream.rank", lambda number=number: number)
        parts.append(BatchStream(digits, batch_size=17, seed=0, condition=CLASSES)(7))
    assert all(torch.equal(torch.cat(both), one) for both, one in zip(zip(*parts, strict=True), whole, strict=True))


def test_fewer_items_than_processes_are_refused(digits: Any, make_split: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.training.stream.processes", lambda: 4)
    with pytest.raises(DataError, match="batches of 3 items for 4 processes; allowed: an item for each; use fewer"):
        BatchStream(make_split(digits.images[:3], digits.labels[:3]), batch_size=16, seed=0)
