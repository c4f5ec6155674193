"""`genwright bakeoff`: candidates under one budget, halved, begun again after a kill, the winner down the usual road."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.core import store_keys
from components.core.errors import BriefError, TrainingFailed
from components.core.records import EvidenceRow, Metric, ScoringProtocol
from components.pipeline import evidence
from components.pipeline.backends import Backends
from components.pipeline.bakeoff.candidates import candidates
from components.pipeline.bakeoff.halving import TOP_MAX, left_of, order, rungs
from components.pipeline.bakeoff.outcome import Bakeoff
from components.pipeline.bakeoff.run import bakeoff, halved
from components.pipeline.bakeoff.rung import Rung, rung
from components.pipeline.bakeoff.share import is_further, share_of
from components.pipeline.lease import lease
from components.pipeline.production import in_process, silent
from components.pipeline.resolve import plan, resolve
from components.pipeline.run import Run
from components.policy.evidence import case_of
from components.training.schedule import READINGS
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
    assert order(found[:2], metric="fd", latency_ms=None) == [1, 0]
    higher: list[Any] = [Seen(0.2, better="higher"), Seen(0.9, better="higher"), Seen(0.9, better="higher")]
    assert order(higher, metric="fd", latency_ms=None) == [1, 2, 0]


def test_the_rungs_leave_one_of_as_many_as_the_command_allows() -> None:
    for top in range(2, TOP_MAX + 1):
        left, shares = top, rungs(top)
        for share in shares:
            assert left > 1
            left = left_of(left, last=share == shares[-1])
        assert left == 1
        assert left_of(top, last=False) >= top / 2
    assert command.__defaults__ == (3, 500, False)


class Tried:
    """Rungs of runs that are told apart by their version of genwright, without a training: (how good, the share that it has had
    before the bake-off asks for one, the share at which its ceiling ends it)."""

    def __init__(self, a_run: Any, backends: Backends, candidates: Sequence[tuple[float, float, float]]) -> None:
        self.backends = backends
        self.runs = [a_run.model_copy(update={"genwright": f"0.1.{k}"}) for k in range(len(candidates))]
        self.of = dict(zip([run.reference for run in self.runs], candidates, strict=True))
        self.told: list[str] = []

    def rung(self, run: Any, *_: Any, share: float, **__: Any) -> Rung:
        quality, had, ceiling = self.of[run.reference]
        if math.isnan(quality):
            raise TrainingFailed("the loss is nan")
        seen: Any = Seen(quality)
        had = 1.0 if ceiling < share else max(share, had)
        return Rung.model_construct(
            name=run.genwright, share=had, checkpoint=seen.checkpoint, scorecard=seen.scorecard, refused=""
        )

    def found(self, monkeypatch: pytest.MonkeyPatch) -> Bakeoff:
        def after(name: str, what: Any) -> None:
            self.told.append(f"{what.name} {what.share}" if name == "rung" else f"{name}: {what}")

        monkeypatch.setattr(Rung, "latency", None)
        monkeypatch.setattr("components.pipeline.bakeoff.run.rung", self.rung)
        with lease("digits", self.backends) as held:
            return halved(self.runs, 64, held, self.backends, after)


def test_a_candidate_whose_training_fails_is_left_out(a_run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried = Tried(a_run, Backends(Settings(home=tmp_path / "home")), [(3.0, 0, 1), (math.nan, 0, 1), (1.0, 0, 1)])
    found = tried.found(monkeypatch)
    assert [each.name for each in found.candidates] == ["0.1.2", "0.1.0"]
    assert tried.told == ["0.1.0 0.25", "left out: the loss is nan", "0.1.2 0.25"]


def test_what_had_another_share_is_not_compared(a_run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A short fine-tuning has no reading at a tenth: it is better there, as it had more, and worse where all are level."""
    backends = Backends(Settings(home=tmp_path / "home"))
    short = Tried(a_run, backends, [(5.0, 0, 1), (4.0, 0, 1), (3.0, 0, 1), (2.0, 0, 1), (2.5, 0.25, 1)])
    found = short.found(monkeypatch)
    assert [[each.name, [rung.share for rung in each.rungs]] for each in found.candidates] == [
        ["0.1.3", [0.1, 0.25, 0.5]], ["0.1.4", [0.25, 0.5]], ["0.1.2", [0.1, 0.25]], ["0.1.1", [0.1]], ["0.1.0", [0.1]],
    ]  # fmt: skip
    assert found.shares == (0.1, 0.25, 0.5)

    ended = Tried(a_run, backends, [(3.0, 0, 1), (2.0, 0, 1), (1.0, 0, 0.2)])
    found = ended.found(monkeypatch)
    assert ended.told == ["0.1.0 0.25", "0.1.1 0.25", "0.1.2 1.0", "0.1.1 0.5", "0.1.1 1.0"], "the two others at their end"
    assert [each.name for each in found.candidates] == ["0.1.2", "0.1.1", "0.1.0"]
    assert found.shares == (0.25, 0.5, 1.0)


