"""`genwright bakeoff`: candidates under one budget, halved, begun again after a kill, the winner down the usual road."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.core.errors import BriefError, TrainingFailed
from components.core.records import Metric
from components.pipeline import evidence
from components.pipeline.backends import Backends
from components.pipeline.bakeoff.candidates import candidates
from components.pipeline.bakeoff.halving import TOP_MAX, order, rungs, survivors
from components.pipeline.bakeoff.outcome import Bakeoff
from components.pipeline.bakeoff.run import bakeoff, halved
from components.pipeline.bakeoff.rung import Rung
from components.pipeline.lease import lease
from components.pipeline.production import in_process
from components.pipeline.resolve import plan, resolve
from flows.cli.bakeoff import bakeoff as command
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import First


class Seen:
    """What the order looks at of a rung."""

    def __init__(self, fd: float, *, latency: float = 1.0, refused: str = "", collapse: str = "", better: str = "lower") -> None:
        figure = Metric(value=fd, low=fd, high=fd, n=1, better=better)  # type: ignore[arg-type]
        self.scorecard = type("Card", (), {"metrics": {"fd": figure}})
        self.latency = Metric(value=latency, low=latency, high=latency, n=1)
        self.refused, self.checkpoint = refused, type("Kept", (), {"collapse": collapse})


def test_who_goes_on_is_the_better_half_that_can_be_served_in_time() -> None:
    found: list[Any] = [Seen(3.0), Seen(0.1, latency=90.0), Seen(0.2, refused="no graph"), Seen(2.0), Seen(0.5, collapse="alike")]
    assert order(found, metric="fd", latency_ms=50.0) == [3, 0, 4, 1, 2]
    assert survivors(found, metric="fd", latency_ms=50.0) == [0, 3, 4]
    assert order(found[:2], metric="fd", latency_ms=None) == [1, 0]
    higher: list[Any] = [Seen(0.2, better="higher"), Seen(0.9, better="higher"), Seen(0.9, better="higher")]
    assert order(higher, metric="fd", latency_ms=None) == [1, 2, 0]


def test_the_rungs_leave_one_of_as_many_as_the_command_allows() -> None:
    for top in range(2, TOP_MAX + 1):
        left = top
        for _ in rungs(top):
            left = -(-left // 2)
        assert left == 1
    assert command.__defaults__ == (3, 500, False)


def test_a_candidate_whose_training_fails_is_left_out(a_run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    backends = Backends(Settings(home=tmp_path / "home"))
    runs = [a_run.model_copy(update={"genwright": f"0.1.{k}"}) for k in range(3)]  # of other keys
    quality = dict(zip([run.reference for run in runs], (3.0, math.nan, 1.0), strict=True))

    def tried(run: Any, *_: Any, share: float, **__: Any) -> Rung:
        if math.isnan(quality[run.reference]):
            raise TrainingFailed("the loss is nan")
        seen: Any = Seen(quality[run.reference])
        return Rung.model_construct(
            name=run.genwright, share=share, checkpoint=seen.checkpoint, scorecard=seen.scorecard, refused=""
        )

    monkeypatch.setattr(Rung, "latency", None)
    monkeypatch.setattr("components.pipeline.bakeoff.run.rung", tried)
    told: list[str] = []
    with lease("digits", backends) as held:
        found = halved(
            runs, 64, held, backends, lambda name, what: told.append(f"{name}: {what}" if name == "left out" else name)
        )
    assert [each.name for each in found.candidates] == ["0.1.2", "0.1.0"]
    assert told == ["rung", "left out: the loss is nan", "rung", "rung"]
    assert [len(each.rungs) for each in found.candidates] == [2, 1]


def test_a_brief_that_forces_a_choice_is_refused(raw_road: Any, tmp_path: Path) -> None:
    with pytest.raises(BriefError, match=r"override: given, and a bake-off compares what the brief leaves open"):
        candidates(raw_road.brief(), raw_road.backends(), base=tmp_path, top=3)


@pytest.mark.nightly
def test_a_bake_off_is_killed_begun_again_and_leaves_evidence(first: "First", tmp_path: Path, trains_here: Any) -> None:
    """Three candidates of the real flow at tiny size; under a second an item diffusion draws in few steps."""
    road = first.road.beside(tmp_path / "road")
    brief = road.brief(override=None, compute={"items_seen": 2000, "device": "cpu", "threads": 1}, serving={"latency_ms": 900})
    backends = road.backends()
    runs = candidates(brief, backends, base=road.folder, top=3)
    names = [f"{run.decision.family}/{run.decision.variant}" for run in runs]
    assert names[0] == "vae/gaussian"
    assert len({name.split("/")[0] for name in names}) == 3

    seen: list[str] = []

    def until_killed(name: str, record: Any) -> None:
        seen.append(f"{record.name} {record.share}" if name == "rung" else name)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with trains_here():
        with pytest.raises(KeyboardInterrupt):
            bakeoff(runs, 64, backends, in_process(backends), until_killed)
        before = {row.origin: row for row in evidence.table(backends).rows}
        assert len(before) == 2
        found = bakeoff(runs, 64, backends, in_process(backends))
        again = bakeoff(runs, 64, backends, in_process(backends))
    assert again.model_copy(update={"page": found.page}) == found, "all of it is found again"
    _check(found, names)

    rows = evidence.table(backends).rows
    assert {row.origin: row for row in rows}.items() >= before.items(), "what was measured before the kill stands"
    assert sorted(row.kind for row in rows) == ["bakeoff-25"] * 3 + ["bakeoff-50"] * 2 + ["proof"]
    assert len({row.run_id for row in rows}) == 3, "one MLflow run a candidate: nothing was trained twice"
    assert {row.name for row in rows} == set(names), "losers leave evidence"
    backends.store.delete("evidence/table.json")
    assert evidence.collect(backends) == 6, "MLflow has all of it"
    _, decision = plan(brief, backends, base=road.folder)
    assert decision.evidence is not None
    assert decision.evidence.decided, "diffusion is far ahead after so few items"
    assert len(decision.evidence.cases) >= 3
    assert resolve(brief, backends, base=road.folder).reference == found.winner.run, "so `produce` has nothing to do"
    page = backends.workspace.open(found.page).read_text()  # type: ignore[arg-type]
    assert all(name in page for name in names)
    assert page.count("data:image/png") == 5
    json.loads(found.model_dump_json())


def _check(found: Bakeoff, names: list[str]) -> None:
    assert found.shares == (0.25, 0.5)
    assert sorted(each.name for each in found.candidates) == sorted(names)
    assert [len(each.rungs) for each in found.candidates] == [2, 2, 1]
    items = {rung.share: rung.checkpoint.items_seen for each in found.candidates for rung in each.rungs}
    assert items[0.5] > items[0.25] > 0
    assert all(rung.checkpoint.stopped_by == "paused" for each in found.candidates for rung in each.rungs)
    assert all(rung.latency is not None for each in found.candidates for rung in each.rungs)
    assert found.produced is not None
    assert found.produced.promoted
    assert found.produced.release.run_id == found.winner.rungs[0].checkpoint.run_id, "the same training went on to its end"
