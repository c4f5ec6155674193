"""What a change of a brief costs: productions, each decided anew, and which stages made something in them."""

import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from roads import training_here

from components.core.record import Record
from components.pipeline import production, proof
from components.pipeline.order import KEYED, STAGES, Stage
from components.pipeline.resolve import resolve
from components.pipeline.run import Produced

if TYPE_CHECKING:
    from roads import First, Road

WORK = {  # what a stage calls where its record is not in the store yet
    "train": "components.pipeline.stages.train_in_worker",
    "export": "components.export.graph.export_graph",
    "prove": "components.pipeline.proof.prove_graph",
    "seal": "components.core.bundles.seal_bundle",
}
WORKLOAD = {"items_seen": 1000, "device": "cpu", "threads": 1}
IMPOSSIBLE = {"coverage_min": 1.0, "recall_min": 1.0}


class Counted:
    """Productions by an engine that notes the stages it is asked for; what did the work of one is noted too."""

    def __init__(self, road: "Road", patch: pytest.MonkeyPatch) -> None:
        self.road = road
        self.asked: list[str] = []
        self.worked: list[str] = []
        for name, work in WORK.items():
            patch.setattr(work, self._noting(name, pkgutil.resolve_name(work)))

    def _noting(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*positional: Any, **named: Any) -> Any:
            self.worked.append(name)
            return work(*positional, **named)

        return noted

    def produce(self, **changes: Any) -> tuple[Produced, str]:
        """What stands for the changed brief, and why nothing was done."""
        backends = self.road.backends()
        here = production.in_process(backends)

        def call(stage: Stage, records: Sequence[Record]) -> Record:
            self.asked.append(stage.name)
            return here(stage, records)

        self.asked.clear()
        self.worked.clear()
        run = resolve(self.road.brief(name="costs", compute=WORKLOAD, **changes), backends)
        return production.find_or_produce(run, backends, lambda: production.produce(run, backends, call))


@pytest.mark.slow
def test_a_change_costs_the_stages_that_depend_on_it_and_no_other(
    first: "First", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted: in test_run.py the keys alone are compared."""
    assert tuple(WORK) == KEYED
    monkeypatch.setitem(proof.SAMPLES, "one_pass", 400)  # the numbers of a proof are not at stake here
    counted = Counted(first.road.beside(tmp_path / "road"), monkeypatch)
    every = [stage.name for stage in STAGES]
    with training_here():
        champion, _ = counted.produce()
        assert (counted.asked, counted.worked) == (every, list(KEYED))

        known, why = counted.produce(schedule={"cron": "0 4 * * 2"})
        assert (counted.asked, counted.worked, known.bundle.sha256) == ([], [], champion.bundle.sha256)
        assert why.startswith("nothing to do: no stage depends on what changed in the brief (schedule), and the data (")

        changed: dict[str, Any] = {"gates": counted.road.brief().gates | IMPOSSIBLE}  # so that the champion stays what it is
        refused, why = counted.produce(**changed)
        assert (counted.asked, counted.worked, why) == (every, ["prove", "seal"], "")
        assert refused.gates.champion == champion.bundle.sha256

        changed |= {"serving": {"batch": 3}}
        counted.produce(**changed)
        assert (counted.asked, counted.worked) == (every, ["seal"])

        changed |= {"serving": {"batch": 3, "precision": "fp16"}}
        counted.produce(**changed)
        assert (counted.asked, counted.worked) == (every, ["export", "prove", "seal"])

        known, why = counted.produce(**changed, goal="quality", schedule={"cron": "0 4 * * 2"})
        assert (counted.asked, counted.worked) == ([], [])
        assert "no stage depends on what changed in the brief (goal, schedule)" in why
        assert counted.produce(**changed)[1].startswith("nothing to do: the brief, the data (")
        assert [each.version for each in counted.road.backends().versions.releases("costs")] == [1, 2, 3, 4]


def test_a_brief_is_decided_once(first: "First", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of data that is not in the home yet, whose size is known from the work tree."""
    from components.policy import decide

    facts: list[Any] = []
    choose = decide.decide

    def noted(*positional: Any, **named: Any) -> Any:
        facts.append(positional[0])
        return choose(*positional, **named)

    monkeypatch.setattr(decide, "decide", noted)
    road = first.road.beside(tmp_path / "road")
    run = resolve(road.brief(name="costs"), road.backends())
    assert facts == [run.facts]
