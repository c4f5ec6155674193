"""What does each family make of a density that is known? Every variant on 2-D toys, on as many items as it needs.

    .venv/bin/python benchmarks/toys.py [--only vae/gaussian flow/glow ...] [--toys ring spiral board] [--again]

A point of the plane is an image of one pixel with two channels, so the classes that make images model it, with the defaults
they have for its size. A row is one variant on one toy, trained in one thread for so many items seen: the same on a slow and on a
busy machine. Rows stand in benchmarks/results/toys.jsonl as soon as they end, so an interrupted bench goes on where it was;
`--again` repeats the rows asked for. It ends with benchmarks/results/toys.md and docs/pictures/toys.png. What is measured:
benchmarks/planar/measures.py.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.planar.densities import TOYS
from benchmarks.shared import RESULTS, ROOT, circumstances

ROWS = RESULTS / "toys.jsonl"
PICTURE = ROOT / "docs" / "pictures" / "toys.png"
SHOWN = {  # metric -> heading and digits
    "nats": ("-log p of samples", 2),
    "near": ("near", 3),
    "least_part": ("least part", 3),
    "energy": ("energy", 1),
    "bits_per_dim": ("bits/dim", 3),
    "above_entropy": ("above entropy", 3),
}


ITEMS = 300_000  # seen in training, but for those below: until more of them change little, or for about a minute
ITEMS_OF = {
    "vae/gaussian": 1_000_000,
    "vae/gaussian on spiral": 2_200_000,
    "vae/beta": 1_000_000,
    "vae/vq on ring": 1_200_000,
    "autoregressive/vq-pixelcnn on ring": 1_200_000,
    "gan": 1_500_000,
    "gan/r3gan": 1_000_000,
    "gan/style": 900_000,
    "gan/wgan-gp": 2_000_000,
    "flow": 1_600_000,
    "flow/realnvp on board": 600_000,
    "diffusion/cascade": 850_000,
    "diffusion/ddpm": 2_200_000,
    "diffusion/ddpm on board": 800_000,
    "diffusion/ect": 2_000_000,
    "diffusion/latent": 1_400_000,
    "diffusion/latent on board": 300_000,
    "diffusion/latent-ect": 2_000_000,
}  # a family, a variant, or a variant on one toy, that needs others


def items_of(model: str, toy: str) -> int:
    keys = (f"{model} on {toy}", model, model.partition("/")[0])
    return next((ITEMS_OF[key] for key in keys if key in ITEMS_OF), ITEMS)


@dataclass(frozen=True)
class Row:
    """One variant on one toy."""

    model: str
    toy: str
    items: int
    seed: int = 0


def row_of(line: dict[str, Any]) -> Row:
    return Row(**{name: line[name] for name in Row.__annotations__})


def measured(row: Row) -> dict[str, Any]:
    """Train and judge one row: what a line of the results holds."""
    from benchmarks.planar.measures import measure, train
    from benchmarks.planar.picture import pack

    toy = TOYS[row.toy]
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        family, checkpoint = train(row.model, toy, Path(folder), items=row.items, seed=row.seed)
    train_s = time.process_time() - began
    images, metrics = measure(family, toy, seed=row.seed)
    return {
        "train_cpu_s": round(train_s, 1),
        "steps": checkpoint.steps_total,
        "best_step": checkpoint.step,
        "parameters": sum(parameter.numel() for parameter in family.parameters()),
        "metrics": {name: metric.model_dump(mode="json") for name, metric in metrics.items()},
        "counts": pack(images),
    }


def bench(rows: Sequence[Row]) -> None:
    """One row after another; its line is written when it ends, a failure too."""
    from components.core.errors import GenwrightError

    for row in rows:
        began = time.monotonic()
        try:
            told = measured(row)
        except (GenwrightError, RuntimeError) as error:
            told = {"failure": str(error).splitlines()[0]}
        told["wall_s"] = round(time.monotonic() - began, 1)
        line = asdict(row) | told | circumstances("genwright", "torch")
        with ROWS.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{row.model} on {row.toy}: {told.get('failure') or ', '.join(_cells(line))}", flush=True)


def read() -> list[dict[str, Any]]:
    """The last line of each row."""
    lines = [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []
    return list({row_of(line): line for line in lines}.values())


def write_tables(lines: Sequence[dict[str, Any]]) -> None:
    """toys.md: a table for each toy."""
    text = [
        "# Every variant on toys of known density",
        "",
        f"{lines[-1]['machine'].split(', load')[0]}, {lines[-1]['date']}. 4,000 samples a row, intervals of 95 % by the",
        "bootstrap, one seed of training. [docs/toys.md](../../docs/toys.md) says what is seen.",
        "",
        "- items: thousands seen in training; s: CPU seconds of training and its readings, in one thread of a busy machine.",
        "- -log p: nats under the true density, of samples; beside real ones (too high: between modes; too low: too narrow).",
        "- near: the share within three deviations of a centre. Least part: the share of the rarest of eight equal parts.",
        "- energy: energy distance to real points, in units of what real points get; 1 is the truth.",
        "- above entropy: bits/dim of held-out points less those of the true masses, which no likelihood can be below.",
    ]
    for toy in TOYS.values():
        text += ["", *_table(toy.name, [line for line in lines if line["toy"] == toy.name])]
    ROWS.with_suffix(".md").write_text("\n".join(text) + "\n")
    print(f"wrote {ROWS.with_suffix('.md')}")


def _table(toy: str, lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    entropy = TOYS[toy].entropy_bits() / 2
    real = next((line["metrics"]["nats_real"]["value"] for line in lines if "metrics" in line), float("nan"))
    yield f"## {toy}: entropy {entropy:.3f} bits/dim, -log p of real points {real:.2f}"
    yield ""
    yield "| model | items | s | " + " | ".join(heading for heading, _ in SHOWN.values()) + " |"
    yield "|---" * (len(SHOWN) + 3) + "|"
    for line in lines:
        cells = _cells(line) if "metrics" in line else [line["failure"], *[""] * (len(SHOWN) - 1)]
        yield f"| {line['model']} | {line['items'] // 1000:,} | {line.get('train_cpu_s', '')} | {' | '.join(cells)} |"


def _cells(line: dict[str, Any]) -> list[str]:
    """Each metric with its interval, or nothing."""
    found = [(line["metrics"].get(name), digits) for name, (_, digits) in SHOWN.items()]
    return ["" if m is None else f"{m['value']:.{n}f} [{m['low']:.{n}f}, {m['high']:.{n}f}]" for m, n in found]


def write_picture(lines: Sequence[dict[str, Any]], models: Sequence[str]) -> None:
    from benchmarks.planar.picture import draw, unpack

    shares = {(line["model"], line["toy"]): unpack(line["counts"]) for line in lines if "counts" in line}
    draw(shares, models, list(TOYS.values()), PICTURE)
    print(f"wrote {PICTURE}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--toys", nargs="+", default=list(TOYS), choices=list(TOYS))
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    from components.families import cards
    from components.policy.tables import load_tables

    order = list(dict.fromkeys((*load_tables().known_families, *(family for family, _ in cards()))))
    known = ["/".join(key) for key in sorted(cards(), key=lambda key: (order.index(key[0]), key[1]))]
    if unknown := sorted(set(options.only) - set(known)):
        parser.error(f"{', '.join(unknown)} given; allowed: {', '.join(known)}")
    wanted = [Row(model, toy, items_of(model, toy)) for toy in options.toys for model in options.only or known]
    there = set() if options.again else {row_of(line) for line in read() if "metrics" in line}
    RESULTS.mkdir(parents=True, exist_ok=True)
    bench([row for row in wanted if row not in there])
    lines = [line for line in read() if line["model"] in known and line["items"] == items_of(line["model"], line["toy"])]
    lines.sort(key=lambda line: known.index(line["model"]))
    write_tables(lines)
    write_picture(lines, known)


if __name__ == "__main__":
    main()
