"""The state of a training that another machine goes on with."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from components.core.errors import Conflict, RunError, StorageError
from components.core.files import write_whole
from components.delivery.local import LocalStore
from components.pipeline.saved_training import SavedTrainings, remove_if_damaged
from components.training.checkpoint import save_checkpoint
from components.training.folder import weights_path
from components.training.kept import Kept
from components.training.state import load_state, save_state

PREFIX = "runs/digits/k/state"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def saves(store: LocalStore) -> SavedTrainings:
    return claimed(store)


def claimed(store: LocalStore, token: int = 1) -> SavedTrainings:
    """As the holder of a lease with this token begins."""
    saves = SavedTrainings(store, PREFIX, token=token)
    saves.claim()
    return saves


def train(folder: Path, step: int) -> None:
    """What a training has in its folder when it saved at this step; the weights of step 2 stay the best."""
    best = folder / "best" / f"{min(step, 2):016d}"
    best.mkdir(parents=True, exist_ok=True)
    write_whole(best / "weights.safetensors", b"weights")  # never into a file, as a trainer
    write_whole(folder / "best" / "checkpoint.json", json.dumps({"step": min(step, 2)}).encode())
    write_whole(folder / "work.json", b"{}")
    save_state(folder / "state.safetensors", {"model": {"w": torch.full((3,), float(step))}, "run": {"step": step}})


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def step_of(folder: Path) -> int:
    state = load_state(folder / "state.safetensors")
    assert state is not None
    return int(state["run"]["step"])


def test_another_machine_goes_on_with_the_last_save(saves: SavedTrainings, tmp_path: Path) -> None:
    one, two = tmp_path / "one" / "train", tmp_path / "two" / "train"
    one.mkdir(parents=True)
    two.parent.mkdir()
    with saves.uploading(one) as saved:
        for step in (1, 2, 3):
            train(one, step)
            saved()
    saves.restore(two)
    assert step_of(two) == 3
    kept = {path.relative_to(two).as_posix() for path in two.rglob("*") if path.is_file()}
    assert {"state.safetensors", "work.json", "best/checkpoint.json", "best/0000000000000002/weights.safetensors"} <= kept
    assert [path.name for path in two.parent.iterdir()] == ["train"]
    assert not list(one.glob(".saving-*"))


def test_a_later_save_replaces_the_one_before_and_the_end_removes_all(
    saves: SavedTrainings, store: LocalStore, tmp_path: Path
) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    for step in (1, 2, 3, 4):
        with saves.uploading(folder) as saved:
            train(folder, step)
            saved()
    assert len([key for key in store.list(PREFIX) if key.endswith("state.safetensors")]) == 1
    saves.clear()
    assert store.list("runs/") == []


@pytest.mark.parametrize("what", ["ahead", "finished"])
def test_a_machine_that_is_ahead_keeps_what_it_has(saves: SavedTrainings, tmp_path: Path, what: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    with saves.uploading(one) as saved:
        train(one, 5)
        saved()
    train(two, 7 if what == "ahead" else 3)
    if what == "finished":
        (two / "finished.json").write_text("{}")
    saves.restore(two)
    assert step_of(two) == (7 if what == "ahead" else 3)


def test_nothing_is_restored_where_nothing_was_saved(saves: SavedTrainings, tmp_path: Path) -> None:
    saves.restore(tmp_path / "train")
    assert not (tmp_path / "train").exists()


def test_what_is_damaged_is_refused_in_one_line(saves: SavedTrainings, store: LocalStore, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    with saves.uploading(folder) as saved:
        train(folder, 1)
        saved()
    (key,) = [key for key in store.list(PREFIX) if key.endswith("work.json")]
    store.delete(key)
    store.put_if_absent(key, b"[]")
    with pytest.raises(StorageError, match=r"work.json: damaged; remove .* to train from the start"):
        saves.restore(tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_a_holder_that_was_passed_over_changes_nothing(store: LocalStore, saves: SavedTrainings, tmp_path: Path) -> None:
    """It had a later step, from before it was passed over, than the one who goes on with it has."""
    one, two = tmp_path / "one" / "train", tmp_path / "two" / "train"
    for folder in (one, two):
        folder.mkdir(parents=True)
    train(one, 3)
    saves.save(one)
    later = claimed(store, token=2)
    later.restore(two)
    train(two, 4)
    later.save(two)
    named = {key: store.get(key) for key in store.list(PREFIX)}
    train(one, 9)
    refused = r"another production took this training over, or has ended it; run the command again"
    for use in (lambda: saves.save(one), saves.claim):
        with pytest.raises(RunError, match=refused):
            use()
    saves.clear()
    assert {key: store.get(key) for key in store.list(PREFIX)} == named
    later.clear()
    with pytest.raises(RunError, match=refused):  # what has ended does not come back
        saves.save(one)
    assert store.get(saves.name) is None


def test_a_save_that_is_overtaken_while_it_is_uploaded_names_and_removes_nothing(
    store: LocalStore, saves: SavedTrainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "one"
    train(folder, 1)
    saves.save(folder)
    put = LocalStore.put_if_absent

    def slow(self: LocalStore, key: str, data: bytes | Path, *, final: bool = False) -> bool:
        claimed(LocalStore(store.root), token=2)
        return put(self, key, data, final=final)

    monkeypatch.setattr(LocalStore, "put_if_absent", slow)
    train(folder, 2)
    with pytest.raises(Conflict):
        saves.save(folder)
    claimed(store, token=2).restore(tmp_path / "two")
    assert step_of(tmp_path / "two") == 1


def test_the_same_holder_never_goes_back(saves: SavedTrainings, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    train(folder, 5)
    saves.save(folder)
    train(folder, 4)
    with pytest.raises(RunError, match="at step 5 already, and this is step 4"):
        saves.save(folder)


def test_a_save_of_before_tokens_were_written_is_gone_on_with(store: LocalStore, saves: SavedTrainings, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    train(folder, 5)
    saves.save(folder)
    data, tag = store.get(saves.name) or (b"", "")
    older = {name: value for name, value in json.loads(data).items() if name != "token"}
    store.swap(saves.name, json.dumps(older).encode(), expected=tag)
    claimed(store).restore(tmp_path / "two")
    assert step_of(tmp_path / "two") == 5


class Stuck(LocalStore):
    """A store that is asked to take a file, and does not come to an end."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked = threading.Event()

    def put_if_absent(self, key: str, data: bytes | Path, *, final: bool = False) -> bool:
        self.asked.set()
        time.sleep(60)
        return False


