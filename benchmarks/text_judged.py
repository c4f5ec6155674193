"""What the rows of benchmarks/text.py say: what was to be reached, and the table.

A row is {metric: {value, low, high}} and what it took; that of the road has one of these for the teacher and one for the student.
"""

import statistics
from typing import Any

from benchmarks.shared import verdict_lines, verdicts
from benchmarks.text_road import PIPELINE_STEPS, STUDENT, TEACHER
from benchmarks.text_ways import NEAREST, WAYS

FOUND = 5  # k of R@k
TIMES_CHANCE, OF_REAL, FASTER, LOST, ADDED_MS, MINUTES = 10.0, 0.6, 10.0, 0.05, 5.0, 45.0
PROMPTS = {"new": "a new prompt", "long": "a new prompt of all the tokens that are read"}
NOTES = """What the figures do not say. The judge has learnt the pictures that the generators learnt from, and knows a learnt
picture of a like caption better than a real one that it never saw: so the nearest learnt caption's own picture can find its
caption more often than the real one does, and a way that draws what it learnt gains by it (`copies` tells how much of that is by
heart). The best of the four ways is chosen by the figures that are shown. Of six intervals of 95 % one or
more misses chance one time in four. One seed; other seeds move them by more than the
intervals say, which are of the captions alone. The road's autoencoder is trained beside the seconds of its teacher, as it comes
with a base."""


def chance(told: dict[str, Any]) -> float:
    return FOUND / float(told["asked"]["captions"])


def best_way(told: dict[str, Any]) -> str:
    return max(WAYS, key=lambda name: told["rows"][name]["text_r5"]["value"])


def judge(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the figures were to reach, and whether they did."""
    found, by_chance = told["rows"], chance(told)
    best = best_way(told)
    own, real = found[best]["text_r5"]["value"], found[best]["text_r5_real"]["value"]
    road, rates = found["road"], found["timed"]["images_per_s"]
    teacher, lost = road[TEACHER]["text_r5"]["value"], road[STUDENT]["text_lost"]
    apart: dict[str, tuple[float, str, float]] = {
        f"R@5 of the best way, {best}, over chance": (own / by_chance, ">=", TIMES_CHANCE),
        "the same over the judge's own on real pictures": (own / real, ">=", OF_REAL),
    }
    for name, row in ({each: found[each] for each in WAYS} | {each: road[each] for each in (TEACHER, STUDENT)}).items():
        apart[f"{name}: how far chance lies outside of the interval of shuffled captions"] = (
            _outside(row["text_r5_shuffled"], by_chance), "<=", 0.0,
        )  # fmt: skip
    steps = PIPELINE_STEPS[0]  # those that it was taught by
    pairs = zip(rates["graph"], rates[f"pipeline, {steps} steps"], strict=True)
    faster = statistics.median(ours / theirs for ours, theirs in pairs)
    apart[f"images a second of the student's graph, over the pipeline's in {steps} steps"] = faster, ">=", FASTER
    low, high = lost["low"] / teacher, lost["high"] / teacher
    apart[f"share of its teacher's R@5 that the student loses [{low:.2f}, {high:.2f}]"] = lost["value"] / teacher, "<=", LOST
    apart["the student's graph and torch differ by, in data units"] = road["told"]["parity"], "<=", 1e-4
    apart["the teacher and its pipeline differ by, in data units"] = found["timed"]["pipeline_differs"], "<=", 1e-3
    for name, said in PROMPTS.items() if "prompts" in told else ():
        apart[f"ms that {said} adds to a request, p50 (benchmarks/prompts.py)"] = told["prompts"][name], "<=", ADDED_MS
    apart["minutes of this bench"] = told["asked"]["minutes"], "<=", MINUTES
    return verdicts(apart)


def _outside(cell: dict[str, float], figure: float) -> float:
    return max(0.0, cell["low"] - figure, figure - cell["high"])


def table(told: dict[str, Any]) -> str:
    """Markdown."""
    asked, found, road = told["asked"], told["rows"], told["rows"]["road"]
    first, made = found[WAYS[0]], asked["made_s"]
    lines = {name: found[name] for name in WAYS} | {name: road[name] for name in (TEACHER, STUDENT)} | {NEAREST: found[NEAREST]}
    timed = found["timed"]["images_per_s"]
    return "\n".join(
        [
            "# Asked in words: emoji whose captions were never seen",
            "",
            f"{told['machine'].partition(',')[0]}, {told['hardware']}, {told['date']}: {asked['minutes']:.0f} minutes with "
            f"--jobs {asked['jobs']}, one thread a row; each way {asked['seconds']:.0f} seconds of one CPU; "
            f"one seed. {asked['items']['learnt']:,} pictures of 32 x 32 in two styles are learnt from, and "
            f"{asked['items']['judged']:,} of as many captions judge. R@k: the share of what was drawn whose caption "
            f"is among the k nearest of these; by chance {chance(told):.4f} for k = 5. In brackets 95 % of resampled captions. "
            "What lies in CACHE took beside that, in seconds of the CPU: "
            + ", ".join(f"{name} {seconds:.0f}" for name, seconds in made.items())
            + f". `benchmarks/text.py --seconds {asked['seconds']:.0f}` repeats it.",
            "",
            "| way | R@1 | R@5 | R@5, shuffled | FD-local | coverage | copies | steps | guidance |",
            "|---|---|---|---|---|---|---|---|---|",
            f"| the judge's own on real pictures |  | {_cell(first['text_r5_real'])} |  |  |  |  |  |  |",
            *(_line(name, row, road) for name, row in lines.items()),
            "",
            NOTES,
            "",
            _speeds(timed, road["told"]),
            "",
            *verdict_lines(told["reached"]),
            "",
        ]
    )  # fmt: skip


def _cell(cell: dict[str, float]) -> str:
    return f"{cell['value']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"


def _line(name: str, row: dict[str, Any], road: dict[str, Any]) -> str:
    took = {TEACHER: road["told"]["steps"], STUDENT: road["told"]["student_steps"]}.get(name, row.get("steps"))
    guidance = {TEACHER: road["told"]["guidance"]}.get(name, row.get("guidance"))
    shares = " | ".join(_cell(row[metric]) for metric in ("text_r1", "text_r5", "text_r5_shuffled"))
    rest = " | ".join(f"{row[metric]['value']:.2f}" for metric in ("fd", "coverage", "memorised"))
    return (
        f"| {name} | {shares} | {rest} | {'' if took is None else f'{took:,}'} | {'' if guidance is None else f'{guidance:g}'} |"
    )


def _speeds(timed: dict[str, list[float]], told: dict[str, Any]) -> str:
    rates = {name: statistics.median(each) for name, each in timed.items()}
    pipelines = ", ".join(f"the {name} {rate:.2f}" for name, rate in rates.items() if name != "graph")
    return (
        f"From texts to images on one core, in turns: the student's graph {rates['graph']:.1f} images a second, {pipelines}. "
        f"The graph has {told['bytes'] / 1e6:.1f} MB and was exported in {told['export_s']:.0f} s."
    )
