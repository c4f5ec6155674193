"""What a training will take, measured by seconds of it on the device, before it is begun: time and memory.

    seconds = fit + steps * step + readings * reading        ( + the codes of all items, where a second stage keeps them)

Steps are those of a copy of the model on real batches, at moments of the whole run, as in the probe of a ceiling (work.py); but
here the median counts and not the fastest. Readings draw as many samples as that training would. The memory is the most that the
process held meanwhile, which is the process of the training but for its tracking.
"""

import math
import time
from collections.abc import Callable
from statistics import median

from components.core.family import Family
from components.core.protocols import ItemSplit, QualitySignal
from components.core.records import Ceiling, DryTraining
from components.training.codes import ItemCodes
from components.training.device import open_device
from components.training.drawing import drawn_at_once
from components.training.learner import Learner
from components.training.memory import fit_into_memory, peak_on
from components.training.plan import TrainPlan
from components.training.readings import Readings
from components.training.resume import SavedRun, save_run
from components.training.schedule import READINGS
from components.training.stream import BatchStream
from components.training.untracked import Untracked
from components.training.work import (
    MOMENTS,
    STEP_LEAST,
    Probe,
    measure_encoding,
    measure_step,
    passes_of_sample,
    reading_images,
    reading_moments,
    work_within,
)

PROBED = Ceiling(name="a dry run", seconds=60.0)  # whose probe takes three seconds


def measure(
    family: Family,
    plan: TrainPlan,
    split: ItemSplit,
    quality: QualitySignal,
    *,
    clock: Callable[[], float] = time.monotonic,
    probed: Ceiling = PROBED,
) -> DryTraining:
    """Of a plan that one process carries out. It leaves a state in the folder of the plan, which is to be thrown away."""
    began = clock()
    on = open_device(plan.device, threads=plan.threads)
    learner = Learner(family, plan, on)
    stream = BatchStream(
        split, batch_size=family.config.batch_size, seed=plan.seed, condition=plan.spec.condition, device=on.device
    )
    limit = None if plan.memory_gb is None else int(plan.memory_gb * 1e9)
    memory = fit_into_memory(learner.family, on, items=stream.batch_size, limit_bytes=limit)
    learner.parts = memory.parts
    if memory.recomputing:
        learner.recompute()
    readings = Readings(learner, plan, stream, quality=quality, tracker=Untracked())
    readings.at_once = drawn_at_once(learner.average.family, plan)
    keepable = ItemCodes(learner, stream).keepable(memory)
    fit_s = clock() - began
    trial = plan.model_copy(update={"ceiling": probed})
    step_s = measure_step(learner.family, trial, on, stream, parts=learner.parts, clock=clock, of=median)
    items_encoding_s = measure_encoding(learner, stream, clock=clock) if keepable else 0.0

    passes = passes_of_sample(learner.family, plan.signal_steps)

    def read_s(items: int) -> float:
        readings.images = reading_images(plan, items, passes=passes)
        return readings.seconds(readings.images, clock=clock)

    read_s(0)  # loads and allocates
    items = plan.items_seen
    if items is None:
        probe = Probe(step_s=step_s, reading_s=read_s(0), encoding_s=items_encoding_s)
        own = work_within(plan, probe, whole=stream.whole, readings=len(READINGS), spent_s=fit_s, threads=1, keepable=keepable)
        items = own.items_seen
    reading_s, encoding_s = read_s(items), 0.0
    save_run(plan, learner, SavedRun(step=0, read=0, spent_s=0.0, rate_scale=1.0))  # whose bytes are held, too
    if keepable is not None and keepable.is_worth(items):
        second = sum(moment >= keepable.begins for moment in MOMENTS) / len(MOMENTS)
        step_s = max(step_s - second * items_encoding_s, STEP_LEAST * step_s)
        encoding_s = math.ceil(keepable.items / stream.whole) * items_encoding_s
    return DryTraining(
        items_seen=items,
        steps=-(-items // stream.whole),
        step_s=step_s,
        reading_s=reading_s,
        fit_s=fit_s,
        encoding_s=encoding_s,
        readings=len(reading_moments(plan, items, passes=passes)),
        peak_gb=peak_on(on) / 1e9,
    )
