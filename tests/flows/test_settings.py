"""Settings come from GENWRIGHT_* variables, are checked where they are read, and name the variable that is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.errors import SettingsError
from components.pipeline.backends import Backends
from components.runtime.devices import device_for
from flows.settings import Settings

REPO = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("GENWRIGHT_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("USD_PER_GPU_HOUR", "abc", "'abc'"),
        ("USD_PER_GPU_HOUR", "0", "greater than 0"),
        ("USD_PER_GPU_HOUR", "-1", "greater than 0"),
        ("DEBUG", "maybe", "boolean"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(f"GENWRIGHT_{name}", value)
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    line = str(refused.value)
    assert line.startswith(f"GENWRIGHT_{name}: ")
    assert said in line
    assert "\n" not in line
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("field", Settings.model_fields)
def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    monkeypatch.setenv(f"GENWRIGHT_{field.upper()}", "")
    assert Settings.load() == Settings()
    assert getattr(Settings.load(), field) == Settings.model_fields[field].default


def test_every_place_lies_below_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GENWRIGHT_HOME", str(tmp_path / "home"))
    settings = Settings.load()
    assert settings.root == tmp_path / "home"
    assert settings.store_uri == str(tmp_path / "home" / "store")
    assert settings.mlflow_uri == f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}"
    assert settings.artifact_root == tmp_path / "home" / "mlartifacts"
    assert Settings(home=tmp_path, tracking_uri="https://mlflow.example").artifact_root is None
    assert (
        Backends(settings).home.work("digits", "seal", "0123456789abcdef" * 4)
        == tmp_path / "home/work/digits/seal-0123456789abcdef"
    )


def test_a_home_is_expanded_and_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GENWRIGHT_HOME", "~/models")
    assert Settings.load().root == tmp_path / "models"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENWRIGHT_HOME", "here")
    assert Settings.load().root == tmp_path / "here"


def test_reading_the_settings_makes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GENWRIGHT_HOME", str(tmp_path / "home"))
    Settings.load()
    assert [*tmp_path.iterdir()] == []


def test_what_is_set_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENWRIGHT_STORE", "s3://bucket/models")
    monkeypatch.setenv("GENWRIGHT_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("GENWRIGHT_ACTOR", "ada")
    settings = Settings.load()
    assert (settings.store_uri, settings.mlflow_uri, settings.who) == ("s3://bucket/models", "http://mlflow:5000", "ada")


def test_someone_acts_even_without_a_login_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert Settings.load().who == f"uid {os.getuid()}"


def test_a_home_of_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENWRIGHT_HOME", "~no-such-user/models")
    with pytest.raises(SettingsError, match="GENWRIGHT_HOME: ~no-such-user/models: no such user"):
        _ = Settings.load().root


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_user_without_name_or_home_is_served(tmp_path: Path) -> None:
    """As in a container that is run under a number: no entry in /etc/passwd, and no HOME."""
    code = (
        "import getpass, os, pathlib, pwd; from flows.settings import name_user;"  # the interpreter may be root's alone
        "os.setgroups([]); os.setgid(4242); os.setuid(4242);"
        "name_user(); print(getpass.getuser(), pathlib.Path.home())"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPO), "GENWRIGHT_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.stdout == f"uid-4242 {tmp_path / 'home'}\n", done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-9"])
def test_a_terminal_of_any_encoding_gets_its_answer(encoding: str) -> None:
    """The headline has a middle dot, which ASCII lacks."""
    code = "import sys; sys.argv = ['genwright', 'plan', 'briefs/digits.yaml']; from flows.cli.app import main; main()"
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=REPO, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"1,797 image items of 8 px" in done.stdout


def test_a_named_device_is_kept_and_auto_is_resolved_without_torch() -> None:
    assert [device_for("cpu"), device_for("cuda")] == ["cpu", "cuda"]
    code = (
        "import sys; from components.runtime.devices import device_for; d = device_for('auto');"
        "sys.exit(d not in ('cpu', 'cuda') or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=REPO).returncode == 0


def test_nothing_else_reads_genwrights_variables() -> None:
    read = re.compile(r"(environ|getenv)\W.*GENWRIGHT_")
    sources = [path for part in ("components", "flows") for path in (REPO / part).rglob("*.py")]
    assert len(sources) > 50
    found = [path for path in sources if read.search(path.read_text(encoding="utf-8"))]
    assert found == [REPO / "components" / "serving" / "__main__.py"], "a container's entry point, which has no settings"
