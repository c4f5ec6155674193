"""What a person sees of a run: a bar on a terminal, a line at each reading of the quality elsewhere."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from components.core.metrics import words_of
from components.core.records import Reading
from components.training.plan import TrainPlan


class Progress:
    """Reports on standard error, so that standard output stays for answers."""

    def __init__(self, plan: TrainPlan, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.name = f"{plan.family}/{plan.variant}"
        columns = (
            TextColumn("training {task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.bar = Bar(
            *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console, disable=quiet or not sys.stderr.isatty()
        )
        self.task = self.bar.add_task(self.name, total=1.0, note="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def show(self, done: float, *, step: int, losses: dict[str, float]) -> None:
        """Move the bar to `done`, 0 to 1."""
        note = f"step {step}  " + "  ".join(f"{group} {loss:.4g}" for group, loss in losses.items())
        self.bar.update(self.task, completed=done, note=note)

    def drawing(self, done: int, of: int) -> None:
        """How far the samples of a reading are, for models that draw row by row."""
        self.bar.update(self.task, note=f"drawing samples: row {done} of {of}")

    def reading(self, reading: Reading, *, step: int, best: bool) -> None:
        """Say what the quality signal reads."""
        mark = "best so far" if best else "the best stays"
        self.console.print(f"  step {step}: {words_of('train/fd').label} {reading.distance:.4g} ({mark})", highlight=False)

    def collapsed(self, reading: Reading, *, step: int, then: str) -> None:
        """Say that modes are lost, and what is done about it."""
        self.console.print(f"  step {step}: collapsed: {reading.collapse}; {then}", highlight=False)

    def warned(self, complaint: str, *, step: int) -> None:
        """Say what the model's diagnostics hold against it."""
        self.console.print(f"  step {step}: {complaint}", highlight=False)
