"""How far a run is, and what the learning rate is there."""

import time

from components.core.family import FamilyConfig


class Budget:
    """Counts steps and seconds, those of earlier sessions of the same run included. Progress is the larger share spent.

    With steps alone progress depends on the step only, so a resumed run equals an uninterrupted one bit for bit.
    """

    def __init__(self, *, steps: int | None, seconds: float | None, spent_s: float = 0.0) -> None:
        assert steps or seconds, "a run without an end"
        self.steps = steps
        self.seconds = seconds
        self._start = time.monotonic() - spent_s

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self._start

    def progress(self, step: int) -> float:
        """The share of the budget spent before this step, 0 to 1."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = self.spent_s / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_steps, by_time))


def learning_rate(config: FamilyConfig, *, step: int, progress: float) -> float:
    """Linear warm-up over `warmup_steps`, flat, then linear to zero from `decay_from` of the run, or of its stage, on."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    left = min(1.0, (1 - progress) / (1 - config.decay_from)) if config.decay_from < 1 else 1.0
    return config.lr_peak * warm * max(left, 1e-3)
