"""How far is a dry run off? Ten briefs of five families: priced by a dry run, then trained and exported, and compared.

Both processes are those of the product, but read the clock of the processor and not that of the wall: on a machine that others
work on, too, seconds of the wall say how busy it was then. `--wall` reads the wall's.

    .venv/bin/python benchmarks/dry_runs.py [vae/gaussian-120000 ...] [--home FOLDER]

Writes benchmarks/results/dry-runs.jsonl, a row as soon as it ends, and dry-runs.md from all rows: seconds, memory and p95 of one
item as the dry run said and as they came to. A quarter of an hour on one core. Wanted: time within 25 %, memory within 15 %.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.shared import RESULTS, ROOT, circumstances

BRIEFS = {  # family/variant: two amounts of work, and what else makes the second one another kind
    "vae/gaussian": ((40_000, {}), (20_000, {"width": 64})),
    "gan/dcgan": ((60_000, {}), (30_000, {"batch_size": 32})),
    "diffusion/edm": ((8_000, {}), (4_000, {"width": 64})),
    "flow/realnvp": ((12_000, {}), (8_000, {"batch_size": 64})),
    "autoregressive/vq-pixelcnn": ((12_000, {}), (6_000, {"batch_size": 32})),
}
CASES = {f"{name}-{items}": (name, items, config) for name, several in BRIEFS.items() for items, config in several}
ROWS, TABLE = RESULTS / "dry-runs.jsonl", RESULTS / "dry-runs.md"
WANTED = {"seconds": 0.25, "memory_gb": 0.15, "latency_ms": None}


def compare(case: str, home: Path, *, wall: bool) -> dict[str, Any]:
    """One brief: what its dry run said, and what it came to."""
    from components.core.brief import Brief
    from components.pipeline import stages
    from components.pipeline.backends import Backends
    from components.pipeline.dry_run import dry_run
    from components.pipeline.lease import lease
    from components.pipeline.resolve import resolve
    from flows.settings import Settings

    name, items, config = CASES[case]
    family, variant = name.split("/")
    brief = Brief.model_validate(
        {
            "name": case.replace("/", "-"),
            "modality": "image",
            "data": {"path": "data/prepared/digits", "repo": str(ROOT)},
            "compute": {"items_seen": items, "device": "cpu", "threads": 1},
            "override": {"family": family, "variant": variant, "config": config},
        }
    )
    backends = Backends(Settings(home=home))
    run = resolve(brief, backends)
    if not wall:
        _by_processor_time()
    found = dry_run(run, backends)
    with lease(brief.name, backends) as held:
        trained = stages.train(run, held, backends)
        exported = stages.export(run, trained, backends)
    kept = trained.checkpoint
    assert kept.memory is not None
    return {
        "case": case,
        "family": name,
        "items_seen": items,
        "config": config,
        "dry_run_took_s": round(found.took_s, 1),
        "estimated_before": {
            "seconds": run.decision.estimate.training_s.value,
            "memory_gb": run.decision.estimate.memory_gb.value,
            "latency_ms": run.decision.estimate.latency_ms.value,
        },
        "dry_run": {"seconds": found.training.seconds, "memory_gb": found.training.peak_gb, "latency_ms": found.latency_ms},
        "actual": {
            "seconds": kept.train_s,
            "memory_gb": kept.memory.peak_gb,
            "latency_ms": _latency_ms(run, trained, exported, backends),
        },
        "text": found.training.text,
    }


def _by_processor_time() -> None:
    """From now on both processes are begun by this file, which gives them the other clock."""
    from components.pipeline import dry_run
    from components.training import supervise

    def begin(module: str, arguments: Sequence[str]) -> None:
        command = [sys.executable, __file__, "--process", module, *arguments]
        subprocess.run(command, check=True, cwd=ROOT)

    def dry(folder: Path) -> Any:
        from components.core.records import DryRun

        begin("components.pipeline.dry_worker", [str(folder / "order.json")])
        return DryRun.read(folder / dry_run.RESULT)

    def trained(_module: str, arguments: Sequence[str], **_: Any) -> None:
        begin("components.pipeline.worker", [arguments[0], str(os.getpid()), "0"])

    dry_run._measured = dry
    supervise.supervise = trained  # type: ignore[assignment]


def _process(module: str, *arguments: str) -> None:
    from components.training.dry_run import measure
    from components.training.trainer import Trainer

    for each in (measure, Trainer.__init__):
        assert each.__kwdefaults__ is not None
        each.__kwdefaults__["clock"] = time.process_time
    sys.argv = [module, *arguments]
    import_module(module).main()


def _latency_ms(run: Any, trained: Any, exported: Any, backends: Any) -> float:
    """p95 of one item of the trained graph, as a proof times it."""
    import numpy as np

    from components.evaluation.metrics.latency import timed_ms
    from components.pipeline.restored import restored
    from components.runtime.session import GraphSampler

    family = restored(run, trained, backends)
    told = {"spec": family.spec, "noise": family.noise_inputs(), "condition": exported.condition, "output": exported.output}
    sampler = GraphSampler(backends.workspace.open(exported.graph), **told, batch=1)
    sampler.enable_parallel_session()
    return float(np.quantile(timed_ms(sampler, None), 0.95))


def write_table(rows: Sequence[dict[str, Any]]) -> None:
    """Markdown: a row a brief, and how many are as near as was wanted."""
    off = {name: [row["dry_run"][name] / row["actual"][name] - 1 for row in rows] for name in WANTED}
    before = {name: [row["estimated_before"][name] / row["actual"][name] - 1 for row in rows] for name in WANTED}
    text = [
        "# How far a dry run is off",
        "",
        "Written by `.venv/bin/python benchmarks/dry_runs.py`: briefs of digits, each priced by `genwright plan --measure`, then",
        f"trained and exported; one thread of {rows[-1]['hardware']}, {rows[-1]['machine']}, {rows[-1]['date']}. Each figure: as",
        "the dry run said, as it came to, and by how much the first is off. In brackets what the tables' estimate was off by.",
        "",
        "| brief | config | dry run took | seconds | memory, GB | p95 of one item, ms |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            f"{row['dry_run'][name]:.3g}, {row['actual'][name]:.3g}: {row['dry_run'][name] / row['actual'][name] - 1:+.0%} "
            f"[{row['estimated_before'][name] / row['actual'][name] - 1:+.0%}]"
            for name in WANTED
        ]
        config = ", ".join(f"{key}: {value}" for key, value in row["config"].items()) or "default"
        work = f"{row['family']}, {row['items_seen']:,} items"
        text.append(f"| {work} | {config} | {row['dry_run_took_s']:.0f} s | {' | '.join(cells)} |")
    text.append("")
    for name, most in WANTED.items():
        worst, median = max(map(abs, off[name])), sorted(map(abs, off[name]))[len(rows) // 2]
        near = sum(abs(each) <= (most or 0) for each in off[name])
        within = "" if most is None else f" Within {most:.0%}, as wanted: {near} of {len(rows)}."
        tables = max(map(abs, before[name]))
        text.append(
            f"- {name}: off by {median:.0%} in the median, {worst:.0%} at most; the tables by {tables:.0%} at most.{within}"
        )
    TABLE.write_text("\n".join(text) + "\n")
    print(f"wrote {TABLE}")


def _rows() -> dict[str, dict[str, Any]]:
    """The last row of each brief."""
    return {row["case"]: row for row in map(json.loads, ROWS.read_text().splitlines())} if ROWS.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--home", type=Path)
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--process", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process:
        _process(*options.process)
        return
    if unknown := sorted(set(options.cases) - set(CASES)):
        parser.error(f"{', '.join(unknown)} given; allowed: {', '.join(CASES)}")
    known = _rows()
    with tempfile.TemporaryDirectory() as folder:
        home = options.home or Path(folder)
        for case in options.cases or [case for case in CASES if case not in known]:
            known[case] = compare(case, home, wall=options.wall) | circumstances("genwright", "torch")
            print(
                case,
                {name: round(known[case]["dry_run"][name] / known[case]["actual"][name] - 1, 2) for name in WANTED},
                flush=True,
            )
            with ROWS.open("a") as file:
                file.write(json.dumps(known[case]) + "\n")
    known = _rows()
    write_table([known[case] for case in CASES if case in known])


if __name__ == "__main__":
    main()
