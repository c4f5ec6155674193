"""Files are whole or not there, whatever happens to the process or the disk."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.errors import SettingsError, StorageError
from components.core.files import CHUNK_BYTES, link_or_copy, sha256_of, write_whole, writing


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    with writing(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail() -> None:
        with writing(path) as file:
            file.write(b"half")
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_killed_while_writing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    script = (
        "import os, pathlib, signal, sys\n"
        "from components.core.files import writing\n"
        "with writing(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'half' * 100_000)\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    assert done.returncode == -9
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [left.name for left in tmp_path.iterdir() if not left.name.startswith(".")] == ["file"]


@pytest.mark.parametrize("links", [True, False])
def test_another_name_takes_the_place_of_what_had_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refuses(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    if not links:
        monkeypatch.setattr(os, "link", refuses)
    one, two, other = tmp_path / "one", tmp_path / "deep" / "two", tmp_path / "other"
    write_whole(one, b"new")
    write_whole(two, b"old")
    two.replace(other)
    write_whole(two, b"old")
    for _ in range(2):  # the second time it is that file already
        link_or_copy(one, two)
        assert (two.read_bytes(), two.samefile(one)) == (b"new", links)
    assert [path.name for path in two.parent.iterdir()] == ["two"]
    write_whole(two, b"newer")  # by a rename, so what shared the file keeps it
    assert (one.read_bytes(), other.read_bytes()) == (b"new", b"old")


def test_another_name_where_the_disk_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="File exists"):
        link_or_copy(tmp_path / "file", tmp_path / "file" / "below")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_leaves_the_old_file(small_disk: Path) -> None:
    write_whole(small_disk / "file", b"old")
    with pytest.raises(StorageError, match="file: the disk is full; free some space and run the same command again"):
        write_whole(small_disk / "file", b"x" * 200_000)
    assert (small_disk / "file").read_bytes() == b"old"
    assert list(small_disk.iterdir()) == [small_disk / "file"]


def test_a_read_only_disk_is_named(small_disk: Path) -> None:
    write_whole(small_disk / "file", b"old")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(SettingsError, match="file: not writable; give it write permission or set GENWRIGHT_HOME"):
        write_whole(small_disk / "file", b"new")
    assert (small_disk / "file").read_bytes() == b"old"


def test_a_limit_on_file_sizes_leaves_nothing(tmp_path: Path) -> None:
    """Works without the right to mount: the system refuses in the middle of a write."""
    script = (
        "import pathlib, resource, sys\n"
        "from components.core.errors import StorageError\n"
        "from components.core.files import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_whole(pathlib.Path(sys.argv[1]), b'x' * 100_000)\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{tmp_path / 'file'}: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_hold_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"file/below: (File exists|Not a directory)"):
        write_whole(tmp_path / "file" / "below", b"x")
    with pytest.raises((StorageError, SettingsError), match="/proc/genwright/file"):
        write_whole(Path("/proc/genwright/file"), b"x")


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_the_digest_is_that_of_the_whole_file(tmp_path: Path, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    write_whole(tmp_path / "file", data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "shared", b"a")
    write_whole(tmp_path / "own", b"a", private=True)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("shared", "own")] == [0o644, 0o600]
