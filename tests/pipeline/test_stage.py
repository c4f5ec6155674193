"""One stage alone: what `genwright stage NAME --run MODEL/KEY` refuses before it does anything."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.core import store_keys
from components.core.errors import Conflict, DeviceMissing, InputError, RegistryError, RunError
from components.core.record import Record
from components.core.records import StoredBundle
from components.pipeline.backends import Backends
from components.pipeline.lease import current, lease
from components.pipeline.needs import needs_of
from components.pipeline.order import STAGES, Stage
from components.pipeline.production import in_process, run_stage
from components.pipeline.resolve import device_for
from components.pipeline.run import Proof, Run, Trained, record_key
from components.pipeline.stages import promote
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command


@pytest.fixture
def backends(tmp_path: Path) -> Backends:
    return Backends(Settings(home=tmp_path / "home"))


def refusal(run: Run, backends: Backends, key: str | None = None) -> str:
    """What each stage says of a run that is in the store under a key."""
    key = key or run.key("seal")
    backends.workspace.write(f"runs/digits/{key}/run.json", run)
    said = set()
    for stage in STAGES:
        with pytest.raises(InputError) as caught:
            run_stage(stage.name, f"digits/{key}", backends, in_process(backends))
        said.add(str(caught.value))
    (line,) = said
    assert backends.store.list("leases/") == []
    return line


def test_a_run_of_another_version_is_refused(a_run: Any, backends: Backends) -> None:
    run = a_run.model_copy(update={"genwright": "0.0.1"})
    line = refusal(run, backends)
    assert line.endswith("of genwright 0.0.1, and this is 0.1.0; produce it again, or run that version")


def test_a_run_under_the_key_of_another_is_refused(a_run: Any, backends: Backends) -> None:
    assert f"the run there has the key {a_run.key('seal')}; produce it again" in refusal(a_run, backends, key="0" * 64)


@pytest.mark.skipif(device_for("auto") == "cuda", reason="this machine has a GPU")
def test_a_run_of_a_device_that_is_not_here_is_refused(a_run: Any, backends: Backends) -> None:
    """By the stages that compute on it: the others run on any machine."""
    run = a_run.model_copy(update={"facts": a_run.facts.model_copy(update={"device": "cuda"})})
    backends.workspace.write(record_key(run, "run"), run)
    refused = []
    for stage in STAGES:
        with pytest.raises(InputError) as caught:
            run_stage(stage.name, run.reference, backends, in_process(backends))
        if isinstance(caught.value, DeviceMissing):
            assert "no NVIDIA GPU on this machine; produce where there is one" in str(caught.value)
            refused.append(stage.name)
        else:
            assert "its stage train has not run yet" in str(caught.value)
    assert refused == ["train", "prove", "seal"]


def test_one_works_under_the_lease_of_the_production_that_asks_for_it(a_run: Any, backends: Backends) -> None:
    backends.workspace.write(record_key(a_run, "run"), a_run)
    with lease("digits", backends) as held:
        with pytest.raises(Conflict, match="another production of it is running"):
            run_stage("export", a_run.reference, backends, in_process(backends))
        with pytest.raises(InputError, match="its stage train has not run yet"):
            run_stage("export", a_run.reference, backends, in_process(backends), under=held)
    assert current("digits", backends.store) == held.model_copy(update={"expires_s": 0.0})


def test_stages_from_one_through_another_run_in_their_order_under_one_lease(a_run: Any, backends: Backends) -> None:
    """What the cluster's steps are made of; an error ends them, and those after it do not run."""
    backends.workspace.write(record_key(a_run, "run"), a_run)
    done: list[str] = []

    def call(stage: Stage, records: Sequence[Record]) -> Record:
        assert len(records) == len(stage.takes)
        held = current("digits", backends.store)
        assert held is not None
        assert held.is_held
        if stage.name == "register":
            raise RegistryError("away")
        done.append(stage.name)
        return a_run  # type: ignore[no-any-return]

    run_stage("train", a_run.reference, backends, call, through="seal")
    assert done == ["train", "export", "prove", "seal"]
    with pytest.raises(RegistryError, match="away"):
        run_stage("train", a_run.reference, backends, call, through="promote")
    assert done[4:] == ["train", "export", "prove", "seal"]
    for first, last in (("train", "ship"), ("ship", "train")):
        with pytest.raises(InputError, match="stage ship; allowed: train, export"):
            run_stage(first, a_run.reference, backends, call, through=last)
    assert backends.store.list("leases/") == [] or not current("digits", backends.store).is_held  # type: ignore[union-attr]


