"""The one trainer, for every family: the loop is here to be read.

A step: take the batch of this step and let the family learn from it (learner.py). Everything a step depends on is in the saved
state, so a killed run goes on where its last save was and, on a CPU, ends with the same bits as one that was never killed, unless
its ceiling ends it. Of several processes (core/processes.py) the first one decides, reads the clock, speaks and writes.

B batch, C channels, H height, W width.
"""

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.core.errors import RunError, TrainingFailed
from components.core.family import Batch, Family
from components.core.grid import grid_image
from components.core.modality import find_modality
from components.core.protocols import Images, ImageSplit, QualitySignal, Tracker
from components.core.records import Checkpoint, Reading
from components.runtime.processes import all_reduce_max, broadcast_from_rank0, processes, rank
from components.runtime.progress import Listener, listening
from components.runtime.threads import default_threads
from components.training.device import TrainingDevice
from components.training.diagnostics import complaints
from components.training.learner import Learner
from components.training.loss_means import LossMeans
from components.training.memory import parts_that_fit
from components.training.plan import TrainPlan
from components.training.progress import Progress
from components.training.sampling import TorchSampler
from components.training.schedule import Budget, learning_rate
from components.training.state import load_state, load_weights, save_checkpoint, save_state, weights_path
from components.training.stream import BatchStream
from components.training.work import Probe, known_work, measure_step, new_work

