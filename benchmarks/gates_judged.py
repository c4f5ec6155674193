"""What the rows of benchmarks/gates.py were to reach, and the table.

A row is one kind of model at one true ratio: {"kind", "ratio", "true": {"distance", "fd"}, "pass", "fail", "undecided": shares of
the trials, "wholly beyond the margin": the share whose interval lies above the margin, "held": whose interval holds the truth,
"gates": "first", the gate on the dataset's own features, or "both", a whole release}.
"""

from typing import Any

from benchmarks.shared import verdicts

WANTED = {  # true ratio -> verdict -> how, and what share of the trials
    1.0: {"pass": (">=", 0.95), "fail": ("<=", 0.01)},
    1.25: {"pass": ("<=", 0.05)},
    1.35: {"fail": (">=", 0.8)},
    1.6: {"fail": (">=", 0.97)},
}


def judge_rows(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each wanted share of each row, and whether it is reached."""
    return verdicts(
        {
            f"{named(row)}, true ratio {row['ratio']:g}: share that {verdict}es".replace("failes", "fails"): (
                row[verdict],
                how,
                limit,
            )
            for row in rows
            for verdict, (how, limit) in WANTED.get(row["ratio"], {}).items()
        }
    )


def named(row: dict[str, Any]) -> str:
    """Its models, and whether both gates judge them."""
    return f"{row['kind']}, both gates" if row["gates"] == "both" else str(row["kind"])


def table(told: dict[str, Any]) -> str:
    """Markdown."""
    first = told["rows"][0]
    samples = ", ".join(f"{each:,}" for each in first["samples"])
    lines = [
        "# What the gate on the distance tells apart",
        "",
        f"{told['machine'].partition(',')[0]}, {told['hardware']}, {told['date']}: {told['wall_s'] / 60:.0f} minutes with --jobs "
        f"{told['jobs']}. {first['trials']} trials a row, each with {first['reference']} held-out items drawn anew and {samples} "
        "samples of either side. `make bench-gates` repeats it; `benchmarks/gates.py` says what the models are. In rows of "
        "both gates the verdict is that of a whole release by the two, all other figures are of the first, and the true ratio on "
        "the unseen features stands behind that on the first.",
        "",
        "| models | true ratio | by FD-local | pass | fail | undecided | interval wholly beyond 1.25 | holds the truth | "
        "mean ± deviation | looks |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in told["rows"]:
        shares = " | ".join(f"{row[name]:.1%}" for name in ("pass", "fail", "undecided", "wholly beyond the margin", "held"))
        true = row["true"]
        ratios = ", ".join(f"{true[name]:.2f}" for name in ("distance", "unseen") if name in true)
        lines.append(
            f"| {named(row)} | {ratios} | {true['fd']:.2f} | {shares} | "
            f"{row['mean']:.2f} ± {row['deviation']:.2f} | {row['looks']:.1f} |"
        )
    lines += ["", "| what was to be reached | found | wanted | reached |", "|---|---|---|---|"]
    for name, each in told["reached"].items():
        lines.append(f"| {name} | {each['found']:.3f} | {each['wanted']} | {'yes' if each['reached'] else 'no'} |")
    return "\n".join([*lines, ""])
