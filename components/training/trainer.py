"""The one trainer, for every family, on Lightning Fabric: precision and devices are Fabric's, the loop is here to be read.

A step: take the batch of this step, compute one loss for each parameter group that learns in it, take each group's gradient
of its own loss, then step their optimizers and move the average. Everything a step depends on is in the saved state, so a
killed run goes on where its last save was and, on CPU and with a budget in steps, ends with the same bits as one that was
never killed.

B batch, C channels, H height, W width.
"""

import hashlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from components.core.errors import RunError, TrainingFailed
from components.core.family import Batch, Family
from components.core.grid import grid_image
from components.core.protocols import ImageSplit, QualitySignal, Tracker
from components.core.records import Checkpoint, Reading
from components.core.threads import choose_threads
from components.training.average import Average
from components.training.diagnostics import complaints
from components.training.plan import TrainPlan
from components.training.progress import Progress
from components.training.sampling import TorchSampler
from components.training.schedule import Budget, learning_rate
from components.training.state import load_state, load_weights, restore_rng, rng_state, save_checkpoint, save_state
from components.training.stream import BatchStream

if TYPE_CHECKING:
    from lightning.fabric import Fabric

READINGS = (0.1, 0.25, 0.5, 0.7, 0.85, 1.0)  # of the budget spent: when quality is read and a grid is logged
LOG_EVERY_S = 0.2
PRECISION = {"cpu": "32-true", "cuda": "bf16-mixed"}


