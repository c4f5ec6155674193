"""Models of a hub, by its own client, from a server that speaks as the hub does; a mirror; and what is said without one."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from components.core.errors import DataError
from components.training.foreign.hub import id_of, place_of
from components.training.foreign.place import Place

REPO = Path(__file__).parents[2]
COMMIT, OLDER = "1" * 40, "2" * 40
REFS = {"main": COMMIT, "v1": OLDER, COMMIT: COMMIT, OLDER: OLDER}
FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "model_index.json": b"{}",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"weights",
    "unet/diffusion_pytorch_model.bin": b"a pickle",
    "sample.png": b"a picture",
}


class Hub(BaseHTTPRequestHandler):
    """The three addresses that huggingface_hub asks for: what a revision is, what it holds, and each file."""

    asked: list[str]

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/org/base/revision/"):
            return self._of_revision(path.rpartition("/")[2])
        if path.startswith("/api/models/org/base/tree/"):
            rows = [{"type": "file", "path": name, "size": len(data), "oid": name} for name, data in FILES.items()]
            return self._json(200, rows)
        if path.startswith("/org/base/resolve/"):
            return self._file(*path.removeprefix("/org/base/resolve/").split("/", 1))
        return self._json(404 if self.headers.get("Authorization") else 401, {}, code="RepoNotFound")

    do_HEAD = do_GET

    def _of_revision(self, revision: str) -> None:
        if revision not in REFS:
            return self._json(404, {}, code="RevisionNotFound")
        siblings = [{"rfilename": name} for name in FILES]
        return self._json(200, {"id": "org/base", "sha": REFS[revision], "siblings": siblings})

    def _file(self, commit: str, name: str) -> None:
        self.asked.append(name)
        self.send_response(200)
        told = {"ETag": f'"{name.replace("/", "-")}"', "X-Repo-Commit": commit, "Content-Length": len(FILES[name])}
        for header, value in told.items():
            self.send_header(header, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(FILES[name])

    def _json(self, status: int, document: Any, *, code: str = "") -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


PROGRAM = """
import json, sys
from pathlib import Path
from components.core.errors import DataError
from components.training.foreign.hub import place_of

for model, weights, fetch in json.loads(sys.argv[1]):
    try:
        place = place_of(model, base=Path(), mirror=None, weights=weights, fetch=fetch)
    except DataError as error:
        print(json.dumps([str(error), error.exit_code]))
        continue
    files = place and sorted(path.relative_to(place.folder).as_posix() for path in place.folder.rglob("*") if path.is_file())
    print(json.dumps([place and place.revision, files]))
