"""The one trainer, for every family: the loop is here to be read.

A step: take the batch of this step and let the family learn from it (learner.py). Everything a step depends on is in the saved
state (resume.py), so a killed run goes on where its last save was and, on a CPU, ends with the same bits as one that was never
killed, unless its ceiling ends it. Where the weights begin stands in start/, what is read of the quality in readings.py, how much
is done in work.py. Of several processes (runtime/processes.py) the first one decides, reads the clock, speaks and writes.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.core.errors import TrainingFailed
from components.core.family import Batch, Family
from components.core.protocols import ItemSplit, QualitySignal, Tracker
from components.core.records import Checkpoint, MemoryUse, Reading, TuningPoint
from components.core.records.checkpoint import is_by_heart
from components.runtime.hardware import machine
from components.runtime.processes import broadcast_from_rank0, processes, rank
from components.training.checkpoint import save_checkpoint
from components.training.choice import is_better, is_worse, lowest_of
from components.training.codes import ItemCodes, Keepable
from components.training.device import open_device
from components.training.drawing import drawn_at_once, most_at_once
from components.training.folder import BEST, CHECKPOINT, FINISHED, PAUSED, best_weights
from components.training.learner import Learner
from components.training.loss_means import LossMeans
from components.training.memory import Fit, fit_into_memory, peak_on
from components.training.plan import TrainPlan
from components.training.progress import Progress
from components.training.readings import Readings
from components.training.resume import SavedRun, load_run, save_run, state_path
from components.training.schedule import READINGS, Budget, learning_rate
from components.training.stream import BatchStream
from components.training.tuning import Tuning, point
from components.training.work import known_work, settle_work


class Trainer:
    """One run of one family. Call `run` once, in each process that takes part.

    Raises TrainingFailed when the loss is not finite, when not one item fits into memory, and when `stop` was called: the state
    is saved first, so the same plan goes on later.
    """

    def __init__(
        self,
        family: Family,
        plan: TrainPlan,
        *,
        split: ItemSplit,
        quality: QualitySignal,
        tracker: Tracker,
        tuning: Tuning | None = None,
        clock: Callable[[], float] = time.monotonic,
        saved: Callable[[], None] = lambda: None,
    ) -> None:
        self.plan = plan
        self.clock = clock
        self.saved = saved  # called when a state was written
        self.tracker = tracker
        self.folder = Path(plan.folder)
        before = known_work(plan)
        on = open_device(plan.device, threads=plan.threads or (before.threads if before else 0))
        self.learner = Learner(family, plan, on)
        self.family, self.average = self.learner.family, self.learner.average
        self.stream = BatchStream(
            split, batch_size=family.config.batch_size, seed=plan.seed, condition=plan.spec.condition, device=on.device
        )
        self.codes = ItemCodes(self.learner, self.stream)
        self.readings = Readings(self.learner, plan, self.stream, quality=quality, tracker=tracker, tuning=tuning)
        self.step = 0
        self.moments: tuple[float, ...] = READINGS  # when quality is read; set once the work is known
        self.read = 0  # how many of them are behind
        self.best: Reading | None = None  # so far
        self.lowest: Reading | None = None  # of the loss on held-out items, where there is a base
        self.kept: Checkpoint | None = None  # the weights that choice.py keeps of what was read
        self.tuned: tuple[TuningPoint, ...] = ()  # what was read, in order, where there is a base
        self.memory: MemoryUse  # of a step
        self.rate_scale = 1.0  # halved at each return from a collapse
        self.budget = Budget(ceiling_s=None, clock=clock)
        self.items_planned = plan.items_seen or 0
        self.stopped_by = "items_seen"
        self._saved_s = self._reading_s = 0.0
        self.batch: Batch | None = None  # the last one; None in a run that goes on at its end
        self._stop_because: str | None = None

    def stop(self, because: str) -> None:
        """Ask the loop to save its state and end after this step, unless it was the last; safe in a signal handler."""
        self._stop_because = because

    def run(self) -> Checkpoint:
        """Train to the end of the budget, or to where the plan pauses, and return the best checkpoint."""
        if broadcast_from_rank0(self.finished_path.exists):  # a run that ended before whoever asked for it heard so
            return broadcast_from_rank0(lambda: Checkpoint.read(self.finished_path))
        ceiling = self.plan.ceiling
        self.budget = Budget(ceiling_s=ceiling.seconds if ceiling else None, spent_s=self._resume(), clock=self.clock)
        self._fit_into_memory()
        self._fit_drawing()
        self._settle_work()
        self._saved_s = self.budget.spent_s
        with Progress(self.plan, quiet=rank() > 0) as progress:
            progress.fitted(self.memory, self.family.card.per_part)
            progress.drawn(self.readings.at_once, most=most_at_once(self.family))
            self._tell_of_codes(progress)
            if self.readings.tuning is not None and not self.tuned:
                self.tuned = (self.readings.before(progress),)
            logged = LossMeans()
            while self.read < len(self.moments):
                if self._pauses():
                    self._save()
                    return broadcast_from_rank0(self._pause)
                done = broadcast_from_rank0(lambda: self.budget.progress(self.step))
                if done < 1:
                    losses, rate = self._train_step(done)
                    logged.add(losses)
                    self.step += 1
                now = broadcast_from_rank0(lambda: self._due_actions(logged))
                if now.logging or now.reading or now.saving:  # what is not finite is never read or saved
                    self._log(logged.take(), rate=rate if done < 1 else 0.0)
                    progress.show(now.done, step=self.step, losses=logged.last)
                if now.reading or now.saving:
                    self._check_weights()
                if now.reading:
                    self._read_quality(progress, done=now.done)
                if now.over and ceiling is not None:
                    self.stopped_by = ceiling.name
                    progress.ended_early(ceiling, step=self.step, of=self.budget.steps)
                if now.over or self.read == len(self.moments):
                    break
                if now.saving:
                    self._save()
                if now.stopping is not None:
                    raise TrainingFailed(f"training was stopped at step {self.step}: {now.stopping}", do="run it again to go on")
        return broadcast_from_rank0(self._finish)

    @property
    def state_path(self) -> Path:
        return state_path(self.plan)

    def best_path(self, kept: Checkpoint) -> Path:
        """Where the weights of the checkpoint lie that this run keeps."""
        return best_weights(self.folder, kept.weights)

    @property
    def finished_path(self) -> Path:
        return self.folder / FINISHED

    def _train_step(self, done: float) -> tuple[dict[str, Tensor], float]:
        """Learn from the batch of this step; the losses, and the rate."""
        self.batch = self.codes.beside(self._batch(done))
        stage_done = self.family.stage_progress(done)
        rate = self.rate_scale * learning_rate(self.family.config, step=self.step, progress=stage_done)
        rate *= self.family.rate_share(done)
        return self.learner.step(self.batch, rate=rate), rate

    def _batch(self, done: float) -> Batch:
        """The batch of this step, on the device."""
        images_BCHW, labels_B = self.stream(self.step)
        epoch, budget = self.stream.epoch(self.step), self.budget.steps * self.stream.whole
        return Batch(images_BCHW, labels_B, progress=done, step=self.step, epoch=epoch, budget=budget)

    def _due_actions(self, logged: "LossMeans") -> "DueActions":
        """What is due after a step."""
        done, stopping = self.budget.progress(self.step), self._stop_because  # looked at once: the signal may come at any moment
        saving = stopping is not None or self.budget.spent_s - self._saved_s > self.plan.state_every_s
        over = done < 1 and self.budget.is_over(reserve_s=self._reading_s)  # what was learnt since the last reading is read, too
        reading = over or done >= self.moments[self.read]
        return DueActions(done, logging=logged.due(), reading=reading, saving=saving, over=over, stopping=stopping)

    def _log(self, losses: dict[str, float], *, rate: float) -> None:
        for group, loss in losses.items():
            if not math.isfinite(loss):
                raise TrainingFailed(
                    f"the loss of {group} is {loss} at step {self.step}",
                    do=f"lower override.config.lr_peak (now {self.family.config.lr_peak}) or choose a stabler family",
                )
        if losses and rank() == 0:
            spent = {"train/lr": rate, "train/seconds": self.budget.spent_s, "train/items_seen": self.items_seen}
            self.tracker.metrics({f"train/loss_{group}": loss for group, loss in losses.items()} | spent, step=self.step)

    def _read_quality(self, progress: Progress, *, done: float) -> None:
        """Read the signal, and keep the average's weights unless they are worse than the best so far."""
        while self.read < len(self.moments) and done >= self.moments[self.read]:
            self.read += 1
        began = self.budget.spent_s
        batch = self.batch or self._batch(done)
        reading = broadcast_from_rank0(lambda: self.readings.read(progress, step=self.step, batch=batch))
        self._reading_s = self.budget.spent_s - began
        if self.readings.tuning is not None:
            self.tuned += (point(reading, step=self.step),)
        if not math.isfinite(reading.distance):
            raise TrainingFailed(f"the samples of step {self.step} are not finite", do="lower override.config.lr_peak")
        worse = self.best is not None and self.kept is not None and is_worse(reading, self.best)
        if self.lowest is not None and reading.held_out:
            worse = worse or is_by_heart(reading.held_out, self.lowest.held_out, self.tuned[0].held_out)
        improving = self.best is not None and is_worse(self.best, reading)
        if self.best is None or is_better(reading, self.best):
            self.best = reading
        self.lowest = lowest_of(reading, self.lowest)
        progress.reading(reading, step=self.step, stays=self.kept.step if self.kept and worse else None)
        if not worse:
            self.kept = broadcast_from_rank0(lambda: self._keep(reading, improving=improving))
        if reading.collapse:
            self._act_on_collapse(reading, progress, kept=not worse)

    def _act_on_collapse(self, reading: Reading, progress: Progress, *, kept: bool) -> None:
        """As config.on_collapse says. A model that only begins is as poor in variety; in the first half of the budget it is
        acted on when there was something better before, which is also what there is to go back to."""
        wanted = self.family.config.on_collapse
        if wanted == "stop" and (not kept or self.read > len(self.moments) / 2):
            raise TrainingFailed(
                f"the samples of step {self.step} have collapsed: {reading.collapse}",
                do="lower override.config.lr_peak, choose a stabler variant, or set override.config.on_collapse: rollback",
            )
        if wanted == "rollback" and self.kept is not None and not kept:
            best, path = self.kept, self.best_path(self.kept)
            back = broadcast_from_rank0(lambda: self.plan.start.go_back(best, path, self.family))  # which wrote them
            self.learner.start_again_from(back)
            self.codes.forget()
            self.rate_scale /= 2
            progress.collapsed(reading, step=self.step, then=f"back to step {self.kept.step}, at half the rate")
        else:
            progress.collapsed(reading, step=self.step, then="going on")

    def _check_weights(self) -> None:
        """A loss is that of the weights before its step; this looks at those after it."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.family.parameters()):
            raise TrainingFailed(
                f"the weights are not finite at step {self.step}",
                do=f"lower override.config.lr_peak (now {self.family.config.lr_peak}) or choose a stabler family",
            )

    @property
    def items_seen(self) -> int:
        return self.step * self.stream.whole

    def _keep(self, reading: Reading, *, improving: bool) -> Checkpoint:
        plan = self.plan
        record = {
            "family": plan.family,
            "variant": plan.variant,
            "config": self.family.config.model_dump(mode="json"),
            "spec": plan.spec,
            "dataset_md5": plan.dataset.md5,
            "run_id": plan.run_id,
            "step": self.step,
            "quality": reading.distance,
            "collapse": reading.collapse,
            "improving": improving,
            **self._end,
        }
        return save_checkpoint(self.folder / BEST, plan.start.keep(self.average.family), record)

    def _pauses(self) -> bool:
        """Whether its quality was read at the share of the work at which the plan has it pause."""
        at = self.plan.pause_at
        return at is not None and self.read > 0 and self.moments[self.read - 1] >= at

    def _pause(self) -> Checkpoint:
        """The best checkpoint so far, written down for who goes on with it or leaves it; the state was saved."""
        assert self.kept is not None
        kept = self.kept.model_copy(update=self._end | {"stopped_by": "paused"})
        kept.write(self.folder / PAUSED)
        return kept

    def _finish(self) -> Checkpoint:
        """The checkpoint that was kept, written down as what this run ended with."""
        assert self.kept is not None
        kept = self.kept.model_copy(update=self._end)
        self.tracker.metrics({"train/memory_peak_gb": peak_on(self.learner.on) / 1e9}, step=self.step)
        kept.write(self.finished_path)
        self.state_path.unlink(missing_ok=True)
        return kept

    @property
    def _end(self) -> dict[str, Any]:
        """How far the run came, and what ended it."""
        return {
            "steps_total": self.step,
            "train_s": self.budget.spent_s,
            "stopped_by": self.stopped_by,
            "items_seen": self.items_seen,
            "items_planned": self.items_planned,
            "threads": torch.get_num_threads(),
            "machine": machine(self.learner.on.device.type, threads=torch.get_num_threads()),
            "memory": self.memory.model_copy(update={"peak_gb": peak_on(self.learner.on) / 1e9}),
            "tuning": self.tuned,
        }

    def _save(self) -> None:
        if rank() == 0:
            spent_s = self.budget.spent_s
            at = SavedRun(step=self.step, read=self.read, spent_s=spent_s, rate_scale=self.rate_scale)
            save_run(self.plan, self.learner, replace(at, best=self.best, lowest=self.lowest, tuned=self.tuned))
            self.saved()
        self._saved_s = self.budget.spent_s

    def _resume(self) -> float:
        """Go on from the saved state, if there is one; the seconds it took. Raises RunError when it is damaged or another's."""
        known = load_run(self.plan, self.learner)
        if known is None:
            return 0.0
        self.step, self.read, self.rate_scale, self.best = known.step, known.read, known.rate_scale, known.best
        self.lowest, self.tuned = known.lowest, known.tuned
        kept = self.folder / BEST / CHECKPOINT
        self.kept = Checkpoint.read(kept) if self.best and kept.exists() else None
        return known.spent_s

    def _settle_work(self) -> None:
        """Items seen and steps of this run."""
        keepable = self.codes.keepable(self.memory)
        work = settle_work(
            self.plan,
            self.learner,
            self.stream,
            keepable=keepable,
            readings=len(READINGS) - self.read,
            reading_s=lambda images: self.readings.seconds(images, clock=self.clock),
            spent_s=lambda: self.budget.spent_s,
            clock=self.clock,
        )
        self.items_planned, self.readings.images, self.moments = work.items_seen, work.reading_images, work.readings
        self.budget.steps = -(-work.items_seen // self.stream.whole)
        self.codes.kept = work.codes_kept and keepable is not None
        if self.codes.kept:
            self.memory = self.memory.model_copy(update={"codes_gb": self.codes.size_bytes / 1e9})

    def _tell_of_codes(self, progress: Progress) -> None:
        """Where it is worth to keep them: whether they are."""
        codes = self.codes
        if codes.begins is not None and Keepable(codes.stream.items, codes.begins).is_worth(self.items_planned):
            progress.codes(codes.size_bytes / 1e9, items=codes.stream.items, kept=codes.kept)
        if codes.begins is not None and rank() == 0:
            self.tracker.metrics({"train/codes_gb": self.memory.codes_gb}, step=self.step)

    def _fit_drawing(self) -> None:
        """Draw as memory lets it; where a base has drawn before, as that did."""
        if self.readings.tuning is not None:
            self.readings.at_once = self.readings.tuning.at_once
        elif not self.plan.start.needs_base():
            self.readings.at_once = drawn_at_once(self.average.family, self.plan)

    def _fit_into_memory(self) -> None:
        """Take a step as memory lets it, and never with more of it than the run had before, so that it goes on as it was."""
        learner, limit = self.learner, None if self.plan.memory_gb is None else int(self.plan.memory_gb * 1e9)
        before = Fit(learner.parts, learner.recomputing)
        memory = fit_into_memory(self.family, learner.on, items=self.stream.batch_size, limit_bytes=limit, at_least=before)
        self.memory, learner.parts = memory, memory.parts
        if memory.recomputing:
            learner.recompute()
        if rank() == 0:
            taken: dict[str, float] = {"micro_batches": memory.parts, "recomputing": memory.recomputing, "processes": processes()}
            taken |= {"memory_free_gb": memory.free_gb, "memory_needed_gb": memory.needed_gb}
            self.tracker.metrics({f"train/{name}": float(value) for name, value in taken.items()}, step=self.step)


@dataclass(frozen=True)
class DueActions:
    """What is due after a step, as the first process sees it. `over`: the ceiling ends the run."""

    done: float
    logging: bool
    reading: bool
    saving: bool
    over: bool
    stopping: str | None
