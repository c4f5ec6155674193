"""Does the trainer waste time? Images a second of its training over those of a plain PyTorch loop of the same network and losses.

    .venv/bin/python benchmarks/steps.py [--only diffusion/edm ...] [--data digits mnist] [--rounds 5]

The plain loop is what one writes by hand: a permutation of the images in memory, AdamW, a clipped gradient, an average of the
weights. Both take batches of the same real images, with the variant's defaults for a CPU and one thread. In each round one runs
after the other, in turns; a ratio is one within a round, of CPU seconds of this process from a tenth of the steps to the last, so
that starting costs neither. The trainer logs, saves and reads as in production, but two images a reading: what a reading takes is
a share of the work that it was given (components/training/work.py), not waste. Writes benchmarks/results/steps.json.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.families import dataset_of
from benchmarks.shared import RESULTS, circumstances

MODELS = ("diffusion/edm", "diffusion/ddpm", "gan/dcgan", "flow/glow", "vae/gaussian", "autoregressive/pixelcnn-pp")
RESULT = RESULTS / "steps.json"
WARM = 0.1  # of the steps come before the measured ones: where the trainer's first reading is
SECONDS = 12.0  # about, of a run: five readings of two images are then a hundredth of it


class Stamps:
    """A quality signal that notes when it was asked, in CPU seconds."""

    def __init__(self) -> None:
        self.at_s: list[float] = []

    def __call__(self, images: Any) -> Any:
        from components.core.records import Reading

        del images
        self.at_s.append(time.process_time())
        return Reading(distance=1.0)


def plan_of(model: str, dataset: Any, folder: str, *, steps: int) -> Any:
    """A training of so many steps, with the defaults of a CPU."""
    from components.core.records import DataSpec
    from components.families import find
    from components.training.plan import TrainPlan

    family, variant = model.split("/")
    spec = DataSpec.of(dataset)
    batch = find(family, variant).configure({}, spec, light=True).batch_size
    return TrainPlan(
        family=family,  # type: ignore[arg-type]
        variant=variant,
        spec=spec,
        dataset=dataset,
        folder=folder,
        run_id="",
        threads=1,
        items_seen=steps * batch,
        signal_images=2,
        signal_steps=1,
    )


def trainer_rate(family: Any, plan: Any, split: Any) -> float:
    """Images a second of CPU, of the trainer."""
    from components.training.trainer import Trainer
    from components.training.untracked import Untracked

    stamps = Stamps()
    Trainer(family, plan, split=split, quality=stamps, tracker=Untracked()).run()
    return float(0.9 * plan.items_seen / (stamps.at_s[-1] - stamps.at_s[0]))


def plain_rate(family: Any, plan: Any, split: Any) -> float:
    """The same of a loop."""
    import numpy as np
    import torch

    from components.core.family import Batch, to_data_units

    torch.set_num_threads(plan.threads)
    config, images = family.config, split.take(np.arange(len(split)))
    batch, rng, order = config.batch_size, torch.Generator().manual_seed(0), np.random.default_rng(0)
    average = copy.deepcopy(family).eval().requires_grad_(requires_grad=False)
    family.train()
    groups = family.parameter_groups()
    optimizers = {
        name: torch.optim.AdamW(group, lr=1e-4, betas=config.betas, weight_decay=config.weight_decay, fused=True)
        for name, group in groups.items()
    }
    steps, step, began = plan.items_seen // batch, 0, 0.0
    chosen: list[Any] = []
    while step < steps:
        if not chosen:
            whole = order.permutation(len(images))[: len(images) // batch * batch]
            chosen = list(whole.reshape(-1, batch))
        began = time.process_time() if step == int(WARM * steps) else began
        seen = Batch(to_data_units(images[chosen.pop()], plan.spec.item), progress=step / steps, step=step)
        for turn in family.due(seen):
            losses = family.losses(replace(seen, turn=turn), rng)
            for name, loss in losses.items():
                optimizers[name].zero_grad()
                loss.backward(inputs=groups[name], retain_graph=len(losses) > 1)
            for name in losses:
                if config.clip_norm is not None:
                    torch.nn.utils.clip_grad_norm_(groups[name], config.clip_norm)
                optimizers[name].step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(family.parameters()), 1 - config.ema_decay)
        step += 1
    return float((1 - WARM) * steps * batch / (time.process_time() - began))


def measure(model: str, data: str, *, rounds: int) -> dict[str, Any]:
    """The ratio of each round, in turns."""
    from components.data.shards import open_split
    from components.training.start import build

    dataset = dataset_of(data)[0]
    split = open_split(dataset.path, "train")

    def rate(of: Callable[[Any, Any, Any], float], steps: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            plan = plan_of(model, dataset, folder, steps=steps)
            return of(build(plan), plan, split)

    batch = plan_of(model, dataset, "", steps=1).items_seen
    steps = max(20, int(SECONDS * rate(plain_rate, 20) / batch))
    rates: dict[Any, list[float]] = {trainer_rate: [], plain_rate: []}
    for number in range(rounds):
        for of in list(rates)[:: 1 if number % 2 else -1]:
            rates[of].append(rate(of, steps))
    ratios = [trainer / plain for trainer, plain in zip(*rates.values(), strict=True)]
    shown = {"ratio": median(ratios), "low": min(ratios), "high": max(ratios)}
    return {
        "model": model,
        "data": data,
        "batch": batch,
        "steps": steps,
        "rounds": rounds,
        **{name: round(value, 3) for name, value in shown.items()},
        "plain_images_per_cpu_s": round(median(rates[plain_rate])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--data", nargs="+", choices=("digits", "mnist"), default=["digits", "mnist"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for data in options.data:
        for model in options.only:
            row = measure(model, data, rounds=options.rounds)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            keep(row | circumstances("torch", "diffusers"))


def keep(row: dict[str, Any]) -> None:
    """Put a row in the place of the one that was there."""
    known = json.loads(RESULT.read_text()) if RESULT.exists() else []
    rest = [one for one in known if (one["model"], one["data"]) != (row["model"], row["data"])]
    RESULT.write_text(json.dumps([*rest, row], indent=2) + "\n")


if __name__ == "__main__":
    main()