def test_one_is_not_begun_for_a_production_that_has_ended(a_run: Any, backends: Backends) -> None:
    """Whether it gave its lease back, or another one took it over."""
    backends.workspace.write(record_key(a_run, "run"), a_run)
    with lease("digits", backends) as ended:
        pass
    with pytest.raises(Conflict, match="digits: the production that asked for this stage has ended; run the production again"):
        run_stage("train", a_run.reference, backends, in_process(backends), under=ended)
    with lease("digits", backends), pytest.raises(Conflict, match="that asked for this stage has ended"):
        run_stage("train", a_run.reference, backends, in_process(backends), under=ended)


def test_a_stage_says_what_it_needs(a_run: Any, backends: Backends) -> None:
    run = a_run.model_copy(update={"facts": a_run.facts.model_copy(update={"device": "cuda"})})
    estimate = run.decision.estimate
    train, export, prove, seal, register, _ = (needs_of(stage, run, backends) for stage in STAGES)
    assert (train.device, train.memory_gb, train.seconds) == ("cuda", estimate.memory_gb.value, estimate.training_s.value)
    assert (export.device, prove.device, seal.device, register.device) == ("cpu", "cuda", "cuda", "cpu")
    assert (export.text, register.text) == ("cpu, about 15 s", "cpu")
    assert prove.seconds is not None
    assert prove.seconds > export.seconds


def test_a_run_that_this_version_cannot_read_is_none(a_run: Any, backends: Backends) -> None:
    key = a_run.key("seal")
    backends.store.put_if_absent(f"runs/digits/{key}/run.json", b'{"brief": {}}')
    with pytest.raises(InputError, match=f"--run digits/{key}: no such run in"):
        run_stage("train", f"digits/{key}", backends, in_process(backends))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("stage", "paint", "--run", "digits/0"), "stage paint; allowed: train, export, prove, seal, register, promote"),
        (("train", "--run", "digits/0"), "--run digits/0: no such run in"),
        (("train", "--run", "digits"), "allowed: MODEL/KEY"),
        (("train", "--run", "../../x/y"), "--run ../../x/y"),
    ],
)
def test_a_stage_or_run_that_is_not_there_is_refused(
    cli: "Command", tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    cli(*arguments, GENWRIGHT_HOME=tmp_path / "home").refused(2, says)


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_a_holder_that_was_passed_over_leaves_no_end_of_a_run(home: Path, verdict: str) -> None:
    """Whether the gates let it pass or not."""
    backends = Backends(Settings(home=home, actor="tester"))
    workspace = backends.workspace
    (key,) = [key for key in backends.store.list("runs/digits/") if key.endswith("/run.json")]
    run = workspace.read(key, Run)
    assert run is not None

    def left(stage: Any, kind: Any) -> Any:
        return workspace.read(record_key(run, stage), kind)

    trained, proof, stored = left("train", Trained), left("prove", Proof), left("seal", StoredBundle)
    proof = proof.model_copy(update={"gates": proof.gates.model_copy(update={"verdict": verdict})})
    release = backends.versions.get("digits", 1)
    before = {key: backends.store.get(key) for key in backends.store.list("") if not key.startswith("leases/")}
    with lease("digits", backends) as held:
        workspace.write(store_keys.lease("digits"), held.model_copy(update={"token": held.token + 1}))
        with pytest.raises(RunError, match="digits: another production took over"):
            promote(run, held, trained, stored, release, proof, backends)
    assert {key: backends.store.get(key) for key in before} == before


def test_a_training_that_mlflow_does_not_know_is_refused_before_it_is_scored(
    cli: "Command", home: Path, empty_store: Path, first: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends = Backends(Settings(home=home))
    (key,) = [key for key in backends.store.list("runs/digits/") if key.endswith("/run.json")]
    run = backends.workspace.read(key, Run)
    assert run is not None
    gates = run.brief.gates | {"coverage_min": 0.01}  # else the proof is there already
    run = run.model_copy(update={"brief": run.brief.model_copy(update={"gates": gates})})
    backends.workspace.write(record_key(run, "run"), run)
    monkeypatch.setattr("components.pipeline.proof._scored", lambda *_: pytest.fail("it was scored"))
    monkeypatch.chdir(first.road.folder)
    (home / "mlflow.db").write_bytes(empty_store.read_bytes())
    line = cli("evaluate", "--run", f"digits/{run.key('seal')}").err
    assert "digits: its training, MLflow run " in line
    assert "name the MLflow that tracked it in GENWRIGHT_TRACKING_URI" in line
    assert "defect" not in line
