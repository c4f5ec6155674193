"""Does training end where its brief says? Trains one brief a kind of budget on digits, and compares what was granted with what
was spent.

    .venv/bin/python benchmarks/budgets.py [minutes-0.5 ...] [--override diffusion/edm] [--home FOLDER]

Writes benchmarks/results/budgets.json: the seconds or items granted and spent, proof aside, what ended the training, and what the
probe found. Forty minutes, thirty of which are those that 0.05 USD pay of a CPU.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.shared import RESULTS, ROOT, circumstances, verdicts

BUDGETS: dict[str, dict[str, float]] = {
    "minutes-0.5": {"minutes": 0.5},
    "minutes-2": {"minutes": 2.0},
    "gpu_hours-0.02": {"gpu_hours": 0.02},
    "items_seen-90000": {"items_seen": 90_000},
    "usd-0.05": {"usd": 0.05},
}
APART = 0.15  # of what is granted


def train(name: str, home: Path, override: str) -> dict[str, Any]:
    """One training: what its brief grants, and what it spent."""
    from components.core.brief import Brief
    from components.pipeline import stages
    from components.pipeline.backends import Backends
    from components.pipeline.lease import lease
    from components.pipeline.resolve import resolve
    from components.training.work import Work, work_path
    from flows.settings import Settings

    family, variant = override.split("/")
    brief = Brief.model_validate(
        {
            "name": f"budget-{name.replace('.', '-')}",
            "modality": "image",
            "data": {"path": "data/prepared/digits", "repo": str(ROOT)},
            "compute": {**BUDGETS[name], "device": "cpu"},
            "override": {"family": family, "variant": variant},
        }
    )
    backends = Backends(Settings(home=home))
    run = resolve(brief, backends)
    with lease(brief.name, backends) as held:
        checkpoint = stages.train(run, held, backends).checkpoint
    budget = run.decision.budget
    assert budget is not None
    ceiling = budget.lowest()
    granted = float(checkpoint.items_planned) if ceiling is None else ceiling.seconds
    spent = float(checkpoint.items_seen) if ceiling is None else checkpoint.train_s
    work = Work.read(work_path(stages.folder_of(run, backends.home, "train") / "train"))
    return {
        "granted": granted,
        "unit": "items" if ceiling is None else "s",
        "spent": round(spent, 1),
        "share": round(spent / granted, 4),
        "ended_by": checkpoint.stopped_by,
        "items_seen": checkpoint.items_seen,
        "items_planned": checkpoint.items_planned,
        "threads": checkpoint.threads,
        "probe": work.probe and work.probe.model_dump(),
        "verdict": verdicts({"apart": (round(abs(spent / granted - 1), 4), "<=", APART)}),
        "headline": budget.text,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *BUDGETS], default=[*BUDGETS])
    parser.add_argument("--override", default="vae/gaussian")
    parser.add_argument("--home", type=Path)
    options = parser.parse_args()
    path = RESULTS / "budgets.json"
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            row = train(name, options.home or Path(folder), options.override)
        known = json.loads(path.read_text()) if path.exists() else {}
        known[f"{options.override} {name}"] = row | circumstances("genwright", "torch")
        path.write_text(json.dumps(known, indent=2) + "\n")
        apart = row["verdict"]["apart"]
        print(f"{name}: {row['spent']:,g} of {row['granted']:,g} {row['unit']}, ended by {row['ended_by']}: {apart}", flush=True)


if __name__ == "__main__":
    main()
