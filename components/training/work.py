"""How much a training does, settled once: items seen and CPU threads, kept as `work.json` beside the state.

A ceiling becomes items seen by a probe on the device, steps of a copy of the model that leave nothing behind:

    items = (0.98 ceiling - spent - 6 readings) / seconds of a step * items of a step,        at most those that are enough

Where the codes of N items are kept (codes.py), a step of the second stage is faster by their encoding, which is done once.

Whoever writes these items and threads into a brief (compute.items_seen, compute.threads) trains to the same bits.

The images of a reading follow the items alone, too. All readings take a tenth of the training's network passes, where that is 128
to 1,024 images each; an item that is learnt from counts as three passes, a backward pass costing about two:

    images = 0.1 * 3 items / (6 * passes of a sample)

A fine-tuning takes 512 losses beside each reading, too. Where six of the smallest would take more than a fifth of its passes, it
is read three times.

Of a ceiling that 128 would take more than a third of, a reading has as many as that third affords, and 32 at least: a network
that draws slowly would else be read and hardly trained.

N items of a step in all processes.
"""

import copy
import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from components.core.errors import RunError
from components.core.family import Batch, Family
from components.core.record import Record
from components.runtime.processes import broadcast_from_rank0
from components.training.codes import ItemCodes, Keepable, encoded
from components.training.device import TrainingDevice
from components.training.folder import WORK
from components.training.learner import Learner
from components.training.plan import TrainPlan
from components.training.schedule import FEW_READINGS, READINGS
from components.training.stream import BatchStream
from components.training.tuning import LOSSES

AIM = 0.98  # of the ceiling: room for the end of a training
MOMENTS = (0.05, 0.35, 0.65, 0.95)  # of the run: a training in stages does other work in each
PROBE_MIN_S, PROBE_MAX_S = 0.5, 20.0
PROBE_SHARE, PROBE_SHARE_TO_3_S = 0.05, 0.1  # of the ceiling: a machine that others work on, too, is seldom as fast as it can be
STEP_LEAST = 0.1  # of a step is left without its encoding, at least
STEPS_MIN, STEPS_MAX = 2, 100  # of a run
READINGS_SHARE, PASSES_OF_AN_ITEM = 0.1, 3
TUNING_SHARE = 0.2  # that six readings of a fine-tuning may take
IMAGES_MIN, IMAGES_MAX, IMAGES_BYTES = 128, 1024, 1 << 28  # of a reading
READINGS_MOST, IMAGES_FEW = 1 / 3, 32  # of a ceiling, and the images of a reading where that binds
RUNS = 8  # at each moment, where they are short; the fastest counts: the ceiling ends what is slower, nothing mends an early end


class Probe(Record):
    """What was measured on the device."""

    step_s: float
    reading_s: float  # of at least as many images as are read
    encoding_s: float = 0.0  # of the items of a step, where their codes may be kept


class Work(Record):
    """What a training does."""

    items_seen: int
    threads: int
    reading_images: int = IMAGES_MIN
    readings: tuple[float, ...] = READINGS  # of the work done
    ceiling_s: float | None = None  # that was turned into items
    probe: Probe | None = None
    enough: bool = False  # fewer items than the ceiling has room for
    codes_kept: bool = False  # of all items, in its second stage


def work_path(folder: Path) -> Path:
    return folder / WORK


def known_work(plan: TrainPlan) -> Work | None:
    """What an earlier session of this run settled, while it is of this plan."""
    path = work_path(Path(plan.folder))
    try:
        known = Work.read(path) if path.exists() else None
    except RunError:
        return None
    if known is None or (plan.threads and known.threads != plan.threads):
        return None
    return (
        known
        if known.items_seen == plan.items_seen or (plan.items_seen is None and known.ceiling_s == _ceiling_s(plan))
        else None
    )