class Trainer:
    """One run of one family. Call `run` once.

    Raises TrainingFailed when the loss is not finite, and when `stop` was called: the state is saved first, so the same plan
    goes on later.
    """

    def __init__(self, family: Family, plan: TrainPlan, *, split: ImageSplit, quality: QualitySignal, tracker: Tracker) -> None:
        self.plan = plan
        self.quality = quality
        self.tracker = tracker
        self.folder = Path(plan.folder)
        self.fabric = _fabric(plan)
        self.device = self.fabric.device
        torch.manual_seed(plan.seed)
        self.rng = torch.Generator(self.device).manual_seed(plan.seed)
        self.stream = BatchStream(split, batch_size=family.config.batch_size, seed=plan.seed)
        self.family = family.to(self.device).train()
        self.average = Average(self.family, decay=family.config.ema_decay)
        self.groups = self.family.parameter_groups()
        optimizers = [
            torch.optim.AdamW(parameters, lr=1.0, betas=family.config.betas, weight_decay=family.config.weight_decay, fused=True)
            for parameters in self.groups.values()
        ]
        self.wrapped, *wrapped = self.fabric.setup(self.family, *optimizers)
        self.wrapped.mark_forward_method("losses")
        self.optimizers = dict(zip(self.groups, wrapped, strict=True))
        self.step = 0
        self.read = 0  # how many of READINGS are behind
        self.best: Checkpoint | None = None
        self.rate_scale = 1.0  # halved at each return from a collapse
        self.budget = Budget(steps=plan.steps, seconds=plan.seconds)
        self.batch: Batch | None = None  # the last one; None in a run that goes on at its end
        self._stop_because: str | None = None

    def stop(self, because: str) -> None:
        """Ask the loop to save its state and end after this step, unless it was the last; safe in a signal handler."""
        self._stop_because = because

    def run(self) -> Checkpoint:
        """Train to the end of the budget and return the best checkpoint."""
        if self.finished_path.exists():  # a run that ended before whoever asked for it heard so
            return Checkpoint.read(self.finished_path)
        self._resume()
        saved_s = self.budget.spent_s
        with Progress(self.plan) as progress:
            logged = _Means()
            while self.read < len(READINGS):
                done = self.budget.progress(self.step)
                if done < 1:
                    losses, rate = self._train_step(done)
                    logged.add(losses)
                    self.step += 1
                reading = self.budget.progress(self.step) >= READINGS[self.read]
                stopping = self._stop_because  # looked at once: the signal may come at any moment
                saving = stopping is not None or self.budget.spent_s - saved_s > self.plan.state_every_s
                if logged.due() or reading or saving:  # what is not finite is never read or saved
                    self._log(logged.take(), rate=rate if done < 1 else 0.0)
                    progress.show(self.budget.progress(self.step), step=self.step, losses=logged.last)
                if reading or saving:
                    self._check_weights()
                if reading:
                    self._read_quality(progress)
                if self.read == len(READINGS):
                    break
                if saving:
                    self._save()
                    saved_s = self.budget.spent_s
                if stopping is not None:
                    raise TrainingFailed(f"training was stopped at step {self.step}: {stopping}", do="run it again to go on")
        assert self.best is not None
        end = {"steps_total": self.step, "train_s": self.budget.spent_s, "stopped_by": self._stopped_by}
        best = self.best.model_copy(update=end)
        best.write(self.finished_path)
        self.state_path.unlink(missing_ok=True)
        return best

    @property
    def state_path(self) -> Path:
        return self.folder / "state.safetensors"

    @property
    def finished_path(self) -> Path:
        return self.folder / "finished.json"

    def _train_step(self, done: float) -> tuple[dict[str, Tensor], float]:
        """One update of every group. Gradients of all groups are taken before any group moves."""
        self.batch = batch = self._batch(done)
        config = self.family.config
        rate = self.rate_scale * learning_rate(config, step=self.step, progress=done)
        losses: dict[str, Tensor] = self.wrapped.losses(batch, self.rng)
        last = list(losses)[-1]
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        for group, loss in losses.items():
            self.fabric.backward(loss, inputs=self.groups[group], retain_graph=group != last)
        for group in losses:
            if config.clip_norm is not None:
                clip_grad_norm_(self.groups[group], config.clip_norm)
            for parameters in self.optimizers[group].param_groups:
                parameters["lr"] = rate * self.family.rates()[group]
            self.optimizers[group].step()
        self.average.update(self.family, step=self.step)
        return {group: loss.detach() for group, loss in losses.items()}, rate

    def _batch(self, done: float) -> Batch:
        """The batch of this step, on the device."""
        images_BCHW, labels_B = self.stream(self.step)
        return Batch(
            images_BCHW.to(self.device, non_blocking=True),
            None if labels_B is None else labels_B.to(self.device, non_blocking=True),
            progress=done,
            step=self.step,
        )

    def _log(self, losses: dict[str, float], *, rate: float) -> None:
        for group, loss in losses.items():
            if not math.isfinite(loss):
                raise TrainingFailed(
                    f"the loss of {group} is {loss} at step {self.step}",
                    do=f"lower override.config.lr_peak (now {self.family.config.lr_peak}) or choose a stabler family",
                )
        if losses:
            spent = {"train/lr": rate, "train/seconds": self.budget.spent_s}
            self.tracker.metrics({f"train/loss_{group}": loss for group, loss in losses.items()} | spent, step=self.step)

    def _read_quality(self, progress: Progress) -> None:
        """Read the signal on fixed noise, log a grid, and keep the average's weights when they are the best so far."""
        done = self.budget.progress(self.step)
        while self.read < len(READINGS) and done >= READINGS[self.read]:
            self.read += 1
        sampler = TorchSampler(
            self.average.family, steps=self.plan.signal_steps, device=self.device.type, subject=f"torch:step-{self.step}"
        )
        n = self.plan.signal_images
        classes = len(self.plan.spec.classes) if self.plan.spec.conditional else 0
        images = sampler([*range(n)], [index % classes for index in range(n)] if classes else None)
        reading = self.quality(images)
        shares = {name: getattr(reading, name) for name in ("diversity", "precision", "coverage")}
        diagnosed = self._diagnose(done, progress)
        told = {"quality": reading.distance, "collapsed": float(bool(reading.collapse)), **shares, **diagnosed}
        self.tracker.metrics({f"train/{name}": value for name, value in told.items()}, step=self.step)
        self.tracker.image("samples", grid_image(images[:64]), step=self.step)
        better = self.best is None or reading.distance < self.best.quality
        progress.reading(reading, step=self.step, best=better)
        if not math.isfinite(reading.distance):
            raise TrainingFailed(f"the samples of step {self.step} are not finite", do="lower override.config.lr_peak")
        if better:
            self.best = self._keep(reading.distance)
        if reading.collapse:
            self._act_on_collapse(reading, progress, kept=better)

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
            self._roll_back(self.best)
            progress.collapsed(reading, step=self.step, then=f"back to step {self.best.step}, at half the rate")
        else:
            progress.collapsed(reading, step=self.step, then="going on")

    def _roll_back(self, best: Checkpoint) -> None:
        """The best weights again, with fresh optimizers and half the learning rate."""
        weights = load_weights(best)
        self.family.load_state_dict(weights)
        self.average.family.load_state_dict(weights)
        for optimizer in self.optimizers.values():
            optimizer.optimizer.state.clear()
        self.rate_scale /= 2

    def _check_weights(self) -> None:
        """A loss is that of the weights before its step; this looks at those after it."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.family.parameters()):
            raise TrainingFailed(
                f"the weights are not finite at step {self.step}",
                do=f"lower override.config.lr_peak (now {self.family.config.lr_peak}) or choose a stabler family",
            )

    @property
    def _stopped_by(self) -> str:
        return "steps" if self.plan.steps is not None and self.step >= self.plan.steps else "budget"

    def _keep(self, quality: float) -> Checkpoint:
        plan = self.plan
        record = {
            "family": plan.family,
            "variant": plan.variant,
            "config": self.family.config.model_dump(mode="json"),
            "spec": plan.spec,
            "dataset_md5": plan.dataset.md5,
            "run_id": plan.run_id,
            "step": self.step,
            "steps_total": self.step,
            "train_s": self.budget.spent_s,
            "quality": quality,
            "stopped_by": self._stopped_by,
        }
        return save_checkpoint(self.folder / "best", self.average.family.state_dict(), record)

    def _save(self) -> None:
        state = {
            "model": {"weights": self.family.state_dict(), "average": self.average.family.state_dict()},
            "optimizers": {group: optimizer.state_dict() for group, optimizer in self.optimizers.items()},
            "rng": rng_state(self.rng),
            "run": {"step": self.step, "read": self.read, "spent_s": self.budget.spent_s, "plan": self._plan_digest}
            | {"rate_scale": self.rate_scale},
        }
        save_state(self.state_path, state)

    @property
    def _plan_digest(self) -> str:
        """What must be the same for a saved state to be gone on with; the budget, for one, may grow."""
        same = {"family", "variant", "config", "spec", "seed"}
        return f"{self.plan.dataset.md5}:{hashlib.sha256(self.plan.model_dump_json(include=same).encode()).hexdigest()}"

    def _resume(self) -> None:
        """Go on from the saved state, if there is one. Raises RunError when it is damaged or another run's."""
        for left in self.folder.rglob(".*.safetensors.*"):  # what a killed run was writing
            left.unlink(missing_ok=True)
        state = load_state(self.state_path)
        if state is None:
            return
        again = f"delete {self.state_path} to train from the start"
        try:
            run = state["run"]
            if run["plan"] != self._plan_digest:
                raise RunError(f"{self.folder}: its saved training state is of another family, config, dataset or seed", do=again)
            self.family.load_state_dict(state["model"]["weights"])
            self.average.family.load_state_dict(state["model"]["average"])
            for group, optimizer in self.optimizers.items():
                # A group that has not learnt yet has no state, and nothing is what is read back of it.
                optimizer.load_state_dict({"state": {}, **state["optimizers"][group]})
            restore_rng(self.rng, state["rng"])
            self.step, self.read, self.rate_scale = run["step"], run["read"], run["rate_scale"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"{self.folder}: its saved training state does not fit ({type(error).__name__})", do=again) from error
        self.budget = Budget(steps=self.plan.steps, seconds=self.plan.seconds, spent_s=run["spent_s"])
        best = self.folder / "best" / "checkpoint.json"
        self.best = Checkpoint.read(best) if self.read and best.exists() else None