"""


def ask(folder: Path, endpoint: str, *asked: tuple[str, bool, bool]) -> list[Any]:
    """What a process with this hub gives for each: huggingface_hub reads its variables once."""
    told = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPO), "HF_HOME": str(folder), "HF_ENDPOINT": endpoint}
    command = [sys.executable, "-c", PROGRAM, json.dumps(asked)]
    done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_branch_is_resolved_to_its_commit_and_weights_come_last(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    """Nothing is fetched for a plan; then what is small, then the weights: no pickle, no picture. A second time nothing is."""
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    told = ask(
        tmp_path, endpoint, ("hf:org/base", False, False), ("hf:org/base", False, True), ("hf:org/base@v1", True, True),
        ("hf:org/base@none", True, True), ("hf:org/other", True, True),
    )  # fmt: skip
    nothing, small, whole, revision, unknown = told
    assert nothing == [None, None]
    assert small == [COMMIT, ["README.md", "model_index.json", "unet/config.json"]]
    assert whole == [OLDER, [*small[1], "unet/diffusion_pytorch_model.safetensors"]]
    assert revision[1] == unknown[1] == 2
    assert "no revision none" in revision[0]
    assert "knows no such model" in unknown[0]
    assert "HF_TOKEN" in unknown[0]
    assert not {"unet/diffusion_pytorch_model.bin", "sample.png"} & {*Hub.asked}
    Hub.asked.clear()
    assert ask(tmp_path, endpoint, (f"hf:org/base@{OLDER}", True, True)) == [whole]
    assert Hub.asked == []


def test_a_hub_out_of_reach_is_one_line_and_what_was_fetched_still_serves(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    (known,) = ask(tmp_path, endpoint, ("hf:org/base", True, True))
    hub.shutdown()
    hub.server_close()
    again, other = ask(tmp_path, endpoint, ("hf:org/base", True, True), ("hf:org/other", True, True))
    assert again == known
    assert other[1] == 2
    for words in ("hf:org/other", "cannot be reached", "HF_ENDPOINT", "GENWRIGHT_HUB_MIRROR"):
        assert words in other[0]
    assert "\n" not in other[0]


def test_a_mirror_is_a_folder_of_organisations(tmp_path: Path) -> None:
    (tmp_path / "org" / "base").mkdir(parents=True)

    def place(model: str) -> Place | None:
        return place_of(model, base=Path(), mirror=str(tmp_path), weights=True, fetch=False)

    assert place("hf:org/base") == Place(tmp_path / "org" / "base", None)
    assert place("hf:org/base@v1") == Place(tmp_path / "org" / "base", None, "v1"), "asked for, and nobody could check it"
    with pytest.raises(DataError, match=r"hf:org/other: no org/other in GENWRIGHT_HUB_MIRROR="):
        place("hf:org/other")


def mirrored(model: str, mirror: Path) -> Place | None:
    return place_of(model, base=Path(), mirror=str(mirror), weights=True, fetch=False)


def test_a_mirror_that_knows_no_commit_vouches_for_none(tmp_path: Path) -> None:
    folder = tmp_path / "org" / "base"
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    with pytest.raises(DataError) as error:
        mirrored(f"hf:org/base@{COMMIT}", tmp_path)
    said = str(error.value)
    assert re.search(rf"hf:org/base@{COMMIT}: what is in GENWRIGHT_HUB_MIRROR=.* knows no commit; allowed: a branch or tag", said)
    assert f"`hf download org/base --revision {COMMIT} --local-dir {folder}`" in said
    assert "\n" not in said


def test_what_the_client_wrote_into_a_mirror_knows_its_commit(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    """Until a file is changed: then it is of no commit."""
    folder = tmp_path / "org" / "base"
    fetched(hub, tmp_path, f'local_dir="{folder}", revision="v1"')
    whole = Place(folder, OLDER)
    assert [mirrored(f"hf:org/base{at}", tmp_path) for at in ("", "@main", f"@{OLDER}")] == [whole] * 3
    with pytest.raises(DataError, match=rf"is of commit {OLDER}; allowed: org/base@{OLDER}, or without a revision"):
        mirrored(f"hf:org/base@{COMMIT}", tmp_path)
    config = folder / "unet" / "config.json"
    os.utime(config, (config.stat().st_mtime + 5,) * 2)
    assert mirrored("hf:org/base@main", tmp_path) == Place(folder, None, "main")
    with pytest.raises(DataError, match="knows no commit"):
        mirrored(f"hf:org/base@{OLDER}", tmp_path)


def test_a_mirror_that_is_a_cache_of_the_hub_resolves_as_the_hub_does(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    for revision in ("main", "v1"):
        fetched(hub, tmp_path, f'cache_dir="{tmp_path}", revision="{revision}"')
    snapshots = tmp_path / "models--org--base" / "snapshots"
    for at, commit in {"": COMMIT, "@main": COMMIT, "@v1": OLDER, f"@{OLDER}": OLDER}.items():
        assert mirrored(f"hf:org/base{at}", tmp_path) == Place(snapshots / commit, commit)
    for at in ("other", "3" * 40):
        with pytest.raises(DataError, match=rf"no revision {at} of it in GENWRIGHT_HUB_MIRROR=.*; allowed: main, v1, 111"):
            mirrored(f"hf:org/base@{at}", tmp_path)


def fetched(hub: ThreadingHTTPServer, folder: Path, how: str) -> None:
    """By the hub's client in a process of its own, as it reads the address of the hub once."""
    program = f'from huggingface_hub import snapshot_download; snapshot_download("org/base", {how})'
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    told = {"PATH": "/usr/bin:/bin", "HF_HOME": str(folder / "home"), "HF_ENDPOINT": endpoint}
    subprocess.run([sys.executable, "-c", program], env=told, check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize("model", ["hf:", "hf:name", "hf:a/b/c", "hf:../up", "hf:org/..", "hf:org/name@", "hf:org/na me"])
def test_what_is_no_hub_id_is_refused(model: str) -> None:
    with pytest.raises(DataError, match=r"is no hub id; allowed: hf:ORG/NAME or hf:ORG/NAME@REVISION"):
        id_of(model)
    with pytest.raises(DataError, match="is no hub id"):
        place_of(model, base=Path(), mirror="/", weights=False, fetch=False)