def settle_work(
    plan: TrainPlan,
    learner: Learner,
    stream: BatchStream,
    *,
    keepable: Keepable | None = None,
    readings: int,
    reading_s: Callable[[int], float],
    spent_s: Callable[[], float],
    clock: Callable[[], float],
) -> Work:
    """What this run does: the plan's items, those of an earlier session, or what a probe finds room for. All processes take part.

    `readings` are still to come; the first process measures one of so many images by `reading_s`.
    """
    known = broadcast_from_rank0(lambda: known_work(plan))
    if known is not None:
        return known
    passes = passes_of_sample(learner.family, plan.signal_steps)
    images_of = partial(reading_images, plan, passes=passes)

    def new_work() -> Work:
        threads = torch.get_num_threads()
        if plan.items_seen is not None:
            kept = keepable is not None and keepable.is_worth(plan.items_seen)
            work, images = Work(items_seen=plan.items_seen, threads=threads, codes_kept=kept), images_of(plan.items_seen)
        else:
            within = partial(work_within, plan, whole=stream.whole, readings=readings, threads=threads, keepable=keepable)
            few = min(IMAGES_FEW, images_of(0))
            few_s = min(reading_s(few), reading_s(few))
            least = images_within(plan, few_s / few, least=images_of(0), readings=readings)
            probe = Probe(step_s=step_s, reading_s=few_s if least == few else reading_s(least), encoding_s=encoding_s)
            if least == images_of(0) and (images := images_of(within(probe, spent_s=spent_s()).items_seen)) > least:
                probe = probe.model_copy(update={"reading_s": reading_s(images)})
            work = within(probe, spent_s=spent_s())
            images = least if least < images_of(0) else images_of(work.items_seen)
        moments = reading_moments(plan, work.items_seen, passes=passes)
        work = work.model_copy(update={"reading_images": images, "readings": moments})
        work.write(work_path(Path(plan.folder)))
        return work

    if plan.items_seen is None:
        step_s = measure_step(learner.family, plan, learner.on, stream, parts=learner.parts, clock=clock)
        encoding_s = measure_encoding(learner, stream, clock=clock) if keepable else 0.0
    return broadcast_from_rank0(new_work)


