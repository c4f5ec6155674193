"""What do channels-last memory and torch.compile give in training? Steps a second of each, beside the plain ones.

    .venv/bin/python benchmarks/training.py [--device cuda] [--only diffusion/edm ...] [--settings channels_last ...]

Each round trains every setting of a variant for `--seconds`, one after another in a new order, on the same images; a ratio is
one of steps a second within a round, so that what else the machine does falls on all alike. Images are 8x8 grey on a CPU, the
demo's, and 32x32 in colour on a GPU; `--side` sets another. Writes benchmarks/results/training-DEVICE.json: the median ratio of
the rounds with the lowest and highest, and the seconds that a model and its first two steps take, in which compilation happens;
the second compiled setting finds part of its work done. With `--only` the rows of other variants stay as they are.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.shared import RESULTS, circumstances

MODELS = ("diffusion/edm", "gan/r3gan", "gan/style", "flow/glow", "autoregressive/pixelcnn-pp", "vae/gaussian")
SETTINGS = {
    "plain": {},
    "channels_last": {"channels_last": True},
    "compiled": {"compiled": True},
    "both": {"channels_last": True, "compiled": True},
}


def steps_of(model: str, *, side: int, device: str, threads: int, **setting: bool) -> Callable[[], None]:
    """One training step of a variant under a setting, on random images, to be called again and again."""
    import torch

    from components.core.family import Batch
    from components.core.records import DataSpec, LocalDataset
    from components.modalities.image.spec import ImageSpec
    from components.training.device import open_device
    from components.training.learner import Learner
    from components.training.plan import TrainPlan
    from components.training.start import build

    family, variant = model.split("/")
    channels = 1 if side == 8 else 3
    item = ImageSpec(channels=channels, height=side, width=side)
    dataset = LocalDataset(
        name="random", path="", repo=".", rev="", md5="", item=item, count=1, classes=(), splits={}, mean=(127.5,), std=(64.0,),
    )  # fmt: skip
    spec = DataSpec(item=item)
    plan = TrainPlan(
        family=family, variant=variant, spec=spec, dataset=dataset, folder="", run_id="", device=device, threads=threads,
        items_seen=1,
        **setting,
    )  # fmt: skip
    learner = Learner(build(plan), plan, open_device(device, threads=threads))
    rng = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (learner.family.config.batch_size, *spec.shape), generator=rng)
    images_BCHW = (levels / 127.5 - 1).to(device)
    taken = iter(range(1 << 60))

    def step() -> None:
        learner.step(Batch(images_BCHW, progress=1.0, step=next(taken)), rate=1e-4)

    return step


def rate(step: Callable[[], None], *, seconds: float, device: str) -> float:
    """Steps a second."""
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        step()
        done += 1
        if device == "cuda" and done % 8 == 0:
            _wait(device)
    _wait(device)
    return done / max(passed, time.perf_counter() - start)


def measure(
    model: str, settings: Sequence[str], *, side: int, device: str, threads: int, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """A row a setting; one that cannot be trained says why."""
    steps_of(model, side=side, device=device, threads=threads)()  # imports, which are nobody's seconds
    steps, rows = {}, {}
    for name in dict.fromkeys(["plain", *settings]):
        start = time.perf_counter()
        try:
            step = steps_of(model, side=side, device=device, threads=threads, **SETTINGS[name])
            step()
            step()
        except Exception as error:  # noqa: BLE001 - the row says what happened
            rows[name] = {"failure": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
            continue
        _wait(device)
        steps[name], rows[name] = step, {"start_s": round(time.perf_counter() - start, 1)}
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        for name in random.Random(number).sample(list(steps), len(steps)):
            rates[name].append(rate(steps[name], seconds=seconds, device=device))
    for name, found in rates.items():
        ratios = [one / plain for one, plain in zip(found, rates["plain"], strict=True)]
        shown = {"ratio": median(ratios), "low": min(ratios), "high": max(ratios), "steps_per_s": median(found)}
        rows[name] |= {key: round(value, 3) for key, value in shown.items()}
    return [{"setting": name, **row} for name, row in rows.items()]


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--side", type=int)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    from components.runtime.threads import default_threads

    threads = options.threads or default_threads()
    side = options.side or (32 if options.device == "cuda" else 8)
    path = RESULTS / f"training-{options.device}.json"
    for model in options.only:
        shape = {"side": side, "device": options.device, "threads": threads}
        rows = measure(model, options.settings, **shape, rounds=options.rounds, seconds=options.seconds)
        for row in rows:
            print(model, "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        how = {**shape, "rounds": options.rounds, "seconds": options.seconds}
        keep(path, model, how | circumstances("torch", "diffusers", device=options.device), rows)
    print(f"wrote {path}")


def keep(path: Path, model: str, how: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Put the rows of a variant, and how they were measured, in place of those that were there."""
    known = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known | {model: {**how, "rows": rows}}, indent=2) + "\n")


if __name__ == "__main__":
    main()
