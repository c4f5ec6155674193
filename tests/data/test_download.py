"""Downloads against a real HTTP server on this machine, which understands ranges and can break off, lie and refuse."""

import gzip
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import DataError, RunError, StorageError
from components.data.archives import Archive, RawFile, raw_files
from components.data.download import obtain

BODY = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()


class Mirror(ThreadingHTTPServer):
    """Serves `files`; breaks the next replies off after `breaks` bytes; without `ranges` it always starts over."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.breaks: list[int] = []
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("range")
        self.server.asked.append((self.path, asked))
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.server.ranges else 0
        if start >= len(body):
            self.send_response(416)
            self.send_header("content-range", f"bytes */{len(body)}")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("content-range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("content-length", str(len(body) - start))
        self.end_headers()
        stop = self.server.breaks.pop(0) if self.server.breaks else len(body)
        self.wfile.write(body[start : start + stop])


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def accepts(body: bytes, kept: list[bytes]):
    def use(path: Path) -> None:
        if path.read_bytes() != body:
            raise DataError(f"{path.name}: wrong digest")
        kept.append(path.read_bytes())

    return use


def get(urls: list[str], folder: Path, body: bytes = BODY) -> bytes:
    kept: list[bytes] = []
    obtain(urls, folder / "file.gz", accepts(body, kept), progress=False, pause_s=0)
    assert list(folder.iterdir()) == [], "the partial file goes when it was used"
    return kept[0]


def test_a_broken_connection_is_continued_where_it_broke(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["/f"] = BODY
    mirror.breaks = [100_000, 50_000]
    assert get([f"{mirror.url}/f"], tmp_path) == BODY
    assert mirror.asked == [("/f", None), ("/f", "bytes=100000-"), ("/f", "bytes=150000-")]


def test_a_later_run_continues_what_an_earlier_one_left(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["/f"] = BODY
    mirror.breaks = [1000] + [0] * 4
    with pytest.raises(RunError, match="goes on where it stopped") as caught:
        get([f"{mirror.url}/f"], tmp_path)
    assert "\n" not in str(caught.value)
    (part,) = tmp_path.iterdir()
    assert part.name.endswith(".part")
    assert part.read_bytes() == BODY[:1000]
    mirror.asked.clear()
    assert get([f"{mirror.url}/f"], tmp_path) == BODY
    assert mirror.asked == [("/f", "bytes=1000-")]


def test_a_part_that_is_already_whole_is_not_fetched_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["/f"] = BODY
    mirror.breaks = [1000] + [0] * 4
    with pytest.raises(RunError):
        get([f"{mirror.url}/f"], tmp_path)
    (part,) = tmp_path.iterdir()
    part.write_bytes(BODY)
    assert get([f"{mirror.url}/f"], tmp_path) == BODY
    part.write_bytes(BODY + b"x")  # longer than the file: worthless
    assert get([f"{mirror.url}/f"], tmp_path) == BODY


def test_a_server_without_ranges_starts_over(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["/f"] = BODY
    mirror.ranges = False
    mirror.breaks = [100_000]
    assert get([f"{mirror.url}/f"], tmp_path) == BODY


def test_leftovers_of_another_file_are_thrown_away_once(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["/f"] = BODY[::-1]
    mirror.breaks = [1000] + [0] * 4
    with pytest.raises(RunError):
        get([f"{mirror.url}/f"], tmp_path)
    mirror.files["/f"] = BODY
    assert get([f"{mirror.url}/f"], tmp_path) == BODY
    assert [asked for _, asked in mirror.asked[-2:]] == ["bytes=1000-", None]


def test_wrong_bytes_are_refused_and_leave_nothing(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["/f"] = b"wrong"
    with pytest.raises(DataError, match="wrong digest"):
        get([f"{mirror.url}/f"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_mirrors_are_asked_in_order(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files |= {"/wrong": b"wrong", "/right": BODY, "/never": BODY}
    dead = "http://127.0.0.1:9/f"
    assert (
        get([dead, f"{mirror.url}/none", f"{mirror.url}/wrong", f"{mirror.url}/right", f"{mirror.url}/never"], tmp_path) == BODY
    )
    assert [path for path, _ in mirror.asked] == ["/none", "/wrong", "/right"]


def test_when_no_mirror_helps_the_line_names_each(mirror: Mirror, tmp_path: Path) -> None:
    dead = "http://127.0.0.1:9/f"
    with pytest.raises(RunError) as caught:
        get([dead, f"{mirror.url}/none"], tmp_path)
    for part in (dead, f"{mirror.url}/none: HTTP 404", "GENWRIGHT_DATA_MIRROR"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    mirror.files["/wrong"] = b"wrong"
    with pytest.raises(DataError):  # wrong bytes are the user's or the mirror's fault, and no matter of luck
        get([dead, f"{mirror.url}/wrong"], tmp_path)


def archive_of(packed: bytes, raw: bytes, name: str = "raw.bin") -> tuple[Archive, RawFile]:
    file = RawFile(name, hashlib.md5(raw).hexdigest(), len(raw))
    return Archive(f"set/{name}.gz", (), (file,)), file


def test_any_packing_of_the_right_bytes_is_accepted(mirror: Mirror, tmp_path: Path) -> None:
    archive, raw = archive_of(b"", BODY)
    for level in (1, 9):  # two mirrors whose gzip files differ
        mirror.files["/set/raw.bin.gz"] = gzip.compress(BODY, level, mtime=level)
        files = raw_files("set", (archive,), cache=tmp_path / str(level), mirror=mirror.url, pause_s=0)
        assert files[raw.name].read_bytes() == BODY
    asked = len(mirror.asked)
    raw_files("set", (archive,), cache=tmp_path / "1", mirror=mirror.url, pause_s=0)
    assert len(mirror.asked) == asked, "what is in the cache is not asked for again"


@pytest.mark.parametrize("as_folder", [True, False])
def test_the_mirrors_own_sums_are_checked(mirror: Mirror, tmp_path: Path, as_folder: bool) -> None:
    archive, raw = archive_of(b"", BODY)
    packed = gzip.compress(BODY)
    sums = f"{hashlib.sha256(packed).hexdigest()}  {archive.path}\n"

    def lay(body: bytes, listing: str) -> str:
        mirror.files |= {f"/{archive.path}": body, "/SHA256SUMS": listing.encode()}
        (tmp_path / "m" / "set").mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / archive.path).write_bytes(body)
        (tmp_path / "m" / "SHA256SUMS").write_text(listing)
        return str(tmp_path / "m") if as_folder else mirror.url

    with pytest.raises(DataError, match="SHA256SUMS"):
        raw_files("set", (archive,), cache=tmp_path / "c", mirror=lay(packed, sums.replace(sums[:8], "00000000")), pause_s=0)
    assert raw_files("set", (archive,), cache=tmp_path / "c", mirror=lay(packed, sums), pause_s=0)[raw.name].read_bytes() == BODY


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        (gzip.compress(BODY[::-1]), "published MD5"),
        (gzip.compress(BODY)[:-5000], "damaged archive"),
        (b"<html>not found</html>", "damaged archive"),
        (gzip.compress(bytes(50_000_000)), "published MD5"),  # a bomb: it is unpacked no further than the size it may have
    ],
    ids=["other bytes", "cut off", "html", "bomb"],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, packed: bytes, text: str) -> None:
    archive, raw = archive_of(packed, BODY)
    (tmp_path / "m" / "set").mkdir(parents=True)
    (tmp_path / "m" / archive.path).write_bytes(packed)
    with pytest.raises(DataError, match=text) as caught:
        raw_files("set", (archive,), cache=tmp_path / "c", mirror=str(tmp_path / "m"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "c" / "raw" / "set" / raw.name).exists()


def test_a_missing_file_and_a_missing_mirror(tmp_path: Path) -> None:
    archive, _ = archive_of(b"", BODY)
    with pytest.raises(DataError, match="no such file"):
        raw_files("set", (archive,), cache=tmp_path / "c", mirror=str(tmp_path / "none"))
    with pytest.raises(DataError, match="GENWRIGHT_DATA_MIRROR"):
        raw_files("set", (archive,), cache=tmp_path / "c")


def test_a_damaged_cache_is_repaired(tmp_path: Path) -> None:
    archive, raw = archive_of(b"", BODY)
    (tmp_path / "m" / "set").mkdir(parents=True)
    (tmp_path / "m" / archive.path).write_bytes(gzip.compress(BODY))
    path = raw_files("set", (archive,), cache=tmp_path / "c", mirror=str(tmp_path / "m"))[raw.name]
    path.write_bytes(BODY[::-1])
    assert raw_files("set", (archive,), cache=tmp_path / "c", mirror=str(tmp_path / "m"))[raw.name].read_bytes() == BODY


def test_a_cache_that_cannot_be_a_folder(tmp_path: Path) -> None:
    archive, _ = archive_of(b"", BODY)
    (tmp_path / "c").write_text("a file")
    with pytest.raises(StorageError, match=r"Not a directory|File exists"):
        raw_files("set", (archive,), cache=tmp_path / "c")
