"""Bad input ends in one line that names it, with the documented exit code, and leaves nothing half-written."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from roads import Command, First, Said

REPO = Path(__file__).parents[2]
GOOD = "name: x\nmodality: image\ndata: {path: data/none}\n"
PLANNED = "name: x\nmodality: image\ndata: {path: data/none, items: 500, side: 8}\ncompute: {minutes: 1, device: cpu}\n"

BRIEFS = {
    "a cycle": (GOOD + "require: &r [*r]\n", ["line 4", "holds itself"]),
    "a list for a key": ("? [a, b]\n: 1\n" + GOOD, ["line 1", "a key must be one word"]),
    "an octal number": (GOOD + "seed: 010\n", ["seed", "010", "write 8 or 10"]),
    "minutes and seconds": (GOOD + "compute: {minutes: 1:30}\n", ["compute.minutes", "1:30", "write 90 or 1.5"]),
    "thousands of brackets": (GOOD + "require: " + "[" * 5000, ["line 4", "levels"]),
    "a word for true": (GOOD + "schedule: {on_new_data: yes}\n", ["schedule.on_new_data", "write true or false"]),
    "an hour that is none": (GOOD + "schedule: {cron: 0 25 * * *}\n", ["schedule.cron", "0 25 * * *", "hour 0-23"]),
    "a cron line with seconds": (GOOD + "schedule: {cron: 0 0 3 * * 1}\n", ["schedule.cron", "6 fields", "five fields"]),
    "a cron line that is a number": (GOOD + "schedule: {cron: 5}\n", ["schedule.cron", "valid string", "quotes"]),
    "a budget beyond all time": (GOOD + "compute: {minutes: 1e308}\n", ["compute.minutes", "less than or equal to 1000000000"]),
    "more items than there are": (GOOD.replace("none}", "none, items: 10000000000000}"), ["data.items", "less than or equal"]),
    "a budget beyond any number": (GOOD + "compute: {usd: 1e999}\n", ["compute.usd", "finite"]),
    "two documents": (GOOD + "---\n" + GOOD, ["line 4", "second document"]),
    "a path with a NUL": (GOOD.replace("data/none", '"a\\0b"'), ["data.path", "\\x00"]),
    "unknown key": (GOOD + "gaol: speed\n", ["gaol", "unknown key", "goal"]),
    "unknown key in a part": (GOOD + "compute: {usd: 5, gpus: 2}\n", ["compute.gpus", "gpu_hours"]),
    "misspelt key": (GOOD.replace("data:", "dato:"), ["dato", "unknown key"]),
    "wrong type": (GOOD + "compute: {usd: lots}\n", ["compute.usd", "'lots'"]),
    "wrong value": (GOOD + "goal: best\n", ["goal", "'best'", "'quality'"]),
    "infinite budget": (GOOD + "compute: {usd: .inf}\n", ["compute.usd", "inf"]),
    "number for a key": (GOOD + "1: 2\n", ["1"]),
    "name that is a path": (GOOD.replace("name: x", "name: ../x"), ["name", "../x", "lower-case"]),
    "impossible combination": (GOOD.replace("image", "text") + "conditioning: text\n", ["conditioning: text"]),
    "impossible goal": (GOOD + "goal: latent\nrequire: [invertibility]\n", ["goal: latent", "likelihood"]),
    "not YAML": (": : [", ["not YAML", "line 1"]),
    "a list": ("- name: x", ["mapping", "list"]),
    "empty": ("", ["mapping"]),
    "data neither here nor declared": (GOOD, ["data/none", "items", "side"]),
}


def here() -> set[str]:
    """The names in the current folder."""
    return {path.name for path in Path().iterdir()}


@pytest.mark.parametrize("command", ["plan", "produce"])
@pytest.mark.parametrize("what", [name for name in BRIEFS if name != "data neither here nor declared"])
def test_a_wrong_brief_is_refused_by_name(cli: "Command", what: str, command: str) -> None:
    text, names = BRIEFS[what]
    Path("brief.yaml").write_text(text)
    cli(command, "brief.yaml").refused(2, "brief.yaml", *names)
    assert here() == {"brief.yaml"}


def test_data_that_is_neither_here_nor_declared_cannot_be_planned(cli: "Command") -> None:
    Path("brief.yaml").write_text(GOOD)
    cli("plan", "brief.yaml").refused(2, "data/none", "items", "side")
    assert here() == {"brief.yaml"}


def test_a_brief_that_cannot_be_read(cli: "Command") -> None:
    Path("binary.yaml").write_bytes(np.random.default_rng(0).bytes(300))
    cli("plan", "binary.yaml").refused(2, "binary.yaml", "cannot be read")
    cli("plan", "missing.yaml").refused(2, "missing.yaml", "no such file", "briefs/digits.yaml")
    cli("plan", ".").refused(2, "directory")
    os.mkfifo("pipe.yaml")
    for command in ("plan", "produce", "retrain"):
        cli(command, "pipe.yaml").refused(2, "pipe.yaml", "not a file")
    Path("large.yaml").write_bytes(b"#" * 10_000_000)
    cli("plan", "large.yaml").refused(2, "large.yaml", "100,000 bytes")
    Path("nul.yaml").write_bytes(b"name: \0")
    cli("plan", "nul.yaml").refused(2, "nul.yaml", "not YAML")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["plan"], ["BRIEF", "genwright plan --help"]),
        (["nope"], ["nope", "genwright --help"]),
        (["plan", "--nope", "x"], ["--nope", "plan --help"]),
        (["serve", "x", "--port", "99999"], ["--port", "65535"]),
        (["serve", "x", "--port", "http"], ["--port", "integer"]),
        (["serve", "x", "--device", "gpu"], ["gpu", "auto, cpu, cuda"]),
        (["promote", "x", "--force"], ["--force", "--why"]),
        (["data", "prepare", "uci-digits"], ["--to", "data prepare --help"]),
        (["data", "prepare", "uci-digits", "--to", "d", "--side", "1"], ["--side", "2"]),
    ],
)
def test_a_wrong_command_is_one_line(cli: "Command", arguments: list[str], names: list[str]) -> None:
    cli(*arguments).refused(2, *names)
    assert here() == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [("USD_PER_GPU_HOUR", "abc"), ("USD_PER_GPU_HOUR", "-1"), ("DEBUG", "maybe"), ("POLICY", "missing-policy.yaml")],
)
def test_a_wrong_setting_is_named(cli: "Command", name: str, value: str) -> None:
    Path("brief.yaml").write_text(PLANNED)
    said = cli("plan", "brief.yaml", **{f"GENWRIGHT_{name}": value})
    said.refused(2, value if name == "POLICY" else f"GENWRIGHT_{name}")


@pytest.mark.parametrize("place", ["a-file/home", "/proc/home"])
@pytest.mark.parametrize("command", [["produce", "brief.yaml"], ["history", "x"], ["serve", "x"], ["data", "show", "brief.yaml"]])
def test_a_home_that_cannot_be_made_is_named(cli: "Command", command: list[str], place: str) -> None:
    Path("brief.yaml").write_text(PLANNED)
    Path("a-file").touch()
    cli(*command, GENWRIGHT_HOME=place).refused(2, "GENWRIGHT_HOME", place)
    assert here() == {"a-file", "brief.yaml"}


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that not even root can write: a read-only mount, or plain permissions for another user."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o555)
        yield folder
        return
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", folder], check=False, capture_output=True).returncode:
        pytest.skip("root without the right to mount can write everywhere")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_home_that_is_read_only_is_named(cli: "Command", read_only: Path) -> None:
    Path("brief.yaml").write_text(PLANNED)
    cli("produce", "brief.yaml", GENWRIGHT_HOME=read_only).refused(2, "GENWRIGHT_HOME", str(read_only))
    cli("data", "prepare", "uci-digits", "--to", read_only / "d").refused(2, str(read_only), "not writable")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 100 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_leaves_no_half_dataset(cli: "Command", small_disk: Path) -> None:
    cli("data", "prepare", "uci-digits", "--to", small_disk / "data" / "digits").refused(1, str(small_disk), "disk is full")
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def test_a_full_disk_for_the_home_is_told_before_anything_starts(cli: "Command", small_disk: Path) -> None:
    assert cli("data", "prepare", "uci-digits", "--to", "data/none", "--limit", "200").code == 0
    Path("brief.yaml").write_text(PLANNED)
    cli("produce", "brief.yaml", GENWRIGHT_HOME=small_disk / "home").refused(1, str(small_disk), "disk is full", "MB")
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def test_a_full_disk_for_the_registry(cli: "Command", small_disk: Path) -> None:
    cli("history", "x", GENWRIGHT_HOME=small_disk).refused(1, "mlflow.db", "disk is full")
    assert not (small_disk / "mlflow.db").exists()


def test_a_write_beyond_the_limit_leaves_no_half_dataset(tmp_path: Path) -> None:
    """For those who are not root: the kernel refuses files larger than 50 kB (EFBIG)."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
        "sys.argv = ['genwright', 'data', 'prepare', 'uci-digits', '--to', 'out/digits'];"
        "from flows.cli.app import main; main()"
    )
    environment = os.environ | {"PYTHONPATH": str(REPO), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    assert "File too large" in ran.stderr
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_too_few_items_are_refused_before_anything_is_trained(cli: "Command") -> None:
    need = "60 items, and a proof needs 64: 32 held out and 32 to train on"
    assert need in cli("data", "prepare", "uci-digits", "--to", "few", "--limit", "60").out
    Path("brief.yaml").write_text("name: few\nmodality: image\ndata: {path: few}\ncompute: {device: cpu}\n")
    planned = cli("plan", "brief.yaml")
    assert planned.code == 0
    words = " ".join(planned.out.replace("│", " ").split())
    assert "produce will refuse (exit 2): " in words
    assert f"few: {need}" in words
    for command in ("produce", "retrain"):
        cli(command, "brief.yaml").refused(2, f"few: {need}", "add more data")
    assert not Path(".genwright/work").exists()


def test_sources_that_give_no_dataset(cli: "Command") -> None:
    Path("empty").mkdir()
    Path("one").mkdir()
    Image.new("L", (8, 8)).save("one/a.png")
    Path("broken").mkdir()
    for at in range(40):
        Path(f"broken/{at}.png").write_bytes(b"not a picture")
    cli("data", "prepare", "empty", "--to", "out").refused(2, "empty", "no pictures")
    cli("data", "prepare", "one", "--to", "out").refused(2, "one", "1 items", "64 or more")
    cli("data", "prepare", "broken", "--to", "out").refused(2, "broken")
    cli("data", "prepare", "nope", "--to", "out").refused(2, "nope", "uci-digits", "image folder")
    cli("data", "prepare", "uci-digits", "--to", "one").refused(2, "one", "exists")
    assert here() - {".genwright"} == {"broken", "empty", "one"}


def test_data_that_is_not_there(cli: "Command") -> None:
    Path("brief.yaml").write_text(GOOD)
    cli("data", "show", "brief.yaml").refused(2, "data/none", "genwright data prepare")
    Path("brief.yaml").write_text(GOOD.replace("none}", "none, repo: elsewhere}"))
    cli("data", "show", "brief.yaml").refused(2, "elsewhere", "data.repo")
    Path("brief.yaml").write_text(GOOD.replace("none}", "none, rev: v9}"))
    cli("data", "show", "brief.yaml").refused(2, "'v9'", "data.rev")


def test_a_revision_that_does_not_exist(cli: "Command", first: "First") -> None:
    Path("brief.yaml").write_text(GOOD.replace("none}", f"digits, repo: {first.road.folder}, rev: v9}}"))
    cli("data", "show", "brief.yaml").refused(2, "v9")


@pytest.mark.parametrize("damage", ["a flipped byte", "cut short", "missing"])
def test_a_corrupt_shard_is_named(cli: "Command", first: "First", damage: str) -> None:
    shutil.copytree(first.road.folder / "data", "data")
    shard = next(Path("data/digits").glob("train-*0.npy"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.unlink()  # a link to DVC's cache, perhaps
    if damage != "missing":
        shard.write_bytes(content if damage == "a flipped byte" else content[:-100])
    Path("brief.yaml").write_text(GOOD.replace("none", "digits"))
    cli("data", "show", "brief.yaml").refused(2, shard.name, "missing" if damage == "missing" else "corrupt")


@pytest.mark.parametrize("command", ["produce", "retrain"])
@pytest.mark.parametrize("brief", [GOOD, PLANNED])
def test_producing_from_data_that_is_not_there_is_refused_at_once(cli: "Command", brief: str, command: str) -> None:
    Path("brief.yaml").write_text(brief)
    cli(command, "brief.yaml").refused(2, "data/none", "genwright data prepare")
    assert [*Path(".genwright").rglob("*")] == []


NOT_BUILT = {
    "clips-video": "diffusion/",
    "sounds-audio": "gan/wavegan",
    "support-replies-text": "autoregressive/",
}


@pytest.mark.parametrize("name", NOT_BUILT)
def test_what_no_family_makes_yet_is_said_before_anything_is_fetched(cli: "Command", name: str) -> None:
    cli("produce", REPO / "briefs" / f"{name}.yaml").refused(2, NOT_BUILT[name], "not built yet", "allowed: ")
    assert not Path(".genwright/data").exists()
    assert not Path(".genwright/work").exists()


PRETRAINED = "name: x\nmodality: image\ndata: {path: d, items: 9000, side: 64}\ncompute: {usd: 500, device: cuda}\n"


@pytest.mark.parametrize(
    ("model", "files", "names"),
    [
        ("hf:org/name", {}, ("assumed", "hub id")),
        (
            "base",
            {"model_index.json": '{"_class_name": "StableDiffusionPipeline"}'},
            ("diffusion model, as its class StableDiff",),
        ),
        ("base", {"model_index.json": '{"_class_name": ["own", "OwnPipeline"]}'}, ("OwnPipeline", "assumed")),
        ("base", {"config.json": '{"_class_name": "UNet2DModel"}'}, ("diffusion model, as its class UNet2DModel",)),
        ("base", {"config.json": '{"_class_name": "AutoencoderKL"}'}, ("vae model, as its class AutoencoderKL",)),
        ("base", {"config.json": "{}"}, ("no family", "assumed")),
    ],
)
def test_a_pretrained_model_of_no_stated_family_is_read_or_assumed_and_said(
    cli: "Command", model: str, files: dict[str, str], names: tuple[str, ...], tmp_path: Path
) -> None:
    """A folder is relative to the brief's repository, wherever the command is called."""
    place = tmp_path / "elsewhere"
    (place / "base").mkdir(parents=True)
    for name, text in files.items():
        (place / "base" / name).write_text(text)
    (place / "brief.yaml").write_text(PRETRAINED + f"pretrained: {{model: '{model}'}}\n")
    reasons = cli("plan", place / "brief.yaml", "--json").json()["reasons"]
    said = [reason["text"] for reason in reasons if reason["rule"].startswith("pretrained.")]
    assert [name for name in names if name not in said[0]] == [], said
    assert "general model is assumed" in said[1]
    assert here() == set()


@pytest.mark.parametrize(
    ("model", "files", "names"),
    [
        ("nowhere", {}, ("nowhere", "no folder", "hf:ORG/NAME")),
        ("base", {}, ("base", "neither model_index.json nor config.json", "pretrained.family")),
        ("base", {"config.json": "{"}, ("config.json", "cannot be read")),
        ("base", {"config.json": "[" * 100_000}, ("config.json", "cannot be read")),
        ("models:/none@champion", {}, ("models:/none@champion", "cannot be read", "pretrained.family")),
    ],
)
def test_a_pretrained_model_that_is_not_there_is_named(
    cli: "Command", model: str, files: dict[str, str], names: tuple[str, ...]
) -> None:
    Path("base").mkdir()
    for name, text in files.items():
        (Path("base") / name).write_text(text)
    Path("brief.yaml").write_text(PRETRAINED + f"pretrained: {{model: '{model}'}}\n")
    for command in ("plan", "produce"):
        cli(command, "brief.yaml").refused(2, *names)
    assert here() == {"base", "brief.yaml"}


def test_the_family_of_a_release_is_read_from_its_bundle(cli: "Command", home: Path) -> None:
    Path("brief.yaml").write_text(PRETRAINED + "pretrained: {model: 'models:/digits@champion', in_domain: true}\n")
    reasons = cli("plan", "brief.yaml", "--json", GENWRIGHT_HOME=home).json()["reasons"]
    said = [reason["text"] for reason in reasons if reason["rule"].startswith("pretrained.")]
    assert said == ["models:/digits@champion is digits/1, a vae/gaussian model, as its release says"]


@pytest.mark.parametrize(
    ("model", "mode", "names"),
    [
        ("hf:org/base", "lora", ("hf:org/base", "no org/base in GENWRIGHT_HUB_MIRROR")),
        ("hf:org/base", "finetune", ("hf:org/base", "no org/base in GENWRIGHT_HUB_MIRROR")),
        ("models:/base@champion", "lora", ("models:/base@champion", "nothing was produced in this home yet", "name a release")),
        (
            "models:/base@champion",
            "finetune",
            ("models:/base@champion", "nothing was produced in this home yet", "name a release"),
        ),
    ],
)
def test_a_base_that_is_not_here_is_said(cli: "Command", model: str, mode: str, names: tuple[str, ...]) -> None:
    """A release that was not made here, and a model of a hub that no mirror has."""
    Path("brief.yaml").write_text(
        PLANNED
        + f"pretrained: {{model: '{model}', family: diffusion, in_domain: true}}\n"
        + f"override: {{family: diffusion, variant: edm, mode: {mode}, delivery: many_step}}\n"
    )
    mirror = {"GENWRIGHT_HUB_MIRROR": "mirror"} if model.startswith("hf:") else {}
    cli("produce", "brief.yaml", **mirror).refused(2, *names)


@pytest.fixture
def home(first: "First", tmp_path: Path) -> Path:
    """A copy of the home that holds one produced champion."""
    folder = tmp_path / "home"
    for name in ("store", "mlflow.db"):
        source = first.left / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, (folder.mkdir(exist_ok=True), folder / name)[1])
    return folder


COMMANDS = ["serve", "promote", "rollback", "history", "explain", "deploy", "reconcile", "adapters"]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_model_is_named_with_those_that_exist(cli: "Command", home: Path, command: str) -> None:
    cli(command, "nope", GENWRIGHT_HOME=home).refused(2, "'nope'", "digits")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_model_where_there_is_none_yet(cli: "Command", empty_store: Path, command: str) -> None:
    Path("home").mkdir()
    shutil.copy(empty_store, "home/mlflow.db")
    cli(command, "nope", GENWRIGHT_HOME="home").refused(2, "'nope'", "genwright produce")


@pytest.mark.parametrize("reference", ["digits@nobody", "digits/9", "digits/x", "nope/1"])
@pytest.mark.parametrize("command", ["serve", "explain", "deploy", "promote"])
def test_an_unknown_version_is_named(cli: "Command", home: Path, command: str, reference: str) -> None:
    cli(command, reference, GENWRIGHT_HOME=home).refused(2, reference.partition("@")[2] or reference.partition("/")[0])


def test_there_is_nothing_to_roll_back_to(cli: "Command", home: Path) -> None:
    cli("rollback", "digits", GENWRIGHT_HOME=home).refused(2, "digits", "--to")
    cli("rollback", "digits", "--to", "7", GENWRIGHT_HOME=home).refused(2, "7")


def test_stores_that_do_not_answer(cli: "Command", home: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"}

    def deploy(to: str, **environment: str) -> "Said":
        return cli("deploy", "digits", "--store", to, GENWRIGHT_HOME=home, **environment)

    deploy("s3://bucket-x/models", AWS_EC2_METADATA_DISABLED="true").refused(1, "s3://bucket-x", "AWS_ACCESS_KEY_ID")
    free = f"http://127.0.0.1:{_free_port()}"
    deploy("s3://bucket-x", GENWRIGHT_S3_ENDPOINT=free, **keys).refused(1, "s3://bucket-x", free, "cannot be reached")
    deploy("s3://").refused(2, "s3://", "bucket")
    deploy("ftp://x").refused(2, "ftp://x", "s3://")
    deploy("/proc/nowhere").refused(1, "/proc/nowhere")


def test_a_registry_that_does_not_answer(cli: "Command") -> None:
    address = f"http://127.0.0.1:{_free_port()}"
    cli("history", "x", GENWRIGHT_TRACKING_URI=address, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0").refused(1, address)
    cli("history", "x", GENWRIGHT_TRACKING_URI="nonsense").refused(2, "'nonsense'", "sqlite:///")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_busy_port_is_named(cli: "Command", home: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        cli("serve", "digits", "--port", port, GENWRIGHT_HOME=home).refused(1, port, "taken", "--port")
    cli("serve", "digits", "--host", "no.such.host.invalid", GENWRIGHT_HOME=home).refused(1, "no.such.host.invalid")


def test_a_model_is_served_once(cli: "Command", home: Path) -> None:
    cli("serve", "digits", "digits/1", GENWRIGHT_HOME=home).refused(2, "digits", "given twice")


@pytest.mark.parametrize("digests", [",", "0123", "z" * 64])
def test_digests_of_tokens_that_are_none_open_no_server(cli: "Command", home: Path, digests: str) -> None:
    cli("serve", "digits", GENWRIGHT_HOME=home, GENWRIGHT_TOKEN_SHA256=digests).refused(2, "GENWRIGHT_TOKEN_SHA256", "64")


def test_a_damaged_bundle_is_not_served(cli: "Command", home: Path) -> None:
    (graph,) = (home / "store" / "bundles").glob("*/model.onnx")
    graph.write_bytes(graph.read_bytes()[:-10])
    said = cli("serve", "digits", "--port", "0", GENWRIGHT_HOME=home)
    said.refused(1, "model.onnx")


def test_ctrl_c_ends_a_server_quietly(first: "First", home: Path) -> None:
    command = [sys.executable, "-m", "flows", "serve", "digits", "--port", "0"]
    environment = first.road.variables(GENWRIGHT_HOME=str(home), PYTHONPATH=str(REPO))
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        assert "serving digits v1" in server.stderr.readline()
        assert server.stderr.readline().startswith("try: curl")
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
    assert (server.returncode, out, err) == (0, "", "")


def test_ctrl_c_while_a_command_works_is_one_line(tmp_path: Path) -> None:
    """The command waits for a named pipe as its policy tables.

    A shell turns Ctrl-C off in its background, where these tests may run: so it is turned on first.
    """
    os.mkfifo(tmp_path / "policy.yaml")
    (tmp_path / "brief.yaml").write_text(PLANNED)
    environment = os.environ | {"GENWRIGHT_POLICY": str(tmp_path / "policy.yaml")}
    listens = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from flows.cli.app import main; main()"
    )
    command = [sys.executable, "-c", listens, "plan", str(tmp_path / "brief.yaml")]
    with (
        subprocess.Popen(
            command, cwd=REPO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as running,
        (tmp_path / "policy.yaml").open("w"),  # returns when the command has opened it
    ):
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert err == "genwright: interrupted: SIGINT; run the same command again to go on\n"
