"""Metrics kept in memory and written in batches by a thread of their own, so that a training step pays microseconds."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from components.core.errors import GenwrightError

BATCH = 1000  # MLflow's limit of one log_batch


class Row(NamedTuple):
    """One value of one metric."""

    key: str
    value: float
    timestamp_ms: int
    step: int


class MetricBuffer:
    """Rows waiting to be written. `write` takes at most 1,000 rows; when it fails they are kept for the next attempt.

    With `sample` given, its values are added every `every_s` seconds at steps that follow `sample_step`.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Row]], None],
        *,
        every_s: float,
        sample: Callable[[], Mapping[str, float]] | None = None,
        sample_step: int = 0,
    ) -> None:
        self._write = write
        self._every_s = every_s
        self._sample = sample
        self._sample_step = sample_step
        self._rows: deque[Row] = deque()
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, values: Mapping[str, float], *, step: int) -> None:
        """Keep the values and return at once."""
        now_ms = time.time_ns() // 1_000_000
        self._rows.extend(Row(key, float(value), now_ms, step) for key, value in values.items())
        self.start()

    def start(self) -> None:
        """Start the thread that writes, once."""
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(target=self._run, name="genwright-metrics", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Write everything now. Raises what `write` raises; nothing is lost then."""
        with self._writing:
            while self._rows:
                batch = [self._rows.popleft() for _ in range(min(BATCH, len(self._rows)))]
                try:
                    self._write(batch)
                except GenwrightError:
                    self._rows.extendleft(reversed(batch))
                    raise

    def close(self) -> None:
        """Take a last sample, stop the thread and write what is left."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
            self._take_sample()
        self.flush()

    def _run(self) -> None:
        while not self._closed.wait(self._every_s):
            self._take_sample()
            try:
                self.flush()
            except GenwrightError:
                continue  # the tracker is away for a while: the rows are kept, and close() tells if it stays away

    def _take_sample(self) -> None:
        if self._sample is not None:
            self.add(self._sample(), step=self._sample_step)
            self._sample_step += 1
