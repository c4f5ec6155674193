"""Requests that arrive together run together: a bounded queue before worker threads ("lanes"), which run the model off the loop.

While a lane is busy, requests gather, and the next batch takes them all up to the largest size. Another lane joins in for as much
work as is worth a thread beside the event loop (MIN_WORK_S); what is less is sooner done when the loop has a core to itself. Only
when a request is known to be arriving does an unfilled batch wait for it, and then for `linger_s` at most, so a lone client waits
for nobody.
"""

import asyncio
import math
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from components.runtime.contract import Feeds
from components.serving.limits import Limits
from components.serving.refusal import Refusal

Output = npt.NDArray[np.generic]  # [N, C, H, W]
MIN_WORK_S = 0.004  # of work, for a lane to run beside another
FULL = 0.75  # of a size of batch: with fewer items, the next smaller makes more a second where time grows with the items


class Run(Protocol):
    """The model."""

    def __call__(self, feeds: Feeds, *, alone: bool) -> Output:
        """The output for these items; `alone`: they are fewer than there are lanes, and nothing else runs."""
        ...


@dataclass(eq=False)
class Job:
    """One request's items in the queue."""

    feeds: Feeds
    count: int
    future: "asyncio.Future[Output]"
    loop: asyncio.AbstractEventLoop
    since_s: float = field(default_factory=time.monotonic)
    taken: int = 0
    made: int = 0
    parts: dict[int, Output] = field(default_factory=dict)  # by the place of their first item


class _Arrival:
    """Stands among the arrivals while it is entered. Only the event loop writes them."""

    def __init__(self, arrivals: dict[object, float]) -> None:
        self._arrivals = arrivals

    def __enter__(self) -> None:
        self._arrivals[self] = time.monotonic()

    def __exit__(self, *_: object) -> None:
        del self._arrivals[self]


