"""Follows a channel: a new champion is fetched, examined, loaded and warmed up, then takes over between two requests.

A bundle that is refused is tried again a minute later, then two, four and at last every hour, unless the channel names another;
the old one serves on. When the channel or the store cannot be reached, the old one serves on too, and the next look tries again.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from components.core.errors import GenwrightError, RegistryError, StorageError
from components.serving.daemon_thread import run_in_daemon_thread
from components.serving.engine import Engine
from components.serving.log import Log
from components.serving.metrics import Metrics

REST_S = 0.1  # between two looks, whoever asks for them
REST_MAX_S = 3600.0  # between two tries of a bundle that is refused


@dataclass(frozen=True)
class Named:
    """What a channel names: a version and the bundle that it is."""

    version: str
    bundle_sha256: str


@dataclass(frozen=True)
class Source:
    """Where a model comes from. Both may block, and raise GenwrightError."""

    model: str
    named: Callable[[], Named]  # what should be served now
    load: Callable[[Named], Engine]  # fetched, admitted, loaded and warm
    follows: bool = True  # a version that was asked for by its number stays


class Follower:
    """Keeps one model at what its source names. `put` takes a new engine over, with its version."""

    def __init__(
        self,
        source: Source,
        *,
        serving: Named,
        put: Callable[[str, Engine], object],
        metrics: Metrics,
        log: Log,
        look_s: float,
        retry_s: float,
    ) -> None:
        self.source = source
        self.serving = serving
        self.refused: Named | None = None
        self._again_s = 0.0  # when a refused one is given another try: the disk may have been at fault
        self._rest_s = 0.0  # before that try, which may cost minutes
        self._put, self._metrics, self._log = put, metrics, log
        self._look_s, self._retry_s = look_s, retry_s
        self._asked = asyncio.Event()

    async def follow(self) -> None:
        """Look again and again, and at once when asked to, until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._look_s)
            self._asked.clear()
            await self.look()
            await asyncio.sleep(min(REST_S, self._look_s))

    def look_now(self) -> None:
        """Ask for a look. However often one is asked for, they come one after another, with a rest between them."""
        self._asked.set()

    async def look(self) -> None:
        """One look, and the swap that follows from it. What goes wrong is logged and counted, and the old one serves on."""
        try:
            named = await run_in_daemon_thread(self.source.named)
            if named == self.serving:
                self.refused = None
            elif named != self.refused or time.monotonic() > self._again_s:
                await self._take(named)
        except Exception as error:  # noqa: BLE001 (a look that fails must not be the last one)
            self._told("unreachable", error=said(error))

    async def _take(self, named: Named) -> None:
        told = {"version": named.version, "bundle_sha256": named.bundle_sha256}
        try:
            engine = await run_in_daemon_thread(partial(self.source.load, named))
        except (StorageError, RegistryError):
            raise  # it is not the bundle's fault
        except Exception as error:  # noqa: BLE001 (whatever a bundle does to its loader)
            self._rest_s = min(2 * self._rest_s, REST_MAX_S) if named == self.refused else self._retry_s
            self.refused, self._again_s = named, time.monotonic() + self._rest_s
            self._told("refused", **told, error=said(error))
        else:
            self._put(named.version, engine)
            before, self.serving, self.refused = self.serving, named, None
            self._told("swapped", **told, before=before.version)

    def _told(self, outcome: str, **what: str) -> None:
        self._metrics.swaps.labels(self.source.model, outcome).inc()
        self._log.event(outcome, model=self.source.model, **what)


def said(error: Exception) -> str:
    """One line."""
    return str(error) if isinstance(error, GenwrightError) else repr(error)[:300]
