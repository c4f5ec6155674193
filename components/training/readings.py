"""Readings of the quality while a model trains: samples of its average on fixed noise, and the signal on them.

B batch, C channels, H height, W width.
"""

import copy
from collections.abc import Callable

import torch

from components.core.arrays import Stored
from components.core.family import Batch, Family
from components.core.grid import grid_image
from components.core.modality import find_modality
from components.core.protocols import QualitySignal, Tracker
from components.core.records import Reading, TuningPoint
from components.runtime.progress import Listener, listening
from components.training.diagnostics import complaints
from components.training.drawing import most_at_once
from components.training.learner import Learner
from components.training.plan import TrainPlan
from components.training.progress import Progress
from components.training.sampling import TorchSampler
from components.training.stream import BatchStream, first_epoch
from components.training.tuning import Tuning, point
from components.training.work import IMAGES_MIN


class Readings:
    """Draws by the average of a learner, reads the signal and tells the tracker."""

    def __init__(
        self,
        learner: Learner,
        plan: TrainPlan,
        stream: BatchStream,
        *,
        quality: QualitySignal,
        tracker: Tracker,
        tuning: Tuning | None = None,
    ) -> None:
        self.average = learner.average.family
        self.plan = plan
        self.stream = stream
        self.images = plan.signal_images or IMAGES_MIN  # set once the work is known
        self.at_once = most_at_once(self.average)  # set once memory is known
        self.quality = quality
        self.tracker = tracker
        self.tuning = tuning
        self.device = learner.on.device

    def read(self, progress: Progress, *, step: int, batch: Batch) -> Reading:
        """The signal after a step, told to the tracker with a grid of samples. `batch`: the last one that was learnt from."""
        images, reading = self._draw_and_read(self.average, progress.drawing, step=step, n=self.images)
        shares = {name: getattr(reading, name) for name in ("diversity", "precision", "coverage", "classes")}
        diagnosed = self._diagnose(progress, step=step, batch=batch)
        told = {
            "fd": reading.distance,
            "fd_noise": reading.noise,
            "collapsed": float(bool(reading.collapse)),
            **shares,
            **diagnosed,
        }
        told |= point(reading, step=step).beside
        self.tracker.metrics({f"train/{name}": value for name, value in told.items()}, step=step)
        item = self.plan.spec.item
        pictures = find_modality(item.modality).pictures(images[:64], item)
        self.tracker.image("samples", grid_image(pictures), step=step)
        return reading

    def before(self, progress: Progress) -> TuningPoint:
        """What the base is, before it learns."""
        _, reading = self._draw_and_read(self.average, progress.drawing, step=0, n=self.images)
        return point(reading, step=0)

    def seconds(self, images: int, *, clock: Callable[[], float]) -> float:
        """What a reading of so many images takes, by a copy of the average; the first one also loads and allocates."""
        began = clock()
        self._draw_and_read(copy.deepcopy(self.average), lambda done, of: None, step=0, n=images)
        return clock() - began

    def _draw_and_read(self, average: Family, drawing: Listener, *, step: int, n: int) -> tuple[Stored, Reading]:
        """Samples on fixed noise, and the signal on them."""
        self._calibrate(average)
        served = getattr(average.config, "steps", self.plan.signal_steps)
        steps = min(self.plan.signal_steps, served)
        with listening(drawing):
            images = self._draw(average, step=step, n=n, steps=steps)
            reading = self.quality(images)
            if reading.collapse and steps < served:  # few steps alone may draw alike: lost are modes that all steps lack, too
                confirmed = self.quality(self._draw(average, step=step, n=min(n, IMAGES_MIN), steps=served))
                reading = reading.model_copy(update={"collapse": confirmed.collapse})
        return images, self.tuning.reading(reading, images, average, device=self.device) if self.tuning else reading

    def _draw(self, average: Family, *, step: int, n: int, steps: int) -> Stored:
        """n samples on fixed noise, in so many steps, asked for as training is watched by."""
        sampler = TorchSampler(
            average,
            steps=steps,
            device=self.device.type,
            subject=f"torch:step-{step}",
            batch=min(n, self.at_once),
        )
        asked = self.plan.spec.condition
        return sampler([*range(n)], asked.watched(self.stream.split, n) if asked else None)

    @torch.no_grad()
    def _calibrate(self, average: Family) -> None:
        """Let the average measure what it needs, on the first epoch."""
        average.calibrate(first_epoch(self.stream))

    @torch.no_grad()
    def _diagnose(self, progress: Progress, *, step: int, batch: Batch) -> dict[str, float]:
        """What the average tells of itself on a batch."""
        diagnosed = self.average.diagnostics(batch)
        for complaint in complaints(diagnosed):
            progress.warned(complaint, step=step)
        return diagnosed