class _Means:
    """Losses averaged between two log lines, summed on the device: no host synchronisation in a step."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[Tensor, int]] = {}
        self.last: dict[str, float] = {}
        self.since = time.monotonic()

    def add(self, losses: dict[str, Tensor]) -> None:
        for group, loss in losses.items():
            total, n = self.sums.get(group, (torch.zeros_like(loss), 0))
            self.sums[group] = (total + loss, n + 1)

    def due(self) -> bool:
        return time.monotonic() - self.since > LOG_EVERY_S

    def take(self) -> dict[str, float]:
        means = {group: float(total) / n for group, (total, n) in self.sums.items()}
        self.sums, self.since = {}, time.monotonic()
        self.last = means or self.last
        return means


def _fabric(plan: TrainPlan) -> "Fabric":
    from lightning.fabric import Fabric

    torch.set_num_threads(plan.threads or choose_threads())
    return Fabric(accelerator="gpu" if plan.device == "cuda" else "cpu", devices=1, precision=PRECISION[plan.device])


def build(plan: TrainPlan) -> Family:
    """The family of a plan with its initial weights, which depend on the seed alone."""
    from components.families import find

    torch.manual_seed(plan.seed)
    return find(plan.family, plan.variant).build(plan.config, plan.spec)


def restore(checkpoint: Checkpoint) -> Family:
    """A family with the weights of a checkpoint, verified, in evaluation mode."""
    from components.families import find

    family = find(checkpoint.family, checkpoint.variant).build(checkpoint.config, checkpoint.spec)
    family.load_state_dict(load_weights(checkpoint))
    return family.eval()
