"""What the learning rate of a fine-tuning should be, and the rate and the rank of LoRA: FD-local of a base of the digits 0 to 4
that is fine-tuned on 5 to 9, at shares of its rate, beside a training from scratch of the same work. UCI digits, 8x8, without
classes, one thread.

    .venv/bin/python -m benchmarks.base_rates [--only vae/gaussian ...] [--base 40000] [--items 15000] [--lora 8:1 8:3 ...]

Writes benchmarks/results/base_rates.json: the FD-local of each reading (512 samples on fixed noise), with hardware and versions.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from benchmarks.shared import RESULTS, circumstances
from components.core.arrays import Stored
from components.core.brief import LoraBrief
from components.core.records import Checkpoint, DataSpec, LocalDataset, Reading
from components.evaluation.extractor import train_extractor
from components.evaluation.signal import FixedNoiseQuality
from components.modalities.image.spec import ImageSpec
from components.training.folder import weights_path
from components.training.plan import TrainPlan
from components.training.start import Start, build
from components.training.start.finetune import Finetune, recipe
from components.training.start.lora import Lora
from components.training.start.scratch import Scratch
from components.training.trainer import Trainer
from components.training.untracked import Untracked

MODELS = ("vae/gaussian", "gan/sngan", "diffusion/edm")
SHARES = (1.0, 0.3, 0.1)
LORAS = ("4:3", "8:1", "8:3", "8:10", "16:3")
ITEM = ImageSpec(channels=1, height=8, width=8)


class Half:
    """Five of the ten digits."""

    item = ITEM

    def __init__(self, *, first: int) -> None:
        raw = load_digits()
        keep = (raw.target >= first) & (raw.target < first + 5)
        self.name = f"from {first}"
        self.images = (raw.images[keep] * 255 / 16).round().astype(np.uint8)[..., None]
        self.labels = raw.target[keep].astype(np.int64) - first

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Any) -> Stored:
        return self.images[indices]


def train(
    model: str, split: Half, signal: FixedNoiseQuality, folder: Path, *, items: int, start: Start, seed: int, **config: Any
) -> tuple[Checkpoint, list[float]]:
    """The best checkpoint of a training, and what each reading saw."""
    family, variant = model.split("/")
    dataset = LocalDataset(
        name=split.name, path="", repo=".", rev="", md5=split.name, item=ITEM, count=len(split),
        classes=(), splits={"train": len(split)}, mean=(127.5,), std=(64.0,),
    )  # fmt: skip
    plan = TrainPlan(
        family=family, variant=variant, config=config, spec=DataSpec(item=ITEM, std=0.7), dataset=dataset,
        folder=str(folder), run_id="", threads=1, items_seen=items, start=start, seed=seed, signal_images=512,
    )  # fmt: skip
    seen: list[float] = []

    def quality(images: Stored) -> Reading:
        reading = signal(images)
        seen.append(round(reading.distance, 3))
        return reading

    best = Trainer(build(plan), plan, split=split, quality=quality, tracker=Untracked()).run()
    return best, seen


def measure(
    model: str, *, base_items: int, items: int, shares: Sequence[float], loras: Sequence[str], folder: Path
) -> dict[str, list[float]]:
    """FD-local at each reading: of the base on its own data, from scratch on the other, at each share of the base's rate, and of
    LoRA at each rank and multiple of that rate."""
    old, new = Half(first=0), Half(first=5)
    of_old, of_new = (
        FixedNoiseQuality.of(
            train_extractor(half, classes=5, dest=folder / f"extractor {half.name}", dataset_md5=half.name), half, seed=0
        )
        for half in (old, new)
    )
    torch.set_num_threads(1)
    base, seen = train(model, old, of_old, folder / "base", items=base_items, start=Scratch(), seed=0)
    rows = {"base": seen}
    rows["scratch"] = train(model, new, of_new, folder / "scratch", items=items, start=Scratch(), seed=1)[1]
    start = Finetune(base=base, weights=weights_path(folder / "base" / "best", base.weights))
    for share in shares:
        config = recipe(base, variant=base.variant, start=Finetune)
        config |= {"lr_peak": config["lr_peak"] * share}
        rows[f"{share:g}"] = train(model, new, of_new, folder / f"{share:g}", items=items, start=start, seed=1, **config)[1]
    if model.startswith("gan"):
        frozen = start.model_copy(update={"freeze": True})
        config = recipe(base, variant=base.variant, start=Finetune)
        rows["FreezeD"] = train(model, new, of_new, folder / "frozen", items=items, start=frozen, seed=1, **config)[1]
    for each in loras:
        rank, _, times = each.partition(":")
        lora = Lora(base=base, weights=start.weights, lora=LoraBrief(rank=int(rank)))
        config = recipe(base, variant=base.variant, start=Finetune)
        config |= {"lr_peak": config["lr_peak"] * float(times)}
        name = f"LoRA {each}"
        rows[name] = train(model, new, of_new, folder / name.replace(":", "-"), items=items, start=lora, seed=1, **config)[1]
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--base", type=int, default=40_000, help="items that the base sees")
    parser.add_argument("--items", type=int, default=15_000, help="items that a fine-tuning sees")
    parser.add_argument("--lora", nargs="+", default=LORAS, metavar="RANK:TIMES", help="of LoRA, ranks and multiples of the rate")
    parser.add_argument("--shares", nargs="*", type=float, default=SHARES, help="of the base's rate, at which all weights learn")
    options = parser.parse_args(arguments)
    path = RESULTS / "base_rates.json"
    for model in options.only:
        with TemporaryDirectory() as folder:
            rows = measure(
                model,
                base_items=options.base,
                items=options.items,
                shares=options.shares,
                loras=() if model.startswith("gan") else options.lora,
                folder=Path(folder),
            )
        for name, seen in rows.items():
            print(f"{model:16} {name:8} {seen}", flush=True)
        known = json.loads(path.read_text()) if path.exists() else {}
        how = {"base_items": options.base, "items": options.items} | circumstances("torch")
        path.write_text(json.dumps(known | {model: how | {"fd": rows}}, indent=2) + "\n")


if __name__ == "__main__":
    main()
