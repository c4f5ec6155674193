"""What `genwright gc` frees and what it leaves: on a home with one production, beside what nobody needs any more."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.core import store_keys
from components.core.errors import BundleError, InputError, RegistryError
from components.core.records import Release
from components.delivery.bundles import holds_bundle
from components.operations.unused import free, plan, snapshot
from components.operations.unused.age import seconds_of
from components.pipeline import release_commands
from components.pipeline.backends import Backends
from components.pipeline.lease import lease
from components.pipeline.loaded_model import training_of
from flows.settings import Settings

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S


@pytest.fixture
def backends(home: Path) -> Backends:
    """Whose objects were all put a month ago."""
    made = Backends(Settings(home=home))
    age(home / "store")
    return made


def age(folder: Path, days: float = 30) -> None:
    then = time.time() - days * DAY_S
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def put_old(backends: Backends, key: str, data: bytes = b"{}") -> str:
    backends.store.put_if_absent(key, data)
    age(backends.home.store / key.rpartition("/")[0])
    return key


def keys(backends: Backends) -> set[str]:
    return set(backends.store.list("")) - set(backends.store.list(store_keys.LEASES))


def test_nothing_of_a_champion_goes(backends: Backends) -> None:
    before = keys(backends)
    freed = free.free(backends, older_s=0)
    assert freed.room == {}
    assert keys(backends) == before
    release = backends.versions.resolve("digits@champion")
    _, bundle = release_commands.bundle_of(release, backends)
    run, trained = training_of(release, bundle.lineage, backends)
    assert backends.workspace.open(trained.checkpoint.weights).is_file()
    assert run.reference == f"digits/{bundle.lineage.run_key}"


def test_what_nobody_needs_goes_and_is_shown_before(backends: Backends) -> None:
    before = keys(backends)
    key, other = "a" * 64, "b" * 64
    gone = {
        put_old(
            backends,
            store_keys.run_record("digits", key, "train"),
            b'{"checkpoint": {"weights": {"sha256": "%s"}}}' % (b"c" * 64),
        ),
        put_old(backends, f"{store_keys.training_state('digits', other)}/saved.json"),
        put_old(backends, store_keys.artifact("c" * 64, "best.safetensors"), b"weights"),
        put_old(backends, store_keys.bundle_file("d" * 64)),
        put_old(backends, store_keys.extractor("e" * 32 + ".dir", 3)),
    }
    shown = free.show(backends, older_s=WEEK_S)
    assert keys(backends) == before | gone, "only shown"
    assert {kind: count for kind, (count, _) in shown.room.items()} == {
        "runs": 1, "training states": 1, "files": 1, "bundles": 1, "extractors": 1,
    }  # fmt: skip
    freed = free.free(backends, older_s=WEEK_S)
    assert freed.room == shown.room
    assert keys(backends) == before


def test_what_is_young_stays_with_all_that_it_names(backends: Backends) -> None:
    weights = "c" * 64
    record = b'{"checkpoint": {"weights": {"sha256": "%s"}}}' % weights.encode()
    artifact = put_old(backends, store_keys.artifact(weights, "best.safetensors"))
    backends.store.put_if_absent(store_keys.run_record("digits", "a" * 64, "train"), record)
    free.free(backends, older_s=WEEK_S)
    assert backends.store.get(artifact) is not None
    age(backends.home.store)
    free.free(backends, older_s=WEEK_S)
    assert backends.store.get(artifact) is None


def test_what_is_put_again_is_young(backends: Backends, tmp_path: Path) -> None:
    """A production makes the same bytes anew, and has not written its record yet."""
    key = put_old(backends, store_keys.artifact("c" * 64, "same"), b"same")
    (tmp_path / "same").write_bytes(b"same")
    found = snapshot.take(backends, older_s=WEEK_S)
    assert [each.name for each in plan.files(found, named=found.named_without())] == [key]
    assert not backends.store.put_if_absent(key, tmp_path / "same", final=True)
    assert not backends.store.delete_if_older(key, found.limit_s), "looked at before, put again since"
    free.free(backends, older_s=WEEK_S)
    assert backends.store.get(key) is not None


def test_a_candidate_stays_while_an_alias_names_it(backends: Backends, registered_as: Callable[..., Release]) -> None:
    refused = registered_as("digits", max_batch=3)
    older = registered_as("digits", max_batch=5)
    backends.versions.set_alias("digits", "candidate", refused.version)
    age(backends.home.store)
    free.free(backends, older_s=0)
    assert holds_bundle(backends.store, refused.bundle_sha256)
    assert not holds_bundle(backends.store, older.bundle_sha256)
    with pytest.raises(BundleError, match="no such bundle"):
        release_commands.promote(f"digits/{older.version}", backends, why="a test", force=True)


@pytest.mark.slow
def test_every_version_that_rollback_could_name_stays(backends: Backends, registered_as: Callable[..., Release]) -> None:
    second = registered_as("digits", max_batch=3)
    release_commands.promote(f"digits/{second.version}", backends, why="a test", force=True)
    third = registered_as("digits", max_batch=5)
    release_commands.promote(f"digits/{third.version}", backends, why="a test", force=True)
    age(backends.home.store)
    free.free(backends, older_s=0)
    for version in (second.version, 1, third.version):
        outcome = release_commands.rollback("digits", backends, to=version)
        assert outcome.release is not None
        assert outcome.release.version == version
        release_commands.bundle_of(outcome.release, backends)  # verified


def test_a_model_that_is_being_produced_is_left_alone(backends: Backends) -> None:
    mine = put_old(backends, store_keys.run_record("digits", "a" * 64, "train"))
    other = put_old(backends, store_keys.run_record("letters", "b" * 64, "train"))
    with lease("digits", backends):
        freed = free.free(backends, older_s=WEEK_S)
        assert freed.busy == ("digits",)
        assert backends.store.get(mine) is not None
        assert backends.store.get(other) is None
    free.free(backends, older_s=WEEK_S)
    assert backends.store.get(mine) is None


def test_what_is_put_since_a_production_began_stays_at_any_age(backends: Backends) -> None:
    """Its files have no record yet."""
    with lease("digits", backends):
        backends.store.put_if_absent(store_keys.artifact("c" * 64, "fresh"), b"fresh")
        free.free(backends, older_s=0)
        assert backends.store.get(store_keys.artifact("c" * 64, "fresh")) is not None
    free.free(backends, older_s=0)
    assert backends.store.get(store_keys.artifact("c" * 64, "fresh")) is None


def test_a_production_waits_for_a_gc_that_holds_its_lease(backends: Backends) -> None:
    began, waited = threading.Event(), []

    def produce() -> None:
        began.set()
        with lease("digits", backends):
            waited.append(time.monotonic())

    with lease("digits", backends, frees=True):
        thread = threading.Thread(target=produce)
        thread.start()
        began.wait(10)
        time.sleep(0.5)
        assert waited == []
    thread.join(10)
    assert len(waited) == 1


def test_records_go_in_the_order_of_who_depends_on_whom(backends: Backends) -> None:
    for stage in ("run", "tracked", "train", "export", "prove", "seal", "promote"):
        put_old(backends, store_keys.run_record("digits", "a" * 64, stage))
    put_old(backends, f"{store_keys.training_state('digits', 'a' * 64)}/{'f' * 64}/state")
    put_old(backends, f"{store_keys.training_state('digits', 'a' * 64)}/saved.json")
    gone: list[str] = []
    free.free(backends, older_s=WEEK_S, after=lambda name: gone.append(name.rpartition("/")[2].removesuffix(".json")))
    assert gone == ["saved", "state", "promote", "seal", "prove", "export", "train", "tracked", "run"]


def test_without_mlflow_nothing_goes(home: Path) -> None:
    """What aliases name cannot be known then."""
    away = Backends(Settings(home=home, tracking_uri="postgresql://nobody@127.0.0.1:9/none"))
    key = put_old(away, store_keys.artifact("c" * 64, "orphan"))
    with pytest.raises(RegistryError):
        free.free(away, older_s=0)
    assert away.store.get(key) is not None


def test_an_unreadable_run_that_is_needed_keeps_all_of_its_model(backends: Backends) -> None:
    backends.store.put_if_absent(store_keys.run_record("digits", "a" * 64, "run"), b'{"of": "another version"}')
    other = put_old(backends, store_keys.run_record("digits", "b" * 64, "train"))
    free.free(backends, older_s=WEEK_S)
    assert backends.store.get(other) is not None


def test_the_home(backends: Backends) -> None:
    home = backends.home
    training = home.work("digits", "train", "a" * 64) / "train"
    caches = [home.extractors / ("e" * 32), home.data / "datasets" / ("f" * 32 + ".dir"), home.data / "raw" / "digits"]
    for folder in (training, *caches):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"0" * 1000)
    (home.data / "datasets" / ("f" * 32 + ".dir.json")).write_text("{}")
    used = home.data / "datasets" / ("9" * 32 + ".dir")
    used.mkdir()
    for folder in (home.works, home.extractors, home.data):
        age(folder)
    os.utime(used)
    assert free.show(backends, older_s=WEEK_S).room["trainings of the home"] == (1, 1000)
    freed = free.free(backends, older_s=WEEK_S)
    assert freed.room["caches of the home"] == (3, 3000)
    assert not any(folder.exists() for folder in (training, *caches))
    assert used.exists()
    assert [each.name for each in (home.data / "datasets").iterdir()] == [used.name]


def test_a_file_with_other_names_gives_room_with_the_last_of_them(backends: Backends, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0" * 500)
    key = store_keys.artifact("c" * 64, "file")
    backends.store.put_if_absent(key, tmp_path / "file", final=True)
    age(backends.home.store)
    assert free.show(backends, older_s=WEEK_S).room["files"] == (1, 0)
    (tmp_path / "file").unlink()
    assert free.show(backends, older_s=WEEK_S).room["files"] == (1, 500)


def test_ages() -> None:
    assert [seconds_of(text) for text in ("7d", "12h", "30m", "1.5d", "0")] == [WEEK_S, 43_200, 1800, 129_600, 0]
    with pytest.raises(InputError, match="--older-than a week; allowed: a number with d, h, m or s"):
        seconds_of("a week")


def test_the_command(backends: Backends, cli: Any) -> None:
    put_old(backends, store_keys.artifact("c" * 64, "orphan"), b"0" * 2000)
    assert "would free 2 kB, all older than 7d: genwright gc --yes frees it" in cli("gc").out
    assert cli("gc", "--yes", "--json").json() == {
        "freed": True, "kinds": {"files": {"count": 1, "bytes": 2000}}, "bytes": 2000, "busy": [],
    }  # fmt: skip
    assert "nothing to free" in cli("gc", "--older-than", "0").out
    cli("gc", "--older-than", "soon").refused(2, "--older-than soon")
