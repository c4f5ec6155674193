"""Takes up the models that get their first champion while the server runs; from then on each is followed as any other."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from components.serving.daemon_thread import run_in_daemon_thread
from components.serving.engine import Engine
from components.serving.following import Follower, Named, Source, said
from components.serving.log import Log


class Gatherer:
    """Looks for sources whose models are not `known` yet. `put` serves one and gives its follower."""

    def __init__(
        self,
        find: Callable[[], Sequence[Source]],
        *,
        known: set[str],
        put: Callable[[Source, Named, Engine], Follower],
        log: Log,
        look_s: float,
        retry_s: float,
    ) -> None:
        self._find, self._put, self._log = find, put, log
        self._known = known
        self._look_s, self._retry_s = look_s, retry_s
        self._again_s: dict[str, float] = {}  # when a model that could not be loaded is given another try

    async def gather(self) -> None:
        """Look again and again, and follow what was taken up, until cancelled."""
        async with asyncio.TaskGroup() as following:
            while True:
                for follower in await self.look():
                    following.create_task(follower.follow())
                await asyncio.sleep(self._look_s)

    async def look(self) -> list[Follower]:
        """One look; the followers of what was taken up. What goes wrong is logged, and the next look tries again."""
        taken = []
        try:
            sources = await run_in_daemon_thread(self._find)
        except Exception as error:  # noqa: BLE001 (a look that fails must not be the last one)
            self._log.event("unreachable", model="models that are new", error=said(error))
            return []
        for source in sources:
            if source.model not in self._known and time.monotonic() > self._again_s.get(source.model, 0.0):
                taken += await self._take(source)
        return taken

    async def _take(self, source: Source) -> list[Follower]:
        try:
            named = await run_in_daemon_thread(source.named)
            engine = await run_in_daemon_thread(partial(source.load, named))
            follower = self._put(source, named, engine)
        except Exception as error:  # noqa: BLE001 (whatever a bundle does to its loader)
            self._again_s[source.model] = time.monotonic() + self._retry_s
            self._log.event("not taken up", model=source.model, error=said(error))
            return []
        self._known.add(source.model)
        self._log.event("taken up", model=source.model, version=named.version, bundle_sha256=named.bundle_sha256)
        return [follower]
