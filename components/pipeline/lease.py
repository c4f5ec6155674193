"""One production of a model at a time, on all machines that share a store: schedulers do start a run twice.

The lease of a model is one object of the store, changed by compare-and-swap alone. Its holder renews it every BEAT_S. It
is free once it was given back, was not renewed for TTL_S, or its holder is seen to be dead. Every new holder gets a higher token,
and whoever changes what others read asks for it at the moment of writing: what a holder that was passed over still writes is
refused. Its training is ended (`watched`), and its saves are refused by the token that they carry (saved_training.py).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from components.core import store_keys
from components.core.errors import Conflict, RunError, StorageError
from components.core.record import Record
from components.core.stores import ObjectStore
from components.pipeline.backends import Backends
from components.runtime.identity import Identity

TTL_S = 120.0  # clocks of two machines may differ by less
BEAT_S = 15.0
FREED_LOOK_S = 0.2  # between looks at whether a `genwright gc` has ended
LOOK_S = 5.0  # between looks of a training at whether it was passed over


class Lease(Record):
    """Who produces a model. `token` counts the holders."""

    model: str
    token: int
    holder: Identity
    expires_s: float  # Unix time; 0 for one that was given back
    frees: bool = False  # held for seconds, by `genwright gc`, so that nothing is begun with what it removes

    @property
    def is_held(self) -> bool:
        """Whether its holder may still be at it."""
        return time.time() < self.expires_s and (self.holder.lives or not self.holder.is_visible)


@contextmanager
def lease(model: str, backends: Backends, *, frees: bool = False) -> Iterator[Lease]:
    """Hold the lease of a model, renewed by a thread. Raises Conflict when another holds it; one that `frees` is waited for."""
    own = _acquired(model, backends.store, frees=frees)
    try:
        with _in_thread(BEAT_S, lambda: _renewed(own, backends.store), name="lease"):
            yield own
    finally:
        with suppress(Conflict, StorageError):  # it runs out by itself
            _swap(own.model_copy(update={"expires_s": 0.0}), backends.store)


def current(name: str, store: ObjectStore) -> Lease | None:
    """The lease of a model, or another of that name, as it stands. Raises StorageError."""
    return _read(name, store)[0]


def leases(store: ObjectStore) -> list[Lease]:
    """Every lease of the store that can be read: of models, and of slots of their briefs. Raises StorageError."""
    found = [store.get(key) for key in store.list(store_keys.LEASES)]
    return [lease for each in found if each is not None and (lease := _parsed(each[0])) is not None]


def check_held(own: Lease, store: ObjectStore) -> None:
    """For who works under another's lease: raises Conflict when that one has ended, or the model has had another holder since."""
    now = current(own.model, store)
    if now is None or now.token != own.token or not now.is_held:
        what = f"{own.model}: the production that asked for this stage has ended"
        raise Conflict(what, do="run the production again")


def check_lease(own: Lease, store: ObjectStore) -> None:
    """Raises RunError, which no retry helps, when the model has had another holder since."""
    if is_passed_over(own, store):
        raise RunError(f"{passed_over(own)} while this one was not heard of", do="run the command again")


def is_passed_over(own: Lease, store: ObjectStore) -> bool:
    """Whether the model has had another holder since. Raises StorageError."""
    found, _ = _read(own.model, store)
    return found is None or found.token != own.token


def passed_over(own: Lease) -> str:
    """What happened, for an error line."""
    return f"{own.model}: another production took over"


@contextmanager
def watched(own: Lease, store: ObjectStore, *, lost: Callable[[], None]) -> Iterator[None]:
    """Look meanwhile, every LOOK_S, whether the lease was lost; `lost` is called then, once, by a thread."""

    def look() -> bool:
        with suppress(StorageError):  # which may pass
            if is_passed_over(own, store):
                lost()
                return False
        return True

    with _in_thread(LOOK_S, look, name="lease-watch", waits=False):  # a training that is stopped has seconds
        yield


@contextmanager
def _in_thread(every_s: float, what: Callable[[], bool], *, name: str, waits: bool = True) -> Iterator[None]:
    """Do it again and again meanwhile, in a thread, until it says False. `waits`: the end waits for what is being done."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(every_s) and what():
            pass

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        if waits:
            thread.join()


def _acquired(model: str, store: ObjectStore, *, frees: bool) -> Lease:
    until = time.monotonic() + TTL_S
    while True:
        found, _ = _read(model, store)
        if frees or found is None or not found.frees or not found.is_held or time.monotonic() > until:
            return _acquire(model, store, frees=frees)
        time.sleep(FREED_LOOK_S)


def _acquire(model: str, store: ObjectStore, *, frees: bool) -> Lease:
    found, tag = _read(model, store)
    if found is not None and found.is_held:
        where = "" if found.holder.is_visible else f" on {found.holder.host}"
        raise Conflict(f"{model}: another production of it is running{where}", do="wait for it, then run the command again")
    token = 1 + (found.token if found else 0)
    own = Lease(model=model, token=token, holder=Identity.own(), expires_s=time.time() + TTL_S, frees=frees)
    try:
        store.swap(store_keys.lease(model), _bytes(own), expected=tag)
    except Conflict:
        raise Conflict(
            f"{model}: another production of it began just now", do="wait for it, then run the command again"
        ) from None
    return own


def _renewed(own: Lease, store: ObjectStore) -> bool:
    """Whether it is still to be renewed: not once another holds it, which `watched` and `check_lease` find out."""
    try:
        _swap(own.model_copy(update={"expires_s": time.time() + TTL_S}), store)
    except Conflict:
        return False
    except StorageError:
        return True  # which may pass before it runs out
    return True


def _swap(changed: Lease, store: ObjectStore) -> None:
    """Raises Conflict unless the lease still is of this token."""
    found, tag = _read(changed.model, store)
    if found is None or found.token != changed.token:
        raise Conflict(f"{changed.model}: its lease is another's")
    store.swap(store_keys.lease(changed.model), _bytes(changed), expected=tag)


def _bytes(lease: Lease) -> bytes:
    """`frees` only where it is: an earlier genwright reads the others' leases, too."""
    return lease.model_dump_json(exclude_defaults=True).encode()


def _read(model: str, store: ObjectStore) -> tuple[Lease | None, str | None]:
    found = store.get(store_keys.lease(model))
    if found is None:
        return None, None
    return _parsed(found[0]), found[1]


def _parsed(data: bytes) -> Lease | None:
    """None for one of another version, which is taken over."""
    try:
        return Lease.model_validate_json(data)
    except ValueError:
        return None
