"""What only S3 can do wrong: credentials, buckets, addresses, and uploads in parts. Asked of a real SeaweedFS."""

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import StorageError
from components.delivery.s3 import S3Store
from components.delivery.s3_errors import WHAT_TO_DO
from components.delivery.store import open_store

OPERATIONS = {
    "put": lambda store, folder: store.put_if_absent("a", b"1"),
    "get": lambda store, folder: store.get("a"),
    "swap": lambda store, folder: store.swap("a", b"1", expected=None),
    "fetch": lambda store, folder: store.fetch("a", folder / "out"),
    "list": lambda store, folder: store.list(""),
}


def complaints(store: Any, folder: Path) -> set[str]:
    """What each operation says; all of them must refuse, on one line."""
    found = set()
    for operation in OPERATIONS.values():
        with pytest.raises(StorageError) as caught:
            operation(store, folder)
        found.add(str(caught.value))
    assert not list(folder.glob("out*"))
    assert all("\n" not in line for line in found)
    return found


def test_a_wrong_secret(weed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    lines = complaints(open_store(f"s3://{weed.bucket}", s3_endpoint=weed.endpoint), tmp_path)
    # A HEAD has no body, so it can only say 403.
    assert lines == {
        f"s3://{weed.bucket} at {weed.endpoint}: {what}; {do}"
        for what, do in (WHAT_TO_DO["SignatureDoesNotMatch"], WHAT_TO_DO["403"])
    }


def test_an_unknown_key(weed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    lines = complaints(open_store(f"s3://{weed.bucket}", s3_endpoint=weed.endpoint), tmp_path)
    assert any("the access key is unknown there" in line for line in lines)


def test_no_credentials(weed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (line,) = complaints(open_store(f"s3://{weed.bucket}", s3_endpoint=weed.endpoint), tmp_path)
    assert "no credentials; set AWS_ACCESS_KEY_ID" in line


def test_a_missing_bucket(weed: Any, tmp_path: Path) -> None:
    lines = complaints(open_store("s3://no-such-bucket/x", s3_endpoint=weed.endpoint), tmp_path)
    assert any("s3://no-such-bucket/x" in line and "no such bucket" in line for line in lines), lines


def test_an_unreachable_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.delivery.s3.ATTEMPTS", 1)
    (line,) = complaints(open_store("s3://bucket", s3_endpoint="http://127.0.0.1:9"), tmp_path)
    assert line == "s3://bucket at http://127.0.0.1:9: cannot be reached; check the endpoint's address and that the server runs"


STALLED = """
import sys, time
from pathlib import Path
from components.delivery.store import open_store
store = open_store(sys.argv[1], s3_endpoint=sys.argv[2])

def stall(**_):
    print("all parts are sent", flush=True)
    time.sleep(600)

store.client.meta.events.register("before-call.s3.CompleteMultipartUpload", stall)
store.put_if_absent("big", Path(sys.argv[3]))
"""


UPLOADING = """
import sys, threading, time
from pathlib import Path
from components.delivery.store import open_store
store = open_store(sys.argv[1], s3_endpoint=sys.argv[2])
under_way = threading.Event()

def stall(**_):
    under_way.set()
    time.sleep(600)

store.client.meta.events.register("before-call.s3.UploadPart", stall)
threading.Thread(target=store.put_if_absent, args=("big", Path(sys.argv[3])), daemon=True).start()
under_way.wait(60)
"""


@pytest.fixture
def corner(weed: Any, request: pytest.FixtureRequest) -> S3Store:
    return S3Store(weed.bucket, request.node.name, endpoint=weed.endpoint)


def test_kill_9_between_the_parts_and_their_completion(corner: S3Store, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * (17 << 20))
    command = [sys.executable, "-c", STALLED, corner.uri, corner.endpoint or "", str(tmp_path / "big")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "all parts are sent\n"
        process.kill()
    assert corner.get("big") is None
    assert corner.list("") == []
    assert corner.put_if_absent("big", tmp_path / "big")
    assert corner.list("") == ["big"]


def test_a_process_ends_without_an_upload_that_nobody_waits_for(corner: S3Store, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * (17 << 20))
    command = [sys.executable, "-c", UPLOADING, corner.uri, corner.endpoint or "", str(tmp_path / "big")]
    ended = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert corner.list("") == []


def test_a_lost_race_of_large_files_leaves_no_parts(corner: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "big").write_bytes(b"x" * (9 << 20))
    corner.put_if_absent("big", b"the winner")
    monkeypatch.setattr(S3Store, "_exists", lambda *_: False)  # as if the winner came between the look and the upload
    assert not corner.put_if_absent("big", tmp_path / "big")
    found = corner.get("big")
    assert found is not None
    assert found[0] == b"the winner"
    uploads = corner.client.list_multipart_uploads(Bucket=corner.bucket, Prefix=corner.prefix).get("Uploads", [])
    assert uploads == []


def test_parts_after_one_that_failed_are_not_sent(corner: S3Store, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(200 << 20)
    sent: list[int] = []

    def fail(params: Any, **_: Any) -> None:
        sent.append(1)
        raise OSError(5, "Input/output error")

    corner.client.meta.events.register("before-call.s3.UploadPart", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        corner.put_if_absent("big", tmp_path / "big")
    assert len(sent) < 25
    assert corner.list("") == []
    assert corner.client.list_multipart_uploads(Bucket=corner.bucket, Prefix=corner.prefix).get("Uploads", []) == []


def test_a_file_that_vanishes_during_its_upload(corner: S3Store, tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"x" * (9 << 20))
    corner.client.meta.events.register("before-call.s3.UploadPart", lambda **_: time.sleep(0.01))
    corner.client.meta.events.register("before-call.s3.CreateMultipartUpload", lambda **_: path.unlink())
    with pytest.raises(StorageError, match="big: No such file"):
        corner.put_if_absent("big", path)
    assert corner.list("") == []


def test_a_swap_whose_first_answer_was_lost_is_not_a_conflict(corner: S3Store) -> None:
    tag = corner.swap("state", b"1", expected=None)
    lost: list[int] = []

    def lose_one(response: Any, **_: Any) -> int | None:
        # botocore asks this after each answer: pretend once that the answer to a write that took effect never came.
        if response is not None and not lost:
            lost.append(response[0].status_code)
            return 0
        return None

    corner.client.meta.events.register_first("needs-retry.s3.PutObject", lose_one)
    new = corner.swap("state", b"2", expected=tag)
    assert lost == [200]
    assert corner.get("state") == (b"2", new)


CONFLICT = b"<Error><Code>ConditionalRequestConflict</Code><Message>Conflicting operations</Message></Error>"


@pytest.mark.parametrize(("answers", "succeeds"), [(3, True), (4, False)])
def test_a_409_is_asked_again_but_not_for_ever(
    corner: S3Store, monkeypatch: pytest.MonkeyPatch, answers: int, succeeds: bool
) -> None:
    # SeaweedFS decides every write, Amazon's S3 does not: the answer it documents is put in the way of the real one.
    from botocore.awsrequest import AWSResponse

    class Body(io.BytesIO):
        def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
            yield self.read()

    def undecided(request: Any, **_: Any) -> AWSResponse | None:
        met.append(request.url)
        return AWSResponse(request.url, 409, {"Content-Type": "application/xml"}, Body(CONFLICT)) if len(met) <= answers else None

    met: list[str] = []
    monkeypatch.setattr("components.delivery.s3.time.sleep", lambda _: None)
    corner.client.meta.events.register("before-send.s3.PutObject", undecided)
    if succeeds:
        assert corner.put_if_absent("a", b"1")
        assert len(met) == answers + 1
    else:
        with pytest.raises(StorageError, match="ConditionalRequestConflict: Conflicting operations"):
            corner.put_if_absent("a", b"1")


def test_boto3_is_imported_only_when_s3_is_spoken_to() -> None:
    code = "import sys\nfrom components.delivery.store import open_store\n"
    code += "open_store('s3://bucket')\nsys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
