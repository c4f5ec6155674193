"""What every object store promises, asked of a folder and of a real S3 server."""

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import Conflict, GenwrightError, StorageError
from components.core.stores import ObjectStore

RACERS = 3
BIG_BYTES = 20 << 20


def let_go(racers: list[subprocess.Popen[str]]) -> list[str]:
    """Start all racers at once, after each has said that it is ready; their last lines."""
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=120)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * len(racers)
    return [answer.strip() for answer in answers]


def test_an_absent_object(store: ObjectStore, tmp_path: Path) -> None:
    assert store.get("a/b.json") is None
    assert store.list("") == []
    with pytest.raises(StorageError, match=r"a/b\.json: no such object"):
        store.fetch("a/b.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_put_once(store: ObjectStore, tmp_path: Path) -> None:
    assert store.put_if_absent("a/b.json", b"first")
    assert not store.put_if_absent("a/b.json", b"second")
    found = store.get("a/b.json")
    assert found is not None
    assert found[0] == b"first"
    store.fetch("a/b.json", tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out").read_bytes() == b"first"


def test_an_empty_object(store: ObjectStore, tmp_path: Path) -> None:
    assert store.put_if_absent("empty", b"")
    store.fetch("empty", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b""


def test_a_large_file_in_parts(store: ObjectStore, tmp_path: Path) -> None:
    data = random.Random(7).randbytes(BIG_BYTES + 12_345)
    (tmp_path / "big").write_bytes(data)
    assert store.put_if_absent("big/model.onnx", tmp_path / "big")
    (tmp_path / "other").write_bytes(data[::-1])
    assert not store.put_if_absent("big/model.onnx", tmp_path / "other")
    store.fetch("big/model.onnx", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_a_file_that_is_missing(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nothing-here"):
        store.put_if_absent("a", tmp_path / "nothing-here")
    assert store.list("") == []


def test_swap(store: ObjectStore) -> None:
    first = store.swap("channels/m.json", b"1", expected=None)
    with pytest.raises(Conflict, match="another writer was first"):
        store.swap("channels/m.json", b"x", expected=None)
    second = store.swap("channels/m.json", b"2", expected=first)
    with pytest.raises(Conflict):
        store.swap("channels/m.json", b"x", expected=first)
    assert store.get("channels/m.json") == (b"2", second)
    with pytest.raises(Conflict):
        store.swap("channels/absent.json", b"x", expected=first)
    assert store.get("channels/absent.json") is None


def test_put_and_swap_share_the_key(store: ObjectStore) -> None:
    tag = store.swap("k", b"1", expected=None)
    assert not store.put_if_absent("k", b"2")
    assert store.get("k") == (b"1", tag)
    store.put_if_absent("j", b"1")
    with pytest.raises(Conflict):
        store.swap("j", b"2", expected=None)


def test_list(store: ObjectStore) -> None:
    keys = ["a/1", "a/10", "a/2/x", "ab", "b/1"]
    for key in reversed(keys):
        store.put_if_absent(key, key.encode())
    assert store.list("") == keys
    assert store.list("a") == ["a/1", "a/10", "a/2/x", "ab"]
    assert store.list("a/") == ["a/1", "a/10", "a/2/x"]
    assert store.list("a/1") == ["a/1", "a/10"]
    assert store.list("c/") == []


BAD_KEYS = ["", "/etc/passwd", "a/../b", "..", ".hidden", "a//b", "a/", "a b", "-x", "ä", "a\\b", "a\n", "a/" * 400 + "a"]
ASKING: dict[str, Callable[[ObjectStore, str, Path], Any]] = {
    "put": lambda store, key, _: store.put_if_absent(key, b"x"),
    "get": lambda store, key, _: store.get(key),
    "swap": lambda store, key, _: store.swap(key, b"x", expected=None),
    "fetch": lambda store, key, to: store.fetch(key, to / "out"),
}


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
def test_keys_are_portable(store: ObjectStore, ask: Callable[[ObjectStore, str, Path], Any], tmp_path: Path) -> None:
    for key in BAD_KEYS:
        with pytest.raises(StorageError, match=r"^key ") as caught:
            ask(store, key, tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(StorageError, match=r"^key "):
        store.list("../")
    assert store.list("") == []


PUT = """
store.list("")
print("ready", flush=True)
sys.stdin.readline()
print(*[int(store.put_if_absent(f"race/{n}", sys.argv[3].encode() * 1000)) for n in range(6)])
"""


def test_one_process_wins_each_put(place: Any) -> None:
    answers = let_go([place.spawn(PUT, str(number)) for number in range(RACERS)])
    wins = [[int(word) for word in answer.split()] for answer in answers]
    for n, each in enumerate(zip(*wins, strict=True)):
        assert sum(each) == 1
        assert place.open().get(f"race/{n}")[0] == str(each.index(1)).encode() * 1000


COUNT = """
from components.core.errors import Conflict
store.list("")
print("ready", flush=True)
sys.stdin.readline()
done = lost = 0
while done < 6:
    found = store.get("count")
    try:
        store.swap("count", str(int(found[0]) + 1 if found else 1).encode(), expected=found and found[1])
        done += 1
    except Conflict:
        lost += 1
print(lost)
"""


def test_no_swap_is_lost(place: Any) -> None:
    let_go([place.spawn(COUNT) for _ in range(RACERS)])
    assert place.open().get("count")[0] == str(6 * RACERS).encode()


ENDLESS = """
import itertools
print("ready", flush=True)
for n in itertools.count():
    store.put_if_absent(f"k/{n}", bytes([n % 256]) * 3_000_000)
    store.swap("state", bytes([n % 256]) * 300_000, expected=(store.get("state") or (b"", None))[1])
    print(n, flush=True)
"""


def test_kill_9_leaves_whole_objects(place: Any, tmp_path: Path) -> None:
    dice = random.Random(3)
    for _ in range(2):
        process = place.spawn(ENDLESS)
        for _ in range(dice.randrange(2, 5)):
            process.stdout.readline()
        time.sleep(dice.random() * 0.03)  # somewhere inside a put or a swap
        process.kill()
        process.communicate()
        store = place.open()
        for key in store.list("k/"):
            store.fetch(key, tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == bytes([int(key[2:]) % 256]) * 3_000_000
        data, tag = store.get("state")
        assert data == data[:1] * 300_000
        store.swap("state", b"after", expected=tag)  # no stale lock
        assert store.get("state")[0] == b"after"


def test_errors_are_ours(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store.put_if_absent("a", b"1")
    with pytest.raises(GenwrightError) as caught:
        store.fetch("a", tmp_path / "file" / "below")
    assert "\n" not in str(caught.value)


def test_what_a_listing_knows(store: ObjectStore) -> None:
    before = time.time()
    store.put_if_absent("a/one", b"1")
    store.put_if_absent("a/two", b"22")
    one, two = store.objects("a/")
    assert (one.key, one.size_bytes, two.key, two.size_bytes) == ("a/one", 1, "a/two", 2)
    assert abs(one.modified_s - before) < 5
    assert store.objects("b/") == []


def test_only_what_is_older_is_removed(store: ObjectStore) -> None:
    store.put_if_absent("a/one", b"1")
    (one,) = store.objects("a/one")
    assert not store.delete_if_older("a/one", one.modified_s), "put at this very time"
    assert store.get("a/one") is not None
    assert store.delete_if_older("a/one", one.modified_s + 1)
    assert store.get("a/one") is None
    assert not store.delete_if_older("a/one", one.modified_s + 1)


def test_what_is_put_again_counts_as_put_now(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.delivery.s3.YOUNG_S", -1.0)  # seconds, so that the test need not wait for a minute
    (tmp_path / "file").write_bytes(b"1")
    for again in (
        lambda: store.put_if_absent("a/one", tmp_path / "file", final=True),
        lambda: store.touch("a/one"),
    ):
        store.put_if_absent("a/one", tmp_path / "file", final=True)
        (before,) = store.objects("a/one")
        time.sleep(1.1)  # S3 tells whole seconds
        assert not again()
        (after,) = store.objects("a/one")
        assert after.modified_s > before.modified_s
        assert store.get("a/one") is not None
    store.touch("a/none")
    assert store.get("a/none") is None
