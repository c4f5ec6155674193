"""What a person sees of a run: how far it is, and a line at each reading of the quality. On standard error."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from components.core.metrics import READINGS
from components.core.records import Ceiling, MemoryUse, Reading
from components.runtime.progress import stage
from components.runtime.screen import BEAT_S, Stage, say
from components.training.how_far import Left
from components.training.plan import TrainPlan


class Progress:
    """Reports of the process that leads; of one that follows (`quiet`) nothing is seen."""

    def __init__(self, plan: TrainPlan, *, quiet: bool = False) -> None:
        self.title = f"training {plan.family}/{plan.variant}"
        self.quiet = quiet
        self.shown: Stage | None = None
        self._left = Left(Path(plan.folder))
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if not self.quiet:
            self.shown = self._open.enter_context(stage(self.title, quiet_s=BEAT_S))  # whoever began it said how long it takes
            self.shown.total, self.shown.unit = 1.0, "share"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()
        if self.shown is not None:
            self._left.remove()

    def show(self, done: float, *, step: int, losses: dict[str, float]) -> None:
        """Move the bar to `done`, 0 to 1."""
        note = f"step {step}  " + "  ".join(f"{group} {loss:.4g}" for group, loss in losses.items())
        self._update(done=done, note=note)

    def fitted(self, memory: MemoryUse, own: tuple[str, ...]) -> None:
        """Say that a batch does not fit into memory as it is, and of which statistics each part has its `own`."""
        if memory.parts > 1 or memory.recomputing:
            each = f"; each part has its own {' and '.join(own)}" if own and memory.parts > 1 else ""
            self._say(f"  memory: {memory.text}{each}")

    def drawn(self, at_once: int, *, most: int) -> None:
        """Say that memory has not room for as many samples at once as are drawn else."""
        if at_once < most:
            self._say(f"  memory: samples are drawn {at_once} at a time, not {most}")

    def codes(self, size_gb: float, *, items: int, kept: bool) -> None:
        """Say that the codes of all items are computed once, or that they are not, for want of memory."""
        then = "computed once, and kept" if kept else "not kept for want of memory; computed in each step"
        self._say(f"  codes of {items:,} items: {size_gb:.2g} GB, {then}")

    def drawing(self, done: int, of: int) -> None:
        """How far the samples of a reading are, for models that draw row by row."""
        self._update(note=f"drawing samples: row {done} of {of}")

    def reading(self, reading: Reading, *, step: int, stays: int | None) -> None:
        """Say what the quality signal reads, with its standard error; `stays`: the step whose weights are kept instead."""
        mark = "kept" if stays is None else f"worse; step {stays} stays"
        noise = f" ± {reading.noise:.2g}" if reading.influence else ""
        self._say(f"  step {step}: {READINGS['train/fd'].label} {reading.distance:.4g}{noise} ({mark})")

    def collapsed(self, reading: Reading, *, step: int, then: str) -> None:
        """Say that modes are lost, and what is done about it."""
        self._say(f"  step {step}: collapsed: {reading.collapse}; {then}")

    def ended_early(self, ceiling: Ceiling, *, step: int, of: int) -> None:
        """Say that the clock ended it."""
        text = f"ended by {ceiling.name} ({ceiling.seconds:.0f} s) after {step:,} of {of:,} steps; the best weights are kept"
        self._say(f"  step {step}: {text}")

    def warned(self, complaint: str, *, step: int) -> None:
        """Say what the model's diagnostics hold against it."""
        self._say(f"  step {step}: {complaint}")

    def _update(self, *, done: float | None = None, note: str) -> None:
        if self.shown is not None:
            self.shown.update(done=done, note=note)
            self._left.leave(self.shown.done, note)

    def _say(self, line: str) -> None:
        if not self.quiet:
            say(line)
