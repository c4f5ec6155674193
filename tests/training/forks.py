"""Run by conftest.Forks: imports torch and Lightning once, then trains each plan of standard input in a fork.

Answers one line of JSON a plan: exit code, the checkpoint, digests of the images behind each reading, how often each event was,
the losses that were logged. A plan may be trained by several processes; what is answered is the first one's.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import sklearn.mixture  # noqa: F401 - what calibrates autoencoders: once, and not in each fork
from sklearn.datasets import load_digits

from components.core.arrays import Stored
from components.core.errors import GenwrightError
from components.core.records import Reading
from components.families import cards, find
from components.modalities.image.spec import ImageSpec
from components.runtime.processes import joined
from components.training.plan import TrainPlan
from components.training.start import build
from components.training.trainer import Trainer

RAW = load_digits()
IMAGES = (RAW.images[:96] * 255 / 16).round().astype(np.uint8)[..., None]


class Digits:
    item = ImageSpec(channels=1, height=8, width=8)
    labels = RAW.target[:96].astype(np.int64)

    def __len__(self) -> int:
        return len(IMAGES)

    def take(self, indices: npt.NDArray[np.int64]) -> Stored:
        return IMAGES[indices]


class Quiet:
    run_id = "run-1"

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []

    def params(self, values: Any) -> None: ...
    def metrics(self, values: Any, *, step: int) -> None:
        losses = {name: value for name, value in values.items() if name.startswith("train/loss_")}
        self.losses += [losses] if losses else []

    def image(self, name: str, image: Stored, *, step: int) -> None: ...
    def artifact(self, path: Path, folder: str = "") -> None: ...


def train(job: dict[str, Any]) -> dict[str, Any]:
    seen: Counter[str] = Counter()
    readings: list[str] = []

    def event(name: str) -> None:
        seen[name] += 1
        if name == job["at"] and seen[name] == job["n"]:
            os.kill(os.getpid(), job["signal"])

    def quality(images: Stored) -> Reading:
        event("quality")
        readings.append(hashlib.sha256(images.tobytes()).hexdigest())
        return Reading(distance=float(abs(images.mean() - IMAGES.mean())))

    class Watched(Trainer):
        def _train_step(self, done: float) -> Any:
            event("step")
            return super()._train_step(done)

    # Files appear by a rename: just before it is where a kill finds them half there.
    sys.addaudithook(lambda name, _: event("rename") if name == "os.rename" else None)
    plan = TrainPlan.model_validate(job["plan"])
    tracker = Quiet()
    trainer = Watched(build(plan), plan, split=Digits(), quality=quality, tracker=tracker)
    signal.signal(signal.SIGTERM, lambda *_: trainer.stop("SIGTERM"))
    checkpoint = trainer.run()
    told = {"checkpoint": checkpoint.model_dump(mode="json"), "readings": readings, "seen": seen}
    return told | {"losses": tracker.losses}


def fork(job: dict[str, Any]) -> dict[str, Any]:
    """One process, or as many as the job asks for: what the first one says, and the exit codes of all where there are several."""
    if job["plan"]["start"]["kind"] == "lora":
        import peft  # noqa: F401 - loaded here, once
    with tempfile.TemporaryDirectory() as folder:
        pids, pipes = zip(*(start(job, number, f"file://{folder}/meeting") for number in range(job["of"])), strict=True)
        said = [pipe.read() for pipe in pipes]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    every = {"exits": codes} if len(codes) > 1 else {}
    return {"exit": codes[0], **every, **json.loads(said[0] or "{}")}


def start(job: dict[str, Any], number: int, meeting: str) -> tuple[int, IO[str]]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.redirect_stdout(sys.stderr):
            code = 0
            try:
                with joined(number, job["of"], meeting=meeting) if job["of"] > 1 else contextlib.nullcontext():
                    told = train(job)
            except GenwrightError as error:
                told, code = {"error": str(error)}, error.exit_code
            with os.fdopen(writer, "w") as pipe:
                pipe.write(json.dumps(told))
        os._exit(code)
    os.close(writer)
    return pid, os.fdopen(reader)


def main() -> None:
    for key in cards():
        find(*key)
    from diffusers.models.unets.unet_2d import UNet2DModel  # noqa: F401 - loaded here, once

    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    for line in sys.stdin:
        print(json.dumps(fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
