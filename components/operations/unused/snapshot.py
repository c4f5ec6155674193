"""What a store holds now, and which of it is needed.

Needed are the bundles that a ledger, an alias or a channel names, whatever is younger than a limit, the runs of a model that is
being produced, and all that these name: the runs that made them, with the records and files of each stage, teachers, bases,
and what they were proved beside.
"""

import json
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

from components.core import store_keys
from components.core.stores import ObjectStore, StoredObject
from components.operations.unused.records import made_by, named_in, roots_in_bundle
from components.pipeline.backends import Backends
from components.pipeline.lease import TTL_S, leases
from components.pipeline.order import KEYED
from components.pipeline.run import UNKEYED, Run, record_key

READERS = 8  # threads
SETTLED_S = 2.0
DVC_FOLDER = ".dir"  # with which DVC ends the MD5 of a folder
STATE = "state"  # the folder of a training's saved state, below its run


@dataclass(frozen=True)
class Folder:
    """The records of one key of a model."""

    model: str
    key: str
    objects: tuple[StoredObject, ...]

    @property
    def modified_s(self) -> float:
        return max(each.modified_s for each in self.objects)


@dataclass
class Snapshot:
    """A store as it was read. `limit_s`: what was put at this Unix time or later is young."""

    limit_s: float
    busy: frozenset[str]  # models that are being produced
    roots: frozenset[str]  # bundles that a ledger, an alias or a channel names
    folders: dict[str, Folder]  # by MODEL/KEY
    artifacts: tuple[StoredObject, ...]
    bundles: dict[str, tuple[StoredObject, ...]]  # by digest
    extractors: dict[str, tuple[StoredObject, ...]]  # by the MD5 of their dataset
    data: dict[str, bytes]  # the bytes of every record, by key
    read: dict[str, StoredObject]  # as they were listed before they were read
    now_s: float  # by the store's clock, before anything was read

    @cached_property
    def needed(self) -> frozenset[str]:
        """MODEL/KEY of each folder that is needed, and every digest that is."""
        return frozenset(self._marked())

    def is_young(self, objects: Iterable[StoredObject]) -> bool:
        return any(each.modified_s >= self.limit_s for each in objects)

    def named(self, keys: Iterable[str]) -> frozenset[str]:
        """Every digest that stands in the records under these keys."""
        return frozenset().union(*(named_in(self.data[key]) for key in keys if key in self.data))

    def named_without(self, gone: Iterable[str] = ()) -> frozenset[str]:
        """Every digest that any record names, but for those that are gone. What a bundle names counts where the bundle does."""
        left = set(self.data) - set(gone)
        return self.named(key for key in left if not key.startswith(store_keys.BUNDLES))

    def _marked(self) -> set[str]:
        marks: set[str] = set()
        waiting = [*self.roots, *self._young()]
        while waiting:
            each = waiting.pop()
            if each not in marks:
                marks.add(each)
                waiting += self._needed_by(each)
        return marks

    def _young(self) -> Iterator[str]:
        yield from (name for name, each in self.folders.items() if self.is_young(each.objects) or each.model in self.busy)
        yield from (sha256 for sha256, objects in self.bundles.items() if self.is_young(objects))
        yield from (md5 for md5, objects in self.extractors.items() if self.is_young(objects))

    def _needed_by(self, mark: str) -> Iterator[str]:
        """What a folder or a digest that is needed needs in turn."""
        if (folder := self.folders.get(mark)) is not None:
            yield from self._needed_by_folder(folder)
        for name in self._folders_of_key.get(mark, ()):
            yield name
        for name in self._makers.get(mark, ()):
            yield name
        if mark in self.bundles:
            data = self.data.get(store_keys.bundle_file(mark), b"")
            yield from named_in(data)
            yield from (name for root in roots_in_bundle(data) for name in self._makers.get(root, ()))
        if mark in self.extractors:
            yield from self.named(each.key for each in self.extractors[mark])

    def _needed_by_folder(self, folder: Folder) -> Iterator[str]:
        yield from self.named(each.key for each in folder.objects)
        run = self.data.get(store_keys.run_record(folder.model, folder.key, "run"))
        if run is not None:
            yield from self._stages_of(folder.model, run)

    def _stages_of(self, model: str, data: bytes) -> Iterator[str]:
        """The folders of a run's stages. The keys of a run of another version cannot be told: all of its model is kept."""
        try:
            run = Run.model_validate_json(data)
            keys = [record_key(run, stage, beside=None) for stage in (*KEYED, *UNKEYED)]
        except (ValueError, KeyError, AssertionError):
            yield from (name for name, each in self.folders.items() if each.model == model)
            return
        for key in keys:
            yield _folder_of(key)

    @cached_property
    def _makers(self) -> Mapping[str, tuple[str, ...]]:
        """By what they made: the folders with the records of it."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, folder in self.folders.items():
            for each in folder.objects:
                stage = each.key.rpartition("/")[2].removesuffix(".json")
                if each.key in self.data and (made := made_by(stage, self.data[each.key])) is not None:
                    found[made].append(name)
        return {made: tuple(names) for made, names in found.items()}

    @cached_property
    def _folders_of_key(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name, folder in self.folders.items():
            found[folder.key].append(name)
        return {key: tuple(names) for key, names in found.items()}


def _folder_of(key: str) -> str:
    """MODEL/KEY of the key of a record."""
    _, model, folder, *_ = key.split("/")
    return f"{model}/{folder}"


def take(backends: Backends, *, older_s: float, before: Snapshot | None = None) -> Snapshot:
    """Read the store. In this order: the clock, who produces, then what is there and what names it, so that whatever is put from
    now on is young, or is by a production whose beginning is known. `before`: an earlier look, whose records that did not
    change since need not be read again. Raises StorageError, RegistryError."""
    store = backends.store
    now_s = _now(store)
    held = [each for each in leases(store) if each.is_held and not each.frees]
    limit_s = min([now_s - older_s, *(each.holder.started_s - TTL_S for each in held)])
    folders = _folders(store)
    bundles = _by_part(store.objects(store_keys.BUNDLES))
    extractors = _by_part(store.objects(store_keys.EXTRACTORS), ends=DVC_FOLDER)
    groups = [*(each.objects for each in folders.values()), *bundles.values(), *extractors.values()]
    listed = {each.key: each for group in groups for each in group if _is_record(each.key)}
    return Snapshot(
        now_s=now_s,
        read=listed,
        limit_s=limit_s,
        busy=frozenset(each.model for each in held if "/" not in each.model),  # others are of slots and of single stages
        artifacts=tuple(store.objects(store_keys.ARTIFACTS)),
        folders=folders,
        bundles=bundles,
        extractors=extractors,
        data=_read(listed, store, before),
        roots=frozenset(_roots(backends)),
    )


def _read(listed: Mapping[str, StoredObject], store: ObjectStore, before: Snapshot | None) -> dict[str, bytes]:
    known = {key: before.data[key] for key, each in listed.items() if before and _is_as(each, key, before)} if before else {}
    missing = [key for key in listed if key not in known]
    with ThreadPoolExecutor(READERS) as readers:
        found = dict(zip(missing, readers.map(store.get, missing), strict=True))
    return known | {key: each[0] for key, each in found.items() if each is not None}


def _is_as(each: StoredObject, key: str, before: Snapshot) -> bool:
    """Whether a record is as it was read; stores tell whole seconds, so one that had just been put may have changed since."""
    return key in before.data and before.read[key] == each and each.modified_s < before.now_s - SETTLED_S


def _now(store: ObjectStore) -> float:
    """The time by the clock that dates its objects."""
    key = store_keys.probe(secrets.token_hex(8))
    store.put_if_absent(key, b"")
    try:
        return store.objects(key)[0].modified_s
    finally:
        store.delete(key)


def _folders(store: ObjectStore) -> dict[str, Folder]:
    found: dict[str, list[StoredObject]] = defaultdict(list)
    for each in store.objects(store_keys.RUNS):
        found[_folder_of(each.key)].append(each)
    return {name: Folder(name.split("/")[0], name.split("/")[1], tuple(objects)) for name, objects in found.items()}


def _by_part(objects: Iterable[StoredObject], *, ends: str = "") -> dict[str, tuple[StoredObject, ...]]:
    """By the second part of their keys, without what all of them end with."""
    found: dict[str, list[StoredObject]] = defaultdict(list)
    for each in objects:
        found[each.key.split("/")[1].removesuffix(ends)].append(each)
    return {part: tuple(of) for part, of in found.items()}


def _is_record(key: str) -> bool:
    return key.endswith(".json") and f"/{STATE}/" not in key


def _roots(backends: Backends) -> Iterator[str]:
    """The bundles that a ledger, a channel or an alias names. What cannot be read stops it all."""
    store = backends.store
    for key in [*store.list(store_keys.LEDGERS), *store.list(store_keys.CHANNELS)]:
        found = store.get(key)
        if found is not None:
            document = json.loads(found[0])
            yield from (str(value) for name, value in document.items() if name.endswith(("bundle", "bundle_sha256")) and value)
    if backends.settings.tracking_uri is None and not backends.named_home.mlflow_database.exists():
        return
    for model in backends.versions.models():
        aliased = set(backends.versions.aliases(model).values())
        yield from (each.bundle_sha256 for each in backends.versions.releases(model) if each.version in aliased)