def reading_images(plan: TrainPlan, items_seen: int, *, passes: float) -> int:
    """Images of a reading of a training of so many items; those of the plan where it says. `passes`: of the network, a sample."""
    if plan.signal_images is not None:
        return plan.signal_images
    affordable = READINGS_SHARE * PASSES_OF_AN_ITEM * items_seen / (len(READINGS) * passes)
    item = plan.spec.item
    most = min(IMAGES_MAX, IMAGES_BYTES // (math.prod(item.stored_shape) * np.dtype(item.storage.dtype).itemsize))
    return max(IMAGES_MIN, min(most, int(affordable)))


def reading_moments(plan: TrainPlan, items_seen: int, *, passes: float) -> tuple[float, ...]:
    """When a training of so many items is read, as shares of its work. `passes`: of the network, a sample."""
    needed = len(READINGS) * ((plan.signal_images or IMAGES_MIN) * passes + LOSSES)
    short = needed > TUNING_SHARE * PASSES_OF_AN_ITEM * items_seen
    return FEW_READINGS if plan.start.needs_base() and short else READINGS


def images_within(plan: TrainPlan, image_s: float, *, least: int, readings: int) -> int:
    """Images of a reading, each of which takes so long: `least`, or as many as keep all readings within their share of the
    ceiling."""
    ceiling_s = _ceiling_s(plan)
    assert ceiling_s is not None
    affordable = int(READINGS_MOST * ceiling_s / (max(1, readings) * max(image_s, 1e-9)))
    return least if plan.signal_images is not None else min(least, max(IMAGES_FEW, affordable))


def passes_of_sample(family: Family, steps: int) -> float:
    """Evaluations of the network for a sample that is drawn in so many steps, where the family takes several."""
    own = getattr(family.config, "steps", None)
    if not family.card.stepwise or own is None:
        return family.card.steps
    passes: float = family.card.steps / family.Config.model_fields["steps"].default * min(steps, own)
    return passes


def work_within(
    plan: TrainPlan,
    probe: Probe,
    *,
    whole: int,
    readings: int,
    spent_s: float,
    threads: int,
    keepable: Keepable | None = None,
) -> Work:
    """The items that fit the ceiling of the plan, in steps of `whole`; at least one. Codes are kept where that is worth it."""
    ceiling_s = _ceiling_s(plan)
    assert ceiling_s is not None
    room_s = AIM * ceiling_s - spent_s - readings * probe.reading_s
    most = math.inf if plan.items_enough is None else plan.items_enough

    def items_in(seconds: float, *, step_s: float) -> int:
        return whole * max(1, math.floor(seconds / step_s))

    items, kept = items_in(room_s, step_s=probe.step_s), False
    if keepable is not None:
        second = sum(moment >= keepable.begins for moment in MOMENTS) / len(MOMENTS)
        step_s = max(probe.step_s - second * probe.encoding_s, STEP_LEAST * probe.step_s)
        with_codes = items_in(room_s - math.ceil(keepable.items / whole) * probe.encoding_s, step_s=step_s)
        kept = keepable.is_worth(int(min(with_codes, most)))
        items = with_codes if kept else items
    enough = most <= items
    chosen = int(min(items, most))
    return Work(items_seen=chosen, threads=threads, ceiling_s=ceiling_s, probe=probe, enough=enough, codes_kept=kept)


def measure_encoding(learner: Learner, stream: BatchStream, *, clock: Callable[[], float]) -> float:
    """Seconds in which the codes of a step's items are computed. Every process takes part."""
    x = stream.of(np.arange(ItemCodes(learner, stream).piece))

    def seconds() -> float:
        began = clock()
        encoded(learner, x)
        if learner.on.on_gpu:
            torch.cuda.synchronize(learner.on.device)
        return clock() - began

    seconds()  # allocates
    return min(seconds() for _ in range(RUNS)) * stream.batch_size / len(x)


def measure_step(
    family: Family,
    plan: TrainPlan,
    on: TrainingDevice,
    stream: BatchStream,
    *,
    parts: int,
    clock: Callable[[], float],
    of: Callable[[Iterable[float]], float] = min,
) -> float:
    """Seconds of a step, a mean over the run, by a copy of the family; `of` the runs at a moment. Every process takes part."""
    assert plan.ceiling is not None
    each_s = _probe_s(plan.ceiling.seconds) / len(MOMENTS)
    with torch.random.fork_rng(devices=[on.device] if on.on_gpu else []):
        learner = Learner(copy.deepcopy(family), plan, on)
        learner.parts = parts
        step = 0
        every = max(family.turns().values())  # in so many steps each turn was taken

        def seconds(count: int, progress: float) -> float:
            nonlocal step
            began = clock()
            for _ in range(count):
                learner.step(Batch(*stream(step), progress=progress, step=step), rate=0.0)
                step += 1
            if on.on_gpu:
                torch.cuda.synchronize(on.device)
            return clock() - began

        means = []
        for progress in MOMENTS:
            seconds(1, progress)  # allocates, and compiles where that is asked for
            once_s = max(seconds(1, progress), 1e-6)
            count, runs = broadcast_from_rank0(lambda once_s=once_s: _runs_of(each_s / once_s, whole=every))  # type: ignore[misc]
            means.append(of([seconds(count, progress) for _ in range(runs)]) / count)
    return math.fsum(means) / len(means)


def _probe_s(ceiling_s: float) -> float:
    """
    >>> [_probe_s(seconds) for seconds in (1, 20, 40, 120, 3600)]
    [0.5, 2.0, 3.0, 6.0, 20.0]
    """
    return min(PROBE_MAX_S, max(PROBE_MIN_S, PROBE_SHARE * ceiling_s, min(3.0, PROBE_SHARE_TO_3_S * ceiling_s)))


def _runs_of(steps: float, *, whole: int) -> tuple[int, int]:
    """So many steps in runs: how many steps each has, a multiple of `whole`, and how many runs."""
    runs = max(1, min(RUNS, round(steps / STEPS_MIN)))
    return -(-min(STEPS_MAX, max(STEPS_MIN, round(steps / runs))) // whole) * whole, runs


def _ceiling_s(plan: TrainPlan) -> float | None:
    return plan.ceiling.seconds if plan.ceiling else None