def test_the_end_of_a_training_waits_for_no_upload(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    store = Stuck(tmp_path / "store")
    claimed(store)
    with SavedTrainings(store, PREFIX, token=1).uploading(folder) as saved:
        train(folder, 1)
        saved()
        assert store.asked.wait(30)
        (folder / "finished.json").write_text("{}")
        began = time.monotonic()
    assert time.monotonic() - began < 1


def test_a_finished_training_whose_weights_were_damaged_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    record = {"family": "vae", "variant": "gaussian", "config": {}, "spec": {"channels": 1, "height": 8, "width": 8}}
    record |= {"dataset_md5": "0" * 32, "run_id": "r", "step": 1, "steps_total": 1, "train_s": 1.0, "quality": 1.0}
    checkpoint = save_checkpoint(folder / "best", Kept({"w": torch.ones(3)}), record | {"stopped_by": "items_seen"})
    remove_if_damaged(folder)  # not finished
    checkpoint.write(folder / "finished.json")
    remove_if_damaged(folder)
    path = weights_path(folder / "best", checkpoint.weights)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    remove_if_damaged(folder)
    assert not folder.exists()


def test_a_store_that_fails_costs_the_save_and_not_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "train"
    folder.mkdir()
    with SavedTrainings(LocalStore(tmp_path / "file" / "store"), PREFIX, token=1).uploading(folder) as saved:
        train(folder, 1)
        saved()
        until(lambda: not list(folder.glob(".saving-*")))
    assert step_of(folder) == 1


def test_a_removal_that_is_cut_short_names_nothing_that_is_gone(
    saves: SavedTrainings, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    with saves.uploading(folder) as saved:
        train(folder, 1)
        saved()
    removed = []

    def once(key: str) -> None:
        if removed:
            raise StorageError("the disk is gone")
        removed.append(key)
        LocalStore.delete(store, key)

    monkeypatch.setattr(store, "delete", once)
    saves.clear()
    assert removed == [f"{PREFIX}/saved.json"]
    saves.restore(tmp_path / "two")
    assert not (tmp_path / "two").exists()
