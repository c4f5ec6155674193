"""The commands as people and programs use them: tables for the first, one JSON document for the second."""

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.core.brief import read_brief
from components.core.errors import InputError
from components.core.records import Admission, Bundle, Channel, Decision, GateReport, LedgerEntry, LocalDataset
from components.families import cards
from components.pipeline import release_commands
from components.pipeline.proved import with_proof
from flows.settings import load_backends

if TYPE_CHECKING:
    from roads import Command, First

REPO = Path(__file__).parents[2]
BRIEFS = sorted((REPO / "briefs").glob("*.yaml"))
KEYS = {"family", "variant", "mode", "delivery", "reasons", "rejected", "warnings", "estimate"}
HEAVY = ("torch", "mlflow", "prefect", "numpy", "onnxruntime", "boto3", "dvc", "lightning", "sklearn", "matplotlib")


def test_there_are_briefs() -> None:
    assert len(BRIEFS) >= 10


@pytest.mark.parametrize(("arguments", "code"), [(("families",), 0), (("nonsense",), 2)])
def test_a_process_ends_once_its_threads_and_exit_handlers_are_done(
    arguments: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    """With all that it printed, and the documented code; but nothing in it is freed, which takes long once torch is loaded."""
    program = f"""
import atexit, sys, threading
from flows.__main__ import main

class Freed:
    def __del__(self): print("freed")

kept = Freed()
threading.Thread(target=lambda: (threading.main_thread().join(), print("thread"))).start()
import flows.cli.app
run = flows.cli.app.main
flows.cli.app.main = lambda: (atexit.register(print, "handler"), run())
sys.argv = ["genwright", *{arguments!r}]
main()
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == code, ran.stderr
    assert ran.stdout.splitlines()[-2:] == ["thread", "handler"]
    assert ("diffusion" in ran.stdout, ran.stderr == "") == (code == 0,) * 2


@pytest.mark.parametrize("path", BRIEFS, ids=lambda path: path.stem)
def test_every_brief_is_planned_for_people_and_for_programs(cli: "Command", path: Path) -> None:
    document = cli("plan", path, "--json").json()
    assert set(document) >= KEYS
    decision = Decision.model_validate(document)
    assert decision.reasons
    said = cli("plan", path)
    assert said.code == 0
    assert said.err == ""
    assert f"{decision.family}/{decision.variant}" in said.out
    assert all(word in said.out for word in ("Why", "Not chosen", "Estimate"))
    assert all(warning.code in said.out for warning in decision.warnings)
    assert max(map(len, said.out.splitlines())) <= 100


def test_planning_leaves_nothing_behind(cli: "Command") -> None:
    assert cli("plan", BRIEFS[0]).code == 0
    assert [*Path().iterdir()] == []


def test_families_are_listed_with_their_cards(cli: "Command") -> None:
    names = {"/".join(key) for key in cards()}
    listed = cli("families", "--json").json()
    assert {f"{card['family']}/{card['variant']}" for card in listed} == names
    assert len(listed) >= 3
    table = cli("families").out
    assert all(name in table for name in names)
    assert "…" not in table


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["plan", "--help"],
        ["latent", "--help"],
        ["latent", "compress", "--help"],
        ["plan", str(REPO / "briefs" / "digits.yaml")],
        ["families"],
    ],
)
def test_quick_commands_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom flows.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        f"sys.stderr.write(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPO), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout
    assert ran.stderr == ""


def test_the_installed_command_answers(tmp_path: Path) -> None:
    ran = subprocess.run(
        [Path(sys.executable).with_name("genwright"), "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    commands = [
        "plan",
        "families",
        "produce",
        "retrain",
        "promote",
        "rollback",
        "reconcile",
        "history",
        "explain",
        "adapters",
        "deploy",
        "serve",
    ]
    assert [name for name in commands if f" {name} " not in ran.stdout] == []


def test_a_bare_command_shows_its_help(cli: "Command") -> None:
    said = cli()
    assert (said.code, said.err) == (2, "")
    assert "Usage: genwright" in said.out


def test_data_is_prepared_and_planned_outside_any_repository(cli: "Command") -> None:
    said = cli("data", "prepare", "uci-digits", "--to", "data/digits", "--limit", "200")
    assert said.code == 0
    first, *rest = said.out.splitlines()
    assert first == "data/digits: 200 items of 8x8x1 (160 train, 20 validation, 20 test)"
    assert "  files      used 200, set aside 0, left alone 1,597 (1,597 beyond --limit)" in rest
    assert any(line.startswith("  classes    10 (train/validation/test): 0 ") for line in rest)
    sheet = Path(next(line.split()[1] for line in rest if line.startswith("  sheet")))
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert not sheet.is_relative_to(Path("data"))
    Path("brief.yaml").write_text("name: d\nmodality: image\ndata: {path: data/digits}\ncompute: {device: cpu}\n")
    dataset = LocalDataset.model_validate(cli("data", "show", "brief.yaml", "--json").json())
    assert (dataset.count, dataset.item.text, dataset.rev) == (200, "8x8x1", "workspace")
    assert len(dataset.classes) == 10
    shown = cli("data", "show", "brief.yaml")
    assert (shown.code, shown.err) == (0, "")
    assert dataset.md5 in shown.out
    assert "200 image items of 8 px" in cli("plan", "brief.yaml").out
    again = cli("data", "prepare", "uci-digits", "--to", "data/digits", "--limit", "200", "--json").json()
    assert (again["report"]["used"], again["dataset"]["count"]) == (200, 200)
    assert all("without an item in a split" in warning for warning in again["warnings"])
    assert Path(again["sheet"]) == sheet
    assert LocalDataset.model_validate(cli("data", "show", "brief.yaml", "--json").json()) == dataset


def test_a_release_explains_itself(cli: "Command", home: Path, first: "First") -> None:
    bundle = Bundle.model_validate(cli("explain", "digits", "--json").json())
    assert bundle.model == "digits"
    brief = read_brief(first.road.folder / "brief.yaml")
    relative = brief.data.relative_to(first.road.folder)  # what another clone's brief says
    assert bundle.lineage.brief_sha256 == brief.model_copy(update={"data": relative}).digest()
    said = cli("explain", "digits@champion")
    assert (said.code, said.err) == (0, "")
    assert {"latency_p95_ms", "throughput_per_s"} <= bundle.scorecard.metrics.keys()  # which its bundle.json has not
    for word in ("digits version 1", "champion", "vae/gaussian", "MLflow run", "FD-local", "Latency p95", "Gates: pass"):
        assert word in said.out
    assert cli("explain", "digits/1").out == said.out


def test_the_ledger_is_told(cli: "Command", home: Path) -> None:
    (entry,) = [LedgerEntry.model_validate(each) for each in cli("history", "digits", "--json").json()]
    assert (entry.action, entry.to_version, entry.who) == ("promote", 1, "tester")
    said = cli("history", "digits")
    assert (said.code, said.err) == (0, "")
    assert entry.to_bundle[:12] in said.out


def test_a_promoted_release_is_promoted_again_without_effect(cli: "Command", home: Path) -> None:
    before = cli("history", "digits", "--json").json()
    outcome = cli("promote", "digits@champion", "--json").json()
    assert (outcome["changed"], outcome["release"]["version"]) == (False, 1)
    assert "is champion already" in cli("promote", "digits/1").out
    assert cli("history", "digits", "--json").json() == before


def test_reconcile_repairs_a_lost_channel_and_says_so(cli: "Command", home: Path) -> None:
    assert cli("reconcile", "digits", "--json").json()["changed"] is False
    (channel,) = (home / "store" / "channels").rglob("digits*")
    saved = json.loads(channel.read_text())
    channel.unlink()
    outcome = cli("reconcile", "digits", "--json").json()
    assert outcome["changed"] is True
    assert json.loads(channel.read_text()) == saved
    assert cli("reconcile", "digits").out.endswith(f"nothing changed, bundle {saved['bundle_sha256'][:12]}\n")


def test_a_release_is_deployed_into_another_store(cli: "Command", home: Path) -> None:
    channel = Channel.model_validate(cli("deploy", "digits", "--store", "other", "--json").json())
    assert (channel.model, channel.version) == ("digits", 1)
    assert Path(f"other/bundles/{channel.bundle_sha256}/model.onnx").is_file()
    assert Channel.model_validate(cli("deploy", "digits", "--store", "other", "--json").json()) == channel
    assert "channel digits names version 1" in cli("deploy", "digits", "--store", "other").out


def test_only_what_was_proved_is_deployed(cli: "Command", home: Path, registered_as: Any) -> None:
    channel = home / "store" / "channels" / "digits.json"
    before = channel.read_text()
    registered_as("digits", gates=GateReport(verdict="fail", gates=(), champion=None))
    cli("deploy", "digits/2").refused(3, "digits version 2 is not the champion", "genwright promote digits/2")
    cli("deploy", "digits/2", "--store", "other").refused(3, "digits version 2: its gates say fail")
    cli("deploy", "digits/2", "--store", f"{home}/./store/").refused(3, "digits version 2 is not the champion")
    cli("deploy", "digits/2", "--write", "triton", "--to", "other").refused(3, "digits version 2: its gates say fail")
    assert channel.read_text() == before
    assert not Path("other").exists()
    assert "names version 1" in cli("deploy", "digits").out


@pytest.mark.parametrize("form", ["triton", "container"])
def test_a_release_is_written_for_another_platform(cli: "Command", home: Path, form: str) -> None:
    said = cli("deploy", "digits", "--write", form, "--to", "out", "--json", GENWRIGHT_HOME=home).json()
    assert said["written"]
    assert all(Path(path).exists() for path in said["written"])


def test_a_platform_that_is_not_known_is_refused(cli: "Command", home: Path) -> None:
    cli("deploy", "digits", "--write", "helm", GENWRIGHT_HOME=home).refused(2, "helm", "kserve, triton, container, diffusers")
    cli("deploy", "digits", "--write", "kserve", GENWRIGHT_HOME=home).refused(2, "no cluster can reach it", "s3://")


def test_a_champion_is_served_without_mlflow_once_its_graph_was_examined(first: "First", home: Path) -> None:
    code = """
import sys
from flows.settings import load_backends
from components.pipeline.serving import source_of
source = source_of("digits", load_backends(), device="cpu")
engine = source.load(source.named())
assert source.follows and engine.sha256 == source.named().bundle_sha256
print(sorted({"mlflow", "torch", "prefect", "onnx"} & set(sys.modules)))
"""
    assert not (home / "admitted").exists()
    environment = first.road.variables(GENWRIGHT_HOME=str(home), PYTHONPATH=str(REPO))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    (note,) = (home / "admitted").glob("*/*-cpu.json")
    made = Admission.read(note)
    assert made.verdict == "pass"
    assert "8 items, the same bytes as where it was sealed" in [check.text for check in made.checks]


def test_a_second_version_is_forced_and_rolled_back(cli: "Command", home: Path, registered_as: Any) -> None:
    """The second version is the first one's bundle, said to have failed."""
    backends = load_backends()
    _, bundle = release_commands.bundle_of(backends.versions.resolve("digits"), backends)
    registered_as("digits", gates=bundle.gates.model_copy(update={"verdict": "fail"}))
    backends.versions.set_alias("digits", "candidate", 2)

    cli("promote", "digits").refused(3, "digits version 2", "fail", "--force --why")
    assert cli("explain", "digits", "--json").json() == with_proof(bundle, backends.workspace).model_dump(mode="json")
    with pytest.raises(InputError, match="--force needs a reason for the ledger"):  # of Prefect's flow too, which calls this
        release_commands.promote("digits", backends, force=True, why=" ")
    forced = cli("promote", "digits", "--force", "--why", "a test", "--json").json()
    assert (forced["changed"], forced["release"]["version"], forced["entry"]["why"]) == (True, 2, "a test")
    back = cli("rollback", "digits", "--why", "worse", "--json").json()
    assert (back["changed"], back["release"]["version"], back["entry"]["action"]) == (True, 1, "rollback")
    assert "digits version 2 is champion now" in cli("rollback", "digits", "--to", "2").out
    told = cli("history", "digits", "--json").json()
    assert [(entry["action"], entry["to_version"]) for entry in told] == [
        ("promote", 1), ("promote", 2), ("rollback", 1), ("rollback", 2),
    ]  # fmt: skip