class Batcher:
    """Runs `run` on batches, up to `lanes` of them at once. It is as quick for as many items as the next of its `sizes`, which
    ascend to the largest batch; `full` is the share of a size from which on it is taken rather than the one before. `on_batch`
    is told the items of each and its seconds, `on_wait` the seconds that a request stood in the queue."""

    def __init__(
        self,
        run: Run,
        *,
        sizes: Sequence[int],
        limits: Limits,
        lanes: int = 1,
        full: float = FULL,
        on_batch: Callable[[int, float], None] = lambda _n, _s: None,
        on_wait: Callable[[float], None] = lambda _s: None,
    ) -> None:
        self._run = run
        self._sizes, self._full = tuple(sizes), full
        self._limits = limits
        self._on_batch, self._on_wait = on_batch, on_wait
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._arrivals: dict[object, float] = {}  # requests that are being read, and since when
        self._item_s = 0.01  # a running mean of the seconds that one item takes a lane
        self._busy: dict[int, tuple[float, int]] = {}  # lanes that run the model: since when, and on how many items
        self._unanswered: dict[Job, None] = {}  # in order; only the event loop writes it, and the alarm
        self._alarm: asyncio.TimerHandle | None = None
        self._lingering = 0  # lanes that wait for what is arriving
        self.queued = 0  # items
        self._waking = False
        self._lanes = [
            threading.Thread(target=self._work, args=(lane,), name=f"genwright-model-{lane}", daemon=True)
            for lane in range(lanes)
        ]
        for thread in self._lanes:
            thread.start()

    def arriving(self) -> AbstractContextManager[None]:
        """While a request is read and parsed: a batch may wait a moment for it."""
        return _Arrival(self._arrivals)

    async def submit(self, feeds: Feeds, *, within_s: float = 0.0) -> Output:
        """The model's output for these items, where `within_s` is given sooner than the server's own limit would have it.

        Raises Refusal: 429 when the queue is full, 503 when closing or too slow.
        """
        job = self._enqueue(feeds)
        self._unanswered[job] = None
        if self._alarm is None:
            self._alarm = job.loop.call_later(self._limits.answer_s, self._expire)
        own = job.loop.call_later(within_s, self._refuse, job, within_s) if 0 < within_s < self._limits.answer_s else None
        try:
            return await job.future
        except asyncio.CancelledError:  # its client has left
            self._withdraw(job)
            raise
        finally:
            if own is not None:
                own.cancel()
            del self._unanswered[job]
            self._let_go()

    def _expire(self) -> None:
        """Refuse what has waited for too long. One timer is enough: who came first is due first."""
        self._alarm = None
        for job in [*self._unanswered]:
            if (left_s := job.since_s + self._limits.answer_s - time.monotonic()) > 0:
                self._alarm = job.loop.call_later(left_s, self._expire)
                return
            self._refuse(job, self._limits.answer_s)

    def _refuse(self, job: Job, seconds: float) -> None:
        """Nobody waits for it any longer."""
        self._withdraw(job)
        if not job.future.done():
            line = f"no answer within {seconds:g} s; try again later or ask for fewer items"
            job.future.set_exception(Refusal(503, line, Retry_After=self._retry_after()))

    def _let_go(self) -> None:
        """Nothing of one that has ended stays behind for its alarm."""
        if self._closing and not self._unanswered and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    @property
    def able(self) -> bool:
        """Whether every lane still runs the model, and none has been at one batch for so long that it may never end."""
        stuck = any(time.monotonic() - since_s > self._limits.stuck_s for since_s, _ in [*self._busy.values()])
        return all(thread.is_alive() for thread in self._lanes) and not self._closing and not stuck

    def end(self) -> None:
        """Take nothing more, and end the threads when what is queued is done."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._let_go()

    def close(self) -> None:
        """End, and wait for it: no longer than a client would for an answer, since a run may hang."""
        self.end()
        until = time.monotonic() + self._limits.answer_s
        for thread in self._lanes:
            thread.join(max(0.0, until - time.monotonic()))

    def _enqueue(self, feeds: Feeds) -> Job:
        count = len(next(iter(feeds.values())))
        loop = asyncio.get_running_loop()
        with self._changed:
            if self._closing:
                raise Refusal(503, "the server is stopping; try again later", Retry_After="1")
            in_time = self._limits.answer_s * len(self._lanes) / self._item_s  # more would be answered too late
            room = min(self._limits.queued, in_time)
            if self._jobs and self.queued + count > room:
                line = f"{self.queued} items wait and {count} more are asked for; at most {int(room)} may wait; try again later"
                raise Refusal(429, line, Retry_After=self._retry_after())
            job = Job(feeds, count, loop.create_future(), loop)
            self._jobs.append(job)
            self.queued += count
        if not self._waking:
            self._waking = True
            loop.call_soon(self._wake)
        return job

    def _wake(self) -> None:
        """Once for all requests of one turn of the event loop, so that they run together."""
        self._waking = False
        with self._changed:
            if self._lingering:
                self._changed.notify_all()
            elif self._jobs and self._should_start_worker():
                self._changed.notify()

    def _retry_after(self) -> str:
        return str(max(1, math.ceil(self.queued * self._item_s / len(self._lanes))))

    def _work(self, lane: int) -> None:
        while batch := self._next_batch(lane):
            try:
                self._run_batch(batch, lane)
            except Exception as error:  # noqa: BLE001 (the request gets it; the thread must live)
                self._fail(batch, error)
            del batch  # while it waits for the next, a lane holds nothing of the last

    def _run_batch(self, batch: list[tuple[Job, slice]], lane: int) -> None:
        (began_s, count), alone = self._busy[lane], len(self._busy) == 1
        feeds = {name: np.concatenate([job.feeds[name][at] for job, at in batch]) for name in batch[0][0].feeds}
        x_NCHW = self._run(feeds, alone=alone and count < len(self._lanes))
        took_s = time.monotonic() - began_s
        self._item_s += 0.2 * (took_s / len(x_NCHW) - self._item_s)
        self._on_batch(len(x_NCHW), took_s)
        self._deliver(batch, x_NCHW)

    def _next_batch(self, lane: int) -> list[tuple[Job, slice]]:
        """Wait for work and take up to the largest batch, first come first served; nothing when closed and done."""
        with self._changed:
            self._busy.pop(lane, None)
            while True:
                self._changed.wait_for(lambda: self._closing or (self._jobs and self._should_start_worker()))
                self._linger()
                batch = self._take()
                if batch:
                    self._busy[lane] = time.monotonic(), sum(at.stop - at.start for _, at in batch)
                    if self._jobs and self._should_start_worker():
                        self._changed.notify()  # the next lane
                if batch or (self._closing and not self._jobs):
                    return batch

    def _linger(self) -> None:
        """Wait for what has just begun to arrive; nobody waits for one that takes its time."""
        self._lingering += 1
        while self.queued < self._sizes[-1]:
            newest = max([*self._arrivals.values()], default=0.0)
            if (left := newest + self._limits.linger_s - time.monotonic()) <= 0:
                break
            self._changed.wait(left)
        self._lingering -= 1

    def _take(self) -> list[tuple[Job, slice]]:
        batch = []
        room = self._room()
        while room and self._jobs:
            job = self._jobs[0]
            at = slice(job.taken, min(job.count, job.taken + room))
            batch.append((job, at))
            if not job.taken:
                self._on_wait(time.monotonic() - job.since_s)
            room -= at.stop - at.start
            self.queued -= at.stop - at.start
            job.taken = at.stop
            if job.taken == job.count:
                self._jobs.popleft()
        return batch

    def _should_start_worker(self) -> bool:
        """Whether a free lane should take of what waits: when it is much, or no lane will soon be free as it was thought."""
        if not self._busy or self.queued * self._item_s > MIN_WORK_S:
            return True
        now = time.monotonic()
        return all(abs(since_s + count * self._item_s - now) > MIN_WORK_S for since_s, count in self._busy.values())

    def _room(self) -> int:
        """How many items a free lane takes: its share with those that are free with it, but no less than is worth a lane; and no
        more than one size of batch where the next would for the most part be idle."""
        share = max(self.queued / (len(self._lanes) - len(self._busy)), MIN_WORK_S / self._item_s)
        count = min(math.ceil(share), self.queued, self._sizes[-1])
        at = bisect_left(self._sizes, count)
        return self._sizes[at - 1] if at and count < self._full * self._sizes[at] else self._sizes[at]

    def _withdraw(self, *jobs: Job) -> None:
        """Give the places of these in the queue free, where they still stand there."""
        with self._changed:
            for job in jobs:
                if job in self._jobs:
                    self._jobs.remove(job)
                    self.queued -= job.count - job.taken

    def _fail(self, batch: list[tuple[Job, slice]], error: Exception) -> None:
        self._withdraw(*(job for job, _ in batch))
        settle([(job, error) for job, _ in batch])

    def _deliver(self, batch: list[tuple[Job, slice]], x_NCHW: Output) -> None:
        start, done = 0, []
        with self._changed:  # parts of one job may be made in two lanes
            for job, at in batch:
                size = at.stop - at.start
                job.parts[at.start] = x_NCHW[start : start + size]
                job.made += size
                start += size
                if job.made == job.count:
                    done.append(job)
        settle([(job, _joined(job)) for job in done])


def _joined(job: Job) -> Output:
    parts = [job.parts[at] for at in sorted(job.parts)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def settle(results: Sequence[tuple[Job, Output | Exception]]) -> None:
    """Hand results to the event loops that wait for them, each loop woken once."""
    for loop in {job.loop for job, _ in results}:
        loop.call_soon_threadsafe(_hand_over, [(job.future, result) for job, result in results if job.loop is loop])


def _hand_over(results: Sequence[tuple["asyncio.Future[Output]", Output | Exception]]) -> None:
    for future, result in results:
        if future.done():  # nobody waits any more
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