READINGS = (0.1, 0.25, 0.5, 0.7, 0.85, 1.0)  # of the work done: when quality is read and a grid is logged


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
        split: ImageSplit,
        quality: QualitySignal,
        tracker: Tracker,
        clock: Callable[[], float] = time.monotonic,
        saved: Callable[[], None] = lambda: None,
    ) -> None:
        self.plan = plan
        self.clock = clock
        self.saved = saved  # called when a state was written
        self.quality = quality
        self.tracker = tracker
        self.folder = Path(plan.folder)
        on = device_of(plan)
        self.device = on.device
        self.learner = Learner(family, plan, on)
        self.family, self.average = self.learner.family, self.learner.average
        self.stream = BatchStream(split, batch_size=family.config.batch_size, seed=plan.seed, device=self.device)
        self.step = 0
        self.read = 0  # how many of READINGS are behind
        self.best: Checkpoint | None = None
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
        """Train to the end of the budget and return the best checkpoint."""
        if self.finished_path.exists():  # a run that ended before whoever asked for it heard so
            return Checkpoint.read(self.finished_path)
        ceiling = self.plan.ceiling
        self.budget = Budget(ceiling_s=ceiling.seconds if ceiling else None, spent_s=self._resume(), clock=self.clock)
        self._fit_into_memory()
        self._settle_work()
        self._saved_s = self.budget.spent_s
        with Progress(self.plan, quiet=rank() > 0) as progress:
            logged = LossMeans()
            while self.read < len(READINGS):
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
                if now.over or self.read == len(READINGS):
                    break
                if now.saving:
                    self._save()
                if now.stopping is not None:
                    raise TrainingFailed(f"training was stopped at step {self.step}: {now.stopping}", do="run it again to go on")
        return broadcast_from_rank0(self._finish)

    @property
    def state_path(self) -> Path:
        return self.folder / "state.safetensors"

    def best_path(self, best: Checkpoint) -> Path:
        """Where the weights of this run's best checkpoint lie."""
        return weights_path(self.folder / "best", best.weights)

    @property
    def finished_path(self) -> Path:
        return self.folder / "finished.json"

    def _train_step(self, done: float) -> tuple[dict[str, Tensor], float]:
        """Learn from the batch of this step; the losses, and the rate."""
        self.batch = self._batch(done)
        stage_done = self.family.stage_progress(done)
        rate = self.rate_scale * learning_rate(self.family.config, step=self.step, progress=stage_done)
        return self.learner.step(self.batch, rate=rate), rate

    def _batch(self, done: float) -> Batch:
        """The batch of this step, on the device."""
        images_BCHW, labels_B = self.stream(self.step)
        return Batch(images_BCHW, labels_B, progress=done, step=self.step)

    def _due_actions(self, logged: "LossMeans") -> "DueActions":
        """What is due after a step."""
        done, stopping = self.budget.progress(self.step), self._stop_because  # looked at once: the signal may come at any moment
        saving = stopping is not None or self.budget.spent_s - self._saved_s > self.plan.state_every_s
        over = done < 1 and self.budget.is_over(reserve_s=self._reading_s)  # what was learnt since the last reading is read, too
        reading = over or done >= READINGS[self.read]
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
        """Read the signal, and keep the average's weights when they are the best so far."""
        while self.read < len(READINGS) and done >= READINGS[self.read]:
            self.read += 1
        began = self.budget.spent_s
        reading = broadcast_from_rank0(lambda: self._reading(progress, done=done))
        self._reading_s = self.budget.spent_s - began
        worth = (bool(reading.collapse), reading.distance)  # what has collapsed is worse than all that has not
        better = self.best is None or worth < (bool(self.best.collapse), self.best.quality)
        progress.reading(reading, step=self.step, best=better)
        if not math.isfinite(reading.distance):
            raise TrainingFailed(f"the samples of step {self.step} are not finite", do="lower override.config.lr_peak")
        if better:
            self.best = broadcast_from_rank0(lambda: self._keep(reading))
        if reading.collapse:
            self._act_on_collapse(reading, progress, kept=better)

    def _reading(self, progress: Progress, *, done: float) -> Reading:
        """The signal on fixed noise, told to the tracker with a grid."""
        images, reading = self._draw_and_read(self.average.family, progress.drawing)
        shares = {name: getattr(reading, name) for name in ("diversity", "precision", "coverage", "classes")}
        diagnosed = self._diagnose(done, progress)
        told = {"fd": reading.distance, "collapsed": float(bool(reading.collapse)), **shares, **diagnosed}
        self.tracker.metrics({f"train/{name}": value for name, value in told.items()}, step=self.step)
        item = self.plan.spec.item
        pictures = find_modality(item.modality).pictures(images[:64], item)
        self.tracker.image("samples", grid_image(pictures), step=self.step)
        return reading

    def _draw_and_read(self, average: Family, drawing: Listener) -> tuple[Images, Reading]:
        """Samples on fixed noise, and the signal on them."""
        self._calibrate(average)
        n = self.plan.signal_images
        sampler = TorchSampler(
            average,
            steps=min(self.plan.signal_steps, getattr(self.family.config, "steps", self.plan.signal_steps)),
            device=self.device.type,
            subject=f"torch:step-{self.step}",
            batch=n if self.family.card.discrete else min(n, 64),  # one walk over the pixels rather than several
        )
        asked = self.plan.spec.condition
        with listening(drawing):
            images = sampler([*range(n)], asked.examples(n) if asked else None)
        return images, self.quality(images)

    @torch.no_grad()
    def _calibrate(self, average: Family) -> None:
        """Let the average measure what it needs, on the first epoch."""
        steps = range(self.stream.steps_an_epoch)
        average.calibrate(Batch(*self.stream.of_all(step), step=step) for step in steps)

    @torch.no_grad()
    def _diagnose(self, done: float, progress: Progress) -> dict[str, float]:
        """What the average tells of itself on the last batch."""
        diagnosed = self.average.family.diagnostics(self.batch or self._batch(done))
        for complaint in complaints(diagnosed):
            progress.warned(complaint, step=self.step)
        return diagnosed

    def _act_on_collapse(self, reading: Reading, progress: Progress, *, kept: bool) -> None:
        """As config.on_collapse says. A model that only begins is as poor in variety; in the first half of the budget it is
        acted on when there was something better before, which is also what there is to go back to."""
        wanted = self.family.config.on_collapse
        if wanted == "stop" and (not kept or self.read > len(READINGS) / 2):
            raise TrainingFailed(
                f"the samples of step {self.step} have collapsed: {reading.collapse}",
                do="lower override.config.lr_peak, choose a stabler variant, or set override.config.on_collapse: rollback",
            )
        if wanted == "rollback" and self.best is not None and not kept:
            self.learner.start_again_from(load_weights(self.best.weights, self.best_path(self.best)))
            self.rate_scale /= 2
            progress.collapsed(reading, step=self.step, then=f"back to step {self.best.step}, at half the rate")
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

    def _keep(self, reading: Reading) -> Checkpoint:
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
            **self._end,
        }
        return save_checkpoint(self.folder / "best", self.average.family.kept(), record)

    def _finish(self) -> Checkpoint:
        """The best checkpoint, written down as what this run ended with."""
        assert self.best is not None
        best = self.best.model_copy(update=self._end)
        best.write(self.finished_path)
        self.state_path.unlink(missing_ok=True)
        return best

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
        }

    def _save(self) -> None:
        if rank() == 0:
            run = {"step": self.step, "read": self.read, "spent_s": self.budget.spent_s, "plan": self._plan_digest}
            run |= {"rate_scale": self.rate_scale, "micro_batches": self.learner.parts}
            save_state(self.state_path, {**self.learner.state(), "run": run})
            self.saved()
        self._saved_s = self.budget.spent_s

    @property
    def _plan_digest(self) -> str:
        """What must be the same for a saved state to be gone on with; the budget, for one, may grow."""
        same = self.plan.model_dump(mode="json", include={"family", "variant", "config", "spec", "seed", "adversarial"})
        return f"{self.plan.dataset.md5}:{hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()}"

    def _resume(self) -> float:
        """Go on from the saved state, if there is one; the seconds it took. Raises RunError when it is damaged or another's."""
        for left in self.folder.rglob(".*.safetensors.*"):  # what a killed run was writing
            left.unlink(missing_ok=True)
        state = load_state(self.state_path)
        if state is None:
            return 0.0
        again = f"delete {self.state_path} to train from the start"
        try:
            run = state["run"]
            if run["plan"] != self._plan_digest:
                raise RunError(f"{self.folder}: its saved training state is of another family, config, dataset or seed", do=again)
            self.learner.load_state(state)
            self.step, self.read, self.rate_scale = run["step"], run["read"], run["rate_scale"]
            self.learner.parts = run["micro_batches"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"{self.folder}: its saved training state does not fit ({type(error).__name__})", do=again) from error
        best = self.folder / "best" / "checkpoint.json"
        self.best = Checkpoint.read(best) if self.read and best.exists() else None
        return float(run["spent_s"])

    def _settle_work(self) -> None:
        """Items seen and steps of this run: the plan's, those of an earlier session, or what a probe finds room for."""
        plan = self.plan
        known = broadcast_from_rank0(lambda: known_work(plan))
        if known is None:
            probe = None if plan.items_seen is not None else self._probe()
            readings, whole = len(READINGS) - self.read, self.stream.whole
            known = broadcast_from_rank0(
                lambda: new_work(plan, probe, whole=whole, readings=readings, spent_s=self.budget.spent_s)
            )
        self.items_planned = known.items_seen
        self.budget.steps = -(-known.items_seen // self.stream.whole)

    def _probe(self) -> Probe:
        """The seconds of a step, by all processes, and of a reading, by the first."""
        parts, average = self.learner.parts, self.average.family
        step_s = measure_step(self.family, self.plan, self.learner.on, self.stream, parts=parts, clock=self.clock)

        def once_s() -> float:
            began = self.clock()
            self._draw_and_read(copy.deepcopy(average), lambda done, of: None)
            return self.clock() - began

        def reading_s() -> float:
            return min(once_s(), once_s())  # the first one also loads and allocates

        return Probe(step_s=step_s, reading_s=broadcast_from_rank0(reading_s))

    def _fit_into_memory(self) -> None:
        """Cut batches that are too large; never into fewer parts than the run had before, so that it goes on as it was."""
        limit = None if self.plan.memory_gb is None else int(self.plan.memory_gb * 1e9)
        fit = parts_that_fit(self.family, self.learner.on, items=self.stream.batch_size, limit_bytes=limit)
        self.learner.parts = max(self.learner.parts, all_reduce_max(fit))
        if rank() == 0:
            shares = {"train/micro_batches": self.learner.parts, "train/processes": processes()}
            self.tracker.metrics(shares, step=self.step)


@dataclass(frozen=True)
class DueActions:
    """What is due after a step, as the first process sees it. `over`: the ceiling ends the run."""

    done: float
    logging: bool
    reading: bool
    saving: bool
    over: bool
    stopping: str | None


def device_of(plan: TrainPlan) -> TrainingDevice:
    """The device of a plan, one of several GPUs for each process; also sets how many threads this process computes with."""
    before = known_work(plan)
    torch.set_num_threads(plan.threads or (before.threads if before else default_threads(shared_by=processes())))
    if plan.device == "cpu":
        return TrainingDevice(torch.device("cpu"))
    torch.cuda.set_device(rank())
    return TrainingDevice(torch.device("cuda", rank()))


def build(plan: TrainPlan) -> Family:
    """The family of a plan with its initial weights, which depend on the seed and the teacher alone."""
    from components.families import find

    if plan.teacher is not None:
        from components.training.distillation import student

        return student(plan)

    torch.manual_seed(plan.seed)
    return find(plan.family, plan.variant).build(plan.config, plan.spec, light=plan.device == "cpu")


def restore(checkpoint: Checkpoint, weights: Path) -> Family:
    """A family with the weights of a checkpoint, which lie at `weights`, verified, in evaluation mode."""
    from components.families import find

    family = find(checkpoint.family, checkpoint.variant).build(checkpoint.config, checkpoint.spec)
    family.load_state_dict(load_weights(checkpoint.weights, weights))
    return family.eval()


def restore_best(plan: TrainPlan, best: Checkpoint) -> Family:
    """The same, of what a training of this plan left in its folder."""
    return restore(best, weights_path(Path(plan.folder) / "best", best.weights))
