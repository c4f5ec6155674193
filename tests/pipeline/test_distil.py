"""`genwright distil`: students of a release, the curve, and the fastest one that every gate passed as a model of its own."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from specs import image_data, text_data

from components.core.brief import Precision
from components.core.errors import GateRefused, InputError, RunError
from components.core.records import Artifact, Checkpoint, DataSpec, Metric, Release
from components.families import find_card
from components.pipeline.backends import Backends
from components.pipeline.distil.curve import (
    MEASURED,
    Curve,
    StudentResult,
    chosen_of,
    keep,
    kept_curve,
    picture_of,
    refuse_unless_one_passed,
)
from components.pipeline.distil.request import DistillRequest, adversarial_of, steps_of
from components.pipeline.distil.students import students
from components.pipeline.order import STAGES
from components.pipeline.release_commands import bundle_of
from components.pipeline.run import SAMPLES, Trained
from components.pipeline.run_params import run_name, run_tags, version_line
from components.pipeline.stale import Known, stale
from components.registry.mlflow_store import connect
from flows import engines
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command

TINY: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).parents[1].joinpath("tiny.yaml").read_text())


def test_what_is_no_diffusion_model_is_refused(cli: "Command", home: Path) -> None:
    cli("distil", "digits").refused(2, "vae/gaussian cannot be distilled", "diffusion/ddpm")
    cli("distil", "digits", "--device", "tpu").refused(2, "--device tpu", "auto, cpu, cuda")
    cli("distil", "nothing").refused(2, "nothing")
    cli("distil", "digits", "--device", "cuda").refused(2, "--device cuda", "no CUDA device", "cpu")


def test_steps_are_those_that_the_student_and_its_precisions_can_have() -> None:
    assert steps_of(None, (8, 4, 2, 1), ("fp32", "int8"), loop_above=4) == (8, 4, 2, 1)
    assert steps_of(None, (8, 4, 2, 1), ("int8",), loop_above=4) == (4, 2, 1)
    assert steps_of([1, 8, 1], (8, 4, 2, 1), ("fp32",), loop_above=4) == (8, 1)
    with pytest.raises(InputError, match="nothing to teach"):
        steps_of(None, (), ("fp32",), loop_above=4)
    with pytest.raises(InputError, match=r"--steps 3; allowed: 8, 4, 2, 1"):
        steps_of([3], (8, 4, 2, 1), ("fp32",), loop_above=4)
    with pytest.raises(InputError, match=r"--steps 8 in int8 alone; allowed: up to 4; add fp32"):
        steps_of([8, 2], (8, 4, 2, 1), ("int8",), loop_above=4)


@pytest.mark.parametrize(
    ("variant", "steps", "spec", "said"),
    [
        ("ect", (2, 1), image_data(channels=1, height=8, width=8), None),
        ("ect", (4, 2), image_data(channels=1, height=8, width=8), "--steps 4,2;"),
        ("ddpm", (2, 1), image_data(channels=1, height=8, width=8), "diffusion/ddpm comes to one step by halves;"),
        ("lcm", (2, 1), image_data(channels=3, height=256, width=64), "images of 256 pixels a side;"),
        ("ect", (2, 1), text_data(channels=1, height=8, width=8), "items that are asked for by embedding;"),
    ],
)
def test_a_critic_is_for_one_step_of_images_that_it_can_judge(
    variant: str, steps: tuple[int, ...], spec: DataSpec, said: str | None
) -> None:
    card = find_card("diffusion", variant)
    assert adversarial_of(None, spec, steps, card) == (said is None)
    assert not adversarial_of(False, spec, steps, card)
    if said is None:
        assert adversarial_of(True, spec, steps, card)
        return
    with pytest.raises(InputError, match=f"--adversarial: {said} allowed: a student in one step .* leave it out"):
        adversarial_of(True, spec, steps, card)


def test_of_graphs_of_one_size_the_nearest_to_the_data_is_chosen() -> None:
    def one(steps: int, ms: float, ratio: float, verdict: str = "pass") -> StudentResult:
        return _result(verdict=verdict, steps=steps, latency_p95_ms=_metric(ms), distance_ratio=_metric(ratio))

    assert chosen_of((one(2, 9.0, 0.8), one(1, 5.0, 1.2), one(1, 5.1, 0.9))) == 2
    assert chosen_of((one(2, 9.0, 0.8), one(1, 5.0, 1.2), one(1, 5.1, 0.9, "fail"))) == 1
    assert chosen_of((one(2, 9.0, 0.8, "fail"),)) is None


def _metric(value: float) -> Metric:
    return Metric(value=value, low=0.9 * value, high=1.1 * value, n=100)


def _result(**own: Any) -> StudentResult:
    told = dict.fromkeys(MEASURED, _metric(1.0)) | {"verdict": "fail", "steps": 2, "refused_for": ()} | own
    return StudentResult(
        variant="ect", width=64, precision="fp32", size_mb=1.0, train_s=1.0, run_key="k", export_key="k", train_key="k", **told
    )


def test_a_curve_without_a_student_that_passed_is_kept_and_refused_with_what_each_lacks(tmp_path: Path) -> None:
    metric, tried = _metric(1.0), _result(refused_for=("FD-local 2.0 times the champion's",))
    curve = Curve(
        teacher=Release(model="digits", version=3, bundle_sha256="b", run_id="r"), latency_ms=20.0, device="cpu",
        tried=(tried,), chosen=None,
        **{f"teacher_{name}": metric for name in ("fd", "latency_p95_ms", "throughput_per_s", "recall", "coverage")},
    )  # fmt: skip
    with pytest.raises(GateRefused, match=r"no student of digits version 3 .* 2 steps, width 64, fp32: FD-local 2.0 times"):
        refuse_unless_one_passed(curve, "fast")
    _check_kept(curve, tmp_path)


def _check_kept(curve: Curve, folder: Path) -> None:
    """Whatever became of the home that drew it."""
    one, two = (Backends(Settings(home=folder / name, store=str(folder / "store"))) for name in ("one", "two"))
    with pytest.raises(RunError, match="fast: no students of it were tried; genwright distil its teacher"):
        picture_of("fast", one)
    keep(curve, one, "fast")
    shutil.rmtree(folder / "one")
    kept = kept_curve("fast", two)
    assert kept is not None
    assert kept.curve == curve
    assert picture_of("fast", two).read_bytes().startswith(b"\x89PNG")

    def refuses() -> None:
        raise RunError("another production took over")

    with pytest.raises(RunError, match="took over"):
        keep(curve.model_copy(update={"latency_ms": 1.0}), two, "fast", check=refuses)
    assert kept_curve("fast", two) == kept
    refuse_unless_one_passed(curve.model_copy(update={"chosen": 0}), "fast")


def _checkpoint(variant: str, sha256: str = "a", **config: Any) -> Checkpoint:
    return Checkpoint(
        weights=Artifact(name="weights.safetensors", sha256=sha256, size_bytes=1),
        family="diffusion",
        variant=variant,
        config={"width": 64, "lr_peak": 0.01, "steps": 50} | config,
        spec=image_data(channels=1, height=8, width=8),
        dataset_md5="d",
        run_id="r",
        step=1,
        steps_total=1,
        train_s=1.0,
        quality=1.0,
        stopped_by="steps",
    )


def _told(
    variant: str,
    a_run: Any,
    steps: tuple[int, ...],
    widths: tuple[int, ...] = (64,),
    precisions: tuple[Precision, ...] = ("fp32",),
    *,
    adversarial: bool = False,
) -> list[Any]:
    """Every student's run; each training's checkpoint is named by the number of steps."""
    release = Release(model="digits", version=3, bundle_sha256="b", run_id="r")
    request = DistillRequest(
        name="fast",
        steps=steps,
        widths=widths,
        precisions=precisions,
        minutes=6.0,
        adversarial=adversarial,
        latency_ms=20.0,
        device="cpu",
        trains_on="cpu",
    )
    making = students(release, a_run, Trained(run_id="r", checkpoint=_checkpoint(variant)), request)
    told = [next(making)]
    while True:
        run = told[-1]
        try:
            how = "-adversarial" if run.student.adversarial else ""
            own = _checkpoint(run.decision.variant, f"of-{run.student.trained_for}{how}")
            told.append(making.send(Trained(run_id="s", checkpoint=own)))
        except StopIteration:
            return told


def test_halving_is_a_chain_in_which_each_is_taught_by_the_one_of_twice_its_steps(a_run: Any) -> None:
    told = _told("ddpm", a_run, (8, 4, 1))
    assert [(run.student.steps, run.student.checkpoint.weights.sha256) for run in told] == [(8, "a"), (4, "of-8"), (1, "a")]
    assert len({run.key("train") for run in told}) == 3
    assert {run.student.seconds for run in told} == {120.0}
    assert {run.student.lr_peak for run in told} == {0.005}, "the rate does not fall along the chain"


def test_consistency_is_one_training_a_width_read_at_two_steps(a_run: Any) -> None:
    told = _told("edm", a_run, (4, 2, 1), widths=(64, 32))
    assert [run.student.steps for run in told] == [2, 4, 1, 2, 4, 1]
    trainings = [run.key("train") for run in told]
    assert (trainings[:3], trainings[3:]) == ([trainings[0]] * 3, [trainings[3]] * 3)
    assert trainings[0] != trainings[3]
    assert len({run.key("export") for run in told}) == 6
    assert {run.student.seconds for run in told} == {180.0}
    assert [run.student.lr_peak for run in told] == [0.002] * 3 + [0.01] * 3, "a narrower one has no weights to keep"


def test_the_student_in_one_step_learns_on_from_a_critic_in_a_quarter_of_the_time(a_run: Any) -> None:
    told = _told("edm", a_run, (2, 1), widths=(64, 32), precisions=("fp32", "int8"), adversarial=True)
    students = [(run.student.width, run.student.steps, run.student.adversarial) for run in told[::2]]
    assert students == [(width, *each) for width in (64, 32) for each in ((2, False), (1, False), (1, True))]
    adversarial = [run for run in told if run.student.adversarial]
    assert {run.student.checkpoint.weights.sha256 for run in adversarial} == {"of-2"}, "it begins with the weights of the other"
    assert {run.student.seconds for run in told if not run.student.adversarial} == {135.0}
    assert {run.student.seconds for run in adversarial} == {45.0}
    assert len({run.key("train") for run in told}) == 4
    assert run_name(adversarial[0]) == "student of digits/3: ect, 1 step, adversarial, width 64"


@pytest.mark.parametrize(("variant", "taught_by"), [("ddpm", ["a", "a", "of-2", "of-2"]), ("edm", ["a"] * 4)])
def test_another_precision_is_another_graph_of_the_same_training(a_run: Any, variant: str, taught_by: list[str]) -> None:
    told = _told(variant, a_run, (2, 1), precisions=("fp32", "int8"))
    assert [(run.student.steps, run.brief.serving.precision) for run in told] == [
        (2, "fp32"), (2, "int8"), (1, "fp32"), (1, "int8"),
    ]  # fmt: skip
    assert [run.student.checkpoint.weights.sha256 for run in told] == taught_by
    assert len({run.key("train") for run in told}) == (2 if variant == "ddpm" else 1)
    assert len({run.key("export") for run in told}) == 4


def test_a_student_is_a_production_of_its_own_name_and_another_limit_trains_nothing(a_run: Any) -> None:
    run = _told("edm", a_run, (1,))[0]
    assert (run.brief.name, run.decision.variant, run.decision.delivery) == ("fast", "ect", "one_pass")
    assert (run.facts.latency_ms, run.brief.gates["latency_p95_ms_max"]) == (20.0, "serving")
    assert run.decision.reasons[0].text == "a student of digits version 3 in 1 step, fp32"
    assert run_name(run) == "student of digits/3: ect, 1 step, width 64"
    assert version_line(run) == "student of digits/3: ect, 1 step, width 64, fp32"
    assert run_tags(run)["teacher"] == "digits/3"
    quicker = run.model_copy(update={"facts": run.facts.model_copy(update={"latency_ms": 5.0})})
    assert [quicker.key(stage) == run.key(stage) for stage in ("export", "prove")] == [True, False]
    other = run.student.model_copy(update={"checkpoint": _checkpoint("edm", "another")})
    assert run.model_copy(update={"student": other}).key("train") != run.key("train")


def test_a_student_is_stale_once_its_teacher_is_no_longer_champion(cli: "Command", home: Path, registered_as: Any) -> None:
    backends = Backends(Settings(home=home))
    champion = backends.versions.resolve("digits")
    lineage = bundle_of(champion, backends)[1].lineage
    registered_as("fast", lineage=lineage.model_copy(update={"teacher": champion.bundle_sha256}))
    cli("promote", "fast/1", "--force", "--why", "a test")
    told = cli("explain", "fast").out
    assert f"learnt from bundle {champion.bundle_sha256}" in told
    assert "stale" not in told

    registered_as("digits", lineage=lineage.model_copy(update={"run_id": "another"}))
    cli("promote", "digits/2", "--force", "--why", "a test")
    told = cli("explain", "fast").out
    assert "stale: its teacher is no longer digits's champion, version 2 is; genwright distil digits makes a new one" in told

    cli("rollback", "digits")
    assert "stale" not in cli("explain", "fast").out


@pytest.mark.timeout(900)  # several productions
@pytest.mark.nightly  # three machines distil in test_machines.py
@pytest.mark.parametrize("variant", ["ddpm", "edm", "dit"])
def test_the_fastest_student_that_passes_is_released_with_its_lineage(
    first: Any, variant: str, tmp_path: Path, cli: "Command", trains_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for delivery in SAMPLES:  # the numbers of a proof are not at stake here
        monkeypatch.setitem(SAMPLES, delivery, 400)
    road = first.road.beside(tmp_path / "road")
    backends = road.backends()
    config = TINY[f"diffusion/{variant}"] | {"steps": 8}
    brief = road.brief(name="many", override={"family": "diffusion", "variant": variant, "config": config})
    taught = road.produce_here(brief)
    assert taught.promoted
    teacher = taught.release
    steps, precisions, widths = ([2, 1], ["fp32", "int8"], [32, 16]) if variant == "ddpm" else ([2], ["fp32"], [32])
    request = (
        "--minutes",
        "0.1",
        "--steps",
        ",".join(map(str, steps)),
        "--latency-ms",
        "5000",
        "--precisions",
        ",".join(precisions),
    )
    request += () if variant == "ddpm" else ("--widths", "1")  # by default at half of it, too
    # By the engine of tests/drop_in, which is asked by its name, whichever server of Prefect's is named besides.
    monkeypatch.setattr(
        engines, "__path__", [*engines.__path__, str(Path(__file__).parents[1] / "drop_in" / "flows" / "engines")]
    )
    environment = {"GENWRIGHT_ENGINE": "aloud", "PREFECT_API_URL": "http://127.0.0.1:9/api", "GENWRIGHT_HOME": str(road.home)}
    with trains_here():
        curve = cli("distil", "many", *request, "--json", GENWRIGHT_ACTOR="tester", **environment).json()["curve"]
    wanted = [(width, count, precision) for width in widths for count in steps for precision in precisions]
    names = [stage.name for stage in STAGES]
    assert (road.home / "stages.txt").read_text().split() == [*names[:3] * len(wanted), *names[3:]]
    assert [(each["width"], each["steps"], each["precision"]) for each in curve["tried"]] == wanted
    assert curve["teacher"]["bundle_sha256"] == teacher.bundle_sha256
    passed = [each["latency_p95_ms"]["value"] for each in curve["tried"] if each["verdict"] == "pass"]
    assert curve["tried"][curve["chosen"]]["latency_p95_ms"]["value"] == min(passed)
    release = backends.versions.resolve("many-distilled@champion")
    bundle = bundle_of(release, backends)[1]
    assert bundle.lineage.teacher == bundle.gates.champion == teacher.bundle_sha256
    assert picture_of("many-distilled", backends).read_bytes().startswith(b"\x89PNG")
    assert stale(bundle, Known(backends)) is None
    client = connect(backends.settings.mlflow_uri)
    runs = client.search_runs([client.get_experiment_by_name("many-distilled").experiment_id])
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {teacher.run_id}
    assert len({run.info.run_name for run in runs}) == len(runs)
    if variant != "edm":  # what follows asks nothing of how it learnt
        return
    _again_trains_nothing(road, request)


def _again_trains_nothing(road: Any, request: tuple[str, ...]) -> None:
    weights = [*(road.home / "work").rglob("weights.safetensors")]
    before = [path.stat().st_mtime_ns for path in weights]
    ran = road.cli("distil", "many", *request)
    assert ran.returncode == 0, ran.stderr
    assert "Students of many version 1" in ran.stdout
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert road.backends().versions.resolve("many-distilled@champion").version == 1
