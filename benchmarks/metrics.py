"""Does each metric see the fault that it is there for, and more of it as the fault grows? Planted faults on MNIST.

    .venv/bin/python benchmarks/metrics.py [--samples 1000] [--only collapse ...]

Faults (benchmarks/planted.py) are planted in real digits that neither the extractor nor the reference holds, and each level is
scored like a model. benchmarks/results/metrics.json has the values with their intervals; docs/metrics.md and
docs/pictures/metrics.png are made from it.
"""

import argparse
import json
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.intervals import FITTED, POOL
from benchmarks.intervals import populations as drawn_from
from benchmarks.planted import FAULTS, Clean, Fault, in_order
from benchmarks.shared import RESULTS, ROOT, circumstances

OUT = RESULTS / "metrics.json"
PAGE, PICTURE = ROOT / "docs" / "metrics.md", ROOT / "docs" / "pictures" / "metrics.png"
BEGIN, END = "<!-- measured by benchmarks/metrics.py: begin -->", "<!-- end -->"
SHOWN = "![Each metric against the size of the fault that it is to see](pictures/metrics.png)"
REFERENCE = 1000


class Shelf:
    """Hands out images in their order."""

    def __init__(self, images: Any, subject: str) -> None:
        self.images, self.subject, self.at = images, subject, 0

    def __call__(self, seeds: Sequence[int], asked: Any = None) -> Any:
        self.at += len(seeds)
        return self.images[self.at - len(seeds) : self.at]


def value_of(metric: str, seen: Any) -> Any:
    """One metric, by its id, from the file that defines it."""
    from components.evaluation.definitions import defined

    module = next(file.module for file in defined("metrics") if metric in {words.id for words in file.words})
    return import_module(module).compute(seen)[metric]


def measure(faults: Sequence[Fault], samples: int) -> dict[str, Any]:
    """The metrics that each fault is to move, at every level."""
    from components.evaluation.evaluated import Evaluated
    from components.evaluation.samples import draw_samples
    from components.evaluation.yardstick import make_yardstick

    dataset, extractor, train, pools = drawn_from()
    clean = Clean(pools["real"].images, pools["real"].labels, train.images, samples)
    yardstick = make_yardstick(
        dataset=dataset, train=train, reference=pools["reference"].part(np.arange(REFERENCE)), extractor=extractor, seed=0,
        samples=samples,
    )  # fmt: skip
    found: dict[str, Any] = {}
    for fault in faults:
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in fault.moves}
        for level in fault.levels:
            images = fault.plant(clean, level)
            drawn = draw_samples(Shelf(images, f"planted:{fault.name} {level}"), seed=0, samples=len(images))
            seen = Evaluated(drawn, yardstick)
            for name, each in rows.items():
                each.append(value_of(name, seen).model_dump(mode="json", include={"value", "low", "high"}))
        found[fault.name] = {"unit": fault.unit, "levels": fault.levels, "metrics": rows}
        for name, each in rows.items():
            values = [row["value"] for row in each]
            said = "in order" if in_order(values, fault.moves[name]) else "NOT IN ORDER"
            print(f"{fault.name:18} {name:16} {'  '.join(f'{value:.4g}' for value in values)}  {said}", flush=True)
    return found


def write_page(told: dict[str, Any]) -> None:
    """The table between the marks of docs/metrics.md."""
    lines = [
        f"{told['samples']:,} samples against {REFERENCE:,} reference images of MNIST; value and 95 % interval.",
        "",
        SHOWN,
        "",
    ]
    for fault in (each for each in FAULTS if each.name in told["faults"]):
        rows = told["faults"][fault.name]
        levels = [f"{level:g}" for level in rows["levels"]]
        lines += [f"| {fault.name} ({rows['unit']}) | {' | '.join(levels)} | in order |", f"|---|{'---|' * (len(levels) + 1)}"]
        for name, each in rows["metrics"].items():
            cells = [f"{row['value']:.3g} [{row['low']:.3g}, {row['high']:.3g}]" for row in each]
            ordered = in_order([row["value"] for row in each], fault.moves[name])
            lines.append(f"| `{name}` | {' | '.join(cells)} | {'yes' if ordered else '**no**'} |")
        lines.append("")
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"{END}{after}", encoding="utf-8")


def write_picture(told: dict[str, Any]) -> None:
    """A panel for each fault: every metric with its interval, from 0 (no fault) to 1 (the largest value of the panel's line)."""
    from matplotlib.figure import Figure

    from components.evaluation.definitions import words_of

    figure = Figure(figsize=(11, 8), layout="constrained")
    for axes, (fault, rows) in zip(figure.subplots(3, 3).flat, told["faults"].items(), strict=False):
        at = np.arange(len(rows["levels"]))
        for offset, (name, each) in enumerate(rows["metrics"].items()):
            value, low, high = (np.array([row[key] for row in each]) for key in ("value", "low", "high"))
            most = max(abs(value).max(), 1e-12)
            axes.errorbar(
                at + 0.06 * offset, value / most, yerr=[(value - low) / most, (high - value) / most], marker="o", markersize=3.5,
                capsize=2, linewidth=1.2, label=f"{words_of(name).name}, most {most:.3g}",
            )  # fmt: skip
        axes.set_xticks(at, [f"{level:g}" for level in rows["levels"]])
        axes.set(title=fault, xlabel=rows["unit"])
        axes.set_ylim(-0.08, 1.35)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="best")
    figure.supylabel("value over its largest, with the 95 % interval")
    figure.savefig(PICTURE, dpi=110)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=[], choices=[fault.name for fault in FAULTS])
    args = parser.parse_args(given)
    told = json.loads(OUT.read_text()) if OUT.exists() else {"faults": {}}
    faults = [fault for fault in FAULTS if not args.only or fault.name in args.only]
    found = told["faults"] | measure(faults, args.samples)
    told = {"samples": args.samples, "fitted": FITTED, "pool": POOL, "faults": found} | circumstances("numpy", "torch")
    told["faults"] = {fault.name: found[fault.name] for fault in FAULTS if fault.name in found}
    OUT.write_text(json.dumps(told, indent=1) + "\n")
    write_page(told)
    write_picture(told)


if __name__ == "__main__":
    main()
