"""How far a run is, and what the learning rate is there."""

import time
from collections.abc import Callable

from components.core.family import FamilyConfig

READINGS = (0.1, 0.25, 0.5, 0.7, 0.85, 1.0)  # of the work done: when quality is read and a grid is logged
WARMUP_MOST = 0.1  # of the run
FEW_READINGS = (0.25, 0.5, 1.0)  # of a fine-tuning so short that all of them would take a good part of it


class Budget:
    """Counts steps and seconds, those of earlier sessions of the same run included.

    Progress depends on the step only, so a resumed run equals an uninterrupted one bit for bit; the clock can only end a run.
    `clock` gives seconds.
    """

    def __init__(
        self, *, ceiling_s: float | None, spent_s: float = 0.0, steps: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ceiling_s = ceiling_s
        self.steps = steps  # set once the work is known
        self._clock = clock
        self._start = clock() - spent_s

    @property
    def spent_s(self) -> float:
        return self._clock() - self._start

    def progress(self, step: int) -> float:
        """The share of the work that is behind before this step, 0 to 1."""
        return min(1.0, step / self.steps)

    def is_over(self, *, reserve_s: float = 0.0) -> bool:
        """Whether the ceiling leaves no more than `reserve_s`."""
        return self.ceiling_s is not None and self.spent_s + reserve_s >= self.ceiling_s


def learning_rate(config: FamilyConfig, *, step: int, progress: float) -> float:
    """Linear warm-up over `warmup_steps` and at most a tenth of the run, flat, then linear to zero from `decay_from` on; of the
    run, or of its stage.

    >>> from components.core.family import FamilyConfig
    >>> [round(learning_rate(FamilyConfig(), step=step, progress=step / 1000), 6) for step in (0, 500, 850)]
    [2e-05, 0.001, 0.0005]
    """
    warm = min(1.0, max((step + 1) / config.warmup_steps, progress / WARMUP_MOST)) if config.warmup_steps else 1.0
    left = min(1.0, (1 - progress) / (1 - config.decay_from)) if config.decay_from < 1 else 1.0
    return config.lr_peak * warm * max(left, 1e-3)
