"""One production of a model at a time, on all machines that share a store: schedulers do start a run twice.

The lease of a model is the object `leases/MODEL.json`, changed by compare-and-swap alone. Its holder renews it every BEAT_S. It
is free once it was given back, was not renewed for TTL_S, or its holder is seen to be dead. Every new holder gets a higher token,
and promotion asks for the token at the moment of writing: what a holder that was passed over still writes is refused.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from components.core.errors import Conflict, RunError, StorageError
from components.core.record import Record
from components.pipeline.backends import Backends
from components.runtime.identity import Identity

TTL_S = 120.0  # clocks of two machines may differ by less
BEAT_S = 15.0


class Lease(Record):
    """Who produces a model. `token` counts the holders."""

    model: str
    token: int
    holder: Identity
    expires_s: float  # Unix time; 0 for one that was given back

    @property
    def is_held(self) -> bool:
        """Whether its holder may still be at it."""
        return time.time() < self.expires_s and (self.holder.lives or not self.holder.is_visible)


@contextmanager
def lease(model: str, backends: Backends) -> Iterator[Lease]:
    """Hold the lease of a model, renewed by a thread. Raises Conflict when another holds it."""
    own = _acquire(model, backends)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(own, backends, ended), name="lease", daemon=True)
    renewing.start()
    try:
        yield own
    finally:
        ended.set()
        renewing.join()
        with suppress(Conflict, StorageError):  # it runs out by itself
            _swap(own.model_copy(update={"expires_s": 0.0}), backends)


def check_lease(own: Lease, backends: Backends) -> None:
    """Raises RunError, which no retry helps, when the model has had another holder since."""
    found, _ = _read(own.model, backends)
    if found is None or found.token != own.token:
        raise RunError(f"{own.model}: another production took over while this one was not heard of", do="run the command again")


def _acquire(model: str, backends: Backends) -> Lease:
    found, tag = _read(model, backends)
    if found is not None and found.is_held:
        where = "" if found.holder.is_visible else f" on {found.holder.host}"
        raise Conflict(f"{model}: another production of it is running{where}", do="wait for it, then run the command again")
    token = 1 + (found.token if found else 0)
    own = Lease(model=model, token=token, holder=Identity.own(), expires_s=time.time() + TTL_S)
    try:
        backends.store.swap(_key(model), own.model_dump_json().encode(), expected=tag)
    except Conflict:
        raise Conflict(
            f"{model}: another production of it began just now", do="wait for it, then run the command again"
        ) from None
    return own


def _renew(own: Lease, backends: Backends, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        try:
            _swap(own.model_copy(update={"expires_s": time.time() + TTL_S}), backends)
        except Conflict:
            return  # another holds it: promotion will be refused
        except StorageError:
            continue  # which may pass before it runs out


def _swap(changed: Lease, backends: Backends) -> None:
    """Raises Conflict unless the lease still is of this token."""
    found, tag = _read(changed.model, backends)
    if found is None or found.token != changed.token:
        raise Conflict(f"{changed.model}: its lease is another's")
    backends.store.swap(_key(changed.model), changed.model_dump_json().encode(), expected=tag)


def _read(model: str, backends: Backends) -> tuple[Lease | None, str | None]:
    found = backends.store.get(_key(model))
    if found is None:
        return None, None
    try:
        return Lease.model_validate_json(found[0]), found[1]
    except ValueError:
        return None, found[1]  # of another version: taken over


def _key(model: str) -> str:
    return f"leases/{model}.json"