def test_a_training_that_is_further_is_told() -> None:
    few = (0.25, 0.5, 1.0)

    def kept(items: int, by: str = "paused") -> Any:
        record = {"items_seen": items, "items_planned": 10_000, "steps_total": items // 100, "stopped_by": by}
        return type("Kept", (), record)

    shares = [share_of(kept(items)) for items in (1000, 1100, 2500, 2600, 4000, 5100)]
    assert shares == [0.1, 0.1, 0.25, 0.25, 0.4, 0.5]
    assert share_of(kept(10_000, "items_seen")) == share_of(kept(2000, "compute.minutes")) == 1.0
    assert not is_further(kept(2600), 0.25, readings=READINGS)
    assert is_further(kept(4000), 0.25, readings=READINGS), "killed between two readings"
    assert is_further(kept(2600), 0.1, readings=READINGS)
    assert not is_further(kept(2600), 0.1, readings=few), "it has no reading before"
    assert is_further(kept(10_000, "items_seen"), 0.25, readings=few)
    assert not is_further(kept(2000, "compute.minutes"), 0.25, readings=READINGS), "its ceiling ended it before"


def rung_of(run: Any, *, fd: float) -> EvidenceRow:
    """The row that a rung of a run leaves."""
    protocol = ScoringProtocol(
        extractor="e", extractor_sha256="e" * 64, dataset_md5="d", reference_split="test", reference_count=300, samples=500,
        resizer="none", seed=0, bootstrap=200, level=0.95,
    )  # fmt: skip
    decision = run.decision
    return EvidenceRow(
        family=decision.family, variant=decision.variant, mode=decision.mode, delivery=decision.delivery,
        case=case_of(run.facts, decision.budget, 30.0), protocol=protocol, share=0.25, train_s=30.0, items_seen=30_000,
        metrics={"fd": Metric(value=fd, low=fd - 0.1, high=fd + 0.1, n=500, better="lower")}, genwright="0.1.0", model="digits",
        who="tester", run_id=decision.family, kind="bakeoff-25",
    )  # fmt: skip


def test_a_bake_off_begun_again_tries_the_same(raw_road: Any, tmp_path: Path) -> None:
    """Its rungs are evidence, by which the policy chooses another one since; data, tables and brief are the same."""
    brief = raw_road.brief(override=None, compute={"items_seen": 120_000, "device": "cpu"}, serving={"latency_ms": 50})
    backends = Backends(Settings(home=tmp_path / "home", actor="tester"))

    def names(brief: Any = brief, top: int = 3) -> list[str]:
        runs = candidates(brief, backends, base=raw_road.folder, top=top)
        return [f"{run.decision.family}/{run.decision.variant}" for run in runs]

    begun = candidates(brief, backends, base=raw_road.folder, top=3)
    first = names()
    evidence.add([rung_of(begun[0], fd=3.0), rung_of(begun[1], fd=0.5)], backends)
    _, now = plan(brief, backends, base=raw_road.folder)
    assert f"{now.family}/{now.variant}" == first[1], "what was measured would decide"
    assert candidates(brief, backends, base=raw_road.folder, top=3) == begun
    assert names(top=2)[0] == first[1], "another bake-off looks at what is known"
    assert names(brief.model_copy(update={"seed": 1}))[0] == first[1]


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
        assert candidates(brief, backends, base=road.folder, top=3) == runs, "those that it was begun with"
        found = bakeoff(runs, 64, backends, in_process(backends))
        assert candidates(brief, backends, base=road.folder, top=3) == runs
        again = bakeoff(runs, 64, backends, in_process(backends))
    assert again == found, "all of it is found again, the page too"
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
    with trains_here():
        _check_shares(found, runs, backends)


def _check_shares(found: Bakeoff, runs: list[Run], backends: Backends) -> None:
    """What was trained to a share is judged there again by other samples; and trained to it again, beside the winner's own
    training, which has ended, where the store has it no more."""
    first = {(each.run, rung.share): rung.checkpoint for each in found.candidates for rung in each.rungs}
    with lease("digits", backends) as held:
        other = halved(runs, 48, held, backends, silent)
        assert other.samples == 48
        found_again = {(each.run, rung.share): rung.checkpoint for each in other.candidates for rung in each.rungs}
        assert all(found_again[of] == first[of] for of in found_again.keys() & first.keys())
        assert (found.winner.run, 0.25) in found_again

        winner = next(run for run in runs if run.reference == found.winner.run)
        for record in ("trained-25", "trained-50", "rung-25-64", "rung-50-64"):
            backends.store.delete(store_keys.run_record("digits", winner.key("train"), record))
        for share in (0.25, 0.5):
            anew = rung(winner, held, backends, share=share, samples=64, before=None)
            was = first[found.winner.run, share]
            assert (anew.share, anew.checkpoint.items_seen, anew.checkpoint.step) == (share, was.items_seen, was.step)
            assert anew.checkpoint.run_id != was.run_id, "a training of its own"
            assert anew.checkpoint.weights.sha256 == was.weights.sha256, "the same, as if nothing had been produced"
        loser = next(run for run in runs if run.reference == found.candidates[-1].run)
        early, was = rung(loser, held, backends, share=0.1, samples=64, before=None), first[loser.reference, 0.25]
        assert early.share == 0.1, "a larger --top has one more rung, which this one had passed"
        assert early.checkpoint.items_seen < was.items_seen
        assert early.checkpoint.run_id != was.run_id


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
