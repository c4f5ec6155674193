"""The guides' comparison table, measured: quality, stability over seeds, speed, coverage and likelihood beside their scores.

    .venv/bin/python benchmarks/priors.py

It trains nothing: it reads what benchmarks/families.py left in benchmarks/results/families-DATA.jsonl, and writes
benchmarks/results/table.md. A family is its best variant by FD-local, and the range over all of its variants beside it. For each
pair of families that a column of the guides sets apart the measured intervals say one of three: confirmed and contradicted where
they do not overlap, open where they do.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, median
from typing import Any

from benchmarks.families import SECONDS, hardware, read
from benchmarks.shared import RESULTS
from components.core.card import Card
from components.families import cards
from components.policy.rows import Prior
from components.policy.tables import load_tables

FAMILIES = ("vae", "gan", "diffusion", "autoregressive", "flow")  # in the order of the guide's table
SPEED = {"fast": 3, "slow": 2, "very_slow": 1}
THREADS = 1
OUT = RESULTS / "table.md"


@dataclass(frozen=True)
class Figure:
    """A mean and its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.value)} [{_short(self.low)}, {_short(self.high)}]"


@dataclass(frozen=True)
class Variant:
    """The rows of one variant, one a seed."""

    name: str
    card: Card
    lines: Sequence[dict[str, Any]]

    @property
    def good(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "metrics" in line]

    def metric(self, name: str) -> Figure | None:
        """The mean of the seeds; around it the mean of the bootstrap intervals, or the range of the seeds where that is wider."""
        found = [line["metrics"][name] for line in self.good if name in line["metrics"]]
        if not found or not all(math.isfinite(each["value"]) for each in found):
            return None
        values, mean = [each["value"] for each in found], fmean(each["value"] for each in found)
        low = min(*values, mean - fmean(each["value"] - each["low"] for each in found))
        return Figure(mean, low, max(*values, mean + fmean(each["high"] - each["value"] for each in found)))

    @property
    def sample_ms(self) -> Figure:
        """Milliseconds a sample in full batches, by torch on one thread, from the throughput and its interval."""
        rate = self.metric("throughput_per_s")
        assert rate is not None
        return Figure(1000 / rate.value, 1000 / rate.high, 1000 / rate.low)

    @property
    def spread(self) -> float | None:
        """Half the range of FD-local over the seeds, of its mean; None with one seed."""
        values = [line["metrics"]["fd"]["value"] for line in self.good]
        return (max(values) - min(values)) / 2 / fmean(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Family:
    """A family on one data set."""

    name: str
    variants: tuple[Variant, ...]

    @property
    def best(self) -> Variant:
        return min(self.variants, key=lambda variant: _value(variant.metric("fd")))

    def over(self, figure: Callable[[Variant], float | None]) -> Figure | None:
        """The median of its variants, and their range."""
        values = [value for variant in self.variants if (value := figure(variant)) is not None]
        return Figure(median(values), min(values), max(values)) if values else None


def families_of(data: str) -> list[Family]:
    """What stands of each family at the bench's own budget."""
    wanted = (float(SECONDS["cpu"][data]), THREADS, "cpu")
    every = read(RESULTS / f"families-{data}.jsonl")
    lines = [each for each in every if (each["seconds"], each["threads"], each["device"]) == wanted]
    found = []
    for family in FAMILIES:
        variants = []
        for (owner, variant), (card, _, _) in sorted(cards().items()):
            own = [line for line in lines if line["model"] == f"{owner}/{variant}"]
            if owner == family and any("metrics" in line for line in own):
                variants.append(Variant(f"{owner}/{variant}", card, own))
        found.append(Family(family, tuple(variants)))
    return found


def _value(figure: Figure | None) -> float:
    return math.inf if figure is None else figure.value


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(spread: Figure | None) -> str:
    return "one seed" if spread is None else f"{spread.value:.0%} [{spread.low:.0%}, {spread.high:.0%}]"


def prior_quality(prior: Prior) -> float:
    return sum(prior.quality or (0.0,)) / 2


COLUMNS: dict[str, tuple[Callable[[Prior], float | None], Callable[[Family], Figure | None], bool]] = {
    # the guides' score, higher is better; what was measured; whether lower is better there
    "quality": (prior_quality, lambda family: family.best.metric("fd"), True),
    "training stability": (lambda prior: prior.stability, lambda family: family.over(lambda each: each.spread), True),
    "inference speed": (lambda prior: SPEED[prior.speed], lambda family: family.best.sample_ms, True),
    "no mode collapse": (lambda prior: 1 - prior.mode_collapse, lambda family: family.best.metric("recall"), False),
}


def verdicts(families: Sequence[Family], column: str) -> dict[str, list[str]]:
    """Pairs that a column sets apart, by what the measurement says of them."""
    prior, measured, lower = COLUMNS[column]
    priors = load_tables().families
    said: dict[str, list[str]] = {"confirmed": [], "contradicted": [], "open": []}
    for pair in combinations(families, 2):
        better, worse = sorted(pair, key=lambda family: -(prior(priors[family.name]) or 0))
        if prior(priors[better.name]) == prior(priors[worse.name]):
            continue
        one, other = measured(better), measured(worse)
        if one is None or other is None:
            continue
        ahead, behind = one.high < other.low, one.low > other.high
        ahead, behind = (ahead, behind) if lower else (behind, ahead)
        said["confirmed" if ahead else "contradicted" if behind else "open"].append(f"{better.name} before {worse.name}")
    return said


def table(families: Sequence[Family]) -> Iterator[str]:
    """A row a family: the guides' scores, and beside each what was measured."""
    priors = load_tables().families
    heads = ("family", "guides: quality", "FD-local of the best variant", "of all variants")
    heads += ("guides: stability", "spread of FD-local", "guides: speed", "ms a sample")
    heads += ("guides: collapses", "recall", "coverage", "rarest class", "guides: likelihood", "bits/dim")
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for family in families:
        prior, best = priors[family.name], family.best
        low, high = prior.quality or (0.0, 0.0)
        spread = family.over(lambda each: each.spread)
        fds = family.over(lambda each: _value(each.metric("fd")))
        bits = [each.metric("bits_per_dim") for each in family.variants]
        lowest = min((each for each in bits if each is not None), key=lambda each: each.value, default=None)
        kinds = sorted({each.card.likelihood for each in family.variants})
        failures = sum(len(each.lines) - len(each.good) for each in family.variants)
        cells = [
            family.name,
            f"{low:g}" if low == high else f"{low:g}-{high:g}",
            f"{best.metric('fd')} ({best.name})",
            f"{fds} ({len(family.variants)} variants)",
            f"{prior.stability:g}",
            f"{_percent(spread)}, {failures} failures",
            prior.speed.replace("_", " "),
            str(best.sample_ms),
            "yes" if prior.mode_collapse else "no",
            *(str(best.metric(name)) for name in ("recall", "coverage", "class_share_min")),
            prior.likelihood,
            "none" if lowest is None else f"{lowest} ({', '.join(kinds)})",
        ]
        yield "| " + " | ".join(cells) + " |"


def findings(data: str, families: Sequence[Family]) -> Iterator[str]:
    """What each column's pairs come to."""
    for column in COLUMNS:
        said = verdicts(families, column)
        if not any(said.values()):
            yield f"- **{column}** on {data}: not measured."
            continue
        counts = ", ".join(f"{len(pairs)} {what}" for what, pairs in said.items())
        named = "; ".join(f"{what}: {', '.join(pairs)}" for what, pairs in said.items() if pairs)
        yield f"- **{column}** on {data}: {counts} of {sum(map(len, said.values()))} pairs. {named}."


def carried_over(one: Sequence[Family], other: Sequence[Family]) -> tuple[float, int]:
    """Spearman's rank correlation of FD-local of the variants of two data sets, and how many there are."""
    from scipy.stats import spearmanr

    fds = [{each.name: _value(each.metric("fd")) for family in families for each in family.variants} for families in (one, other)]
    both = sorted(fds[0].keys() & fds[1].keys())
    return float(spearmanr([fds[0][name] for name in both], [fds[1][name] for name in both]).statistic), len(both)


HEAD = """# The guides' comparison table, measured

Written by `.venv/bin/python benchmarks/priors.py` from families-digits.jsonl (three seeds of 60 s) and families-mnist.jsonl
(one seed of 240 s), which `make bench-families` repeats: one thread of a CPU, light networks, one protocol a data set.
These are small budgets on small grey images. They say nothing of what a day on a GPU gives.

FD-local, spread, milliseconds and bits/dim are better where lower, recall, coverage and the rarest class where higher. In
brackets: the mean 95 % interval of the seeds, or their range where that is wider; of all variants, and of the spread (half the
range of FD-local over the seeds, of its mean), the range of the variants around their median. Digits are judged by 1,000
samples and MNIST by 500, so compare within a table. A family's milliseconds, recall, coverage and rarest class are those of its
best variant by FD-local, its bits/dim the lowest that a variant has.
"""
PAIRS = """A pair of families that a column of the guides sets apart is decided where their intervals do not overlap; each takes
part with its best variant by FD-local. Open means that these figures cannot tell."""


def main() -> None:
    measured = {data: families_of(data) for data in ("digits", "mnist")}
    rank, count = carried_over(measured["digits"], measured["mnist"])
    text = [HEAD]
    for data, families in measured.items():
        machines = ", ".join(sorted(hardware([line for family in families for each in family.variants for line in each.good])))
        text += [f"## {data}", "", f"Measured on {machines}.", "", *table(families), ""]
    text += ["## What it confirms and what it contradicts", "", PAIRS, ""]
    for data, families in measured.items():
        text += [*findings(data, families)]
    text += ["", *summary(measured["digits"], measured["mnist"]), "", "## Does a rank carry over?", ""]
    text += [
        f"Spearman's correlation of the FD-local of {count} variants on digits and on MNIST is {rank:.2f}. The two cases are",
        "5.5 apart by the distance of the evidence (docs/decisions/0049-evidence.md), far beyond what counts as similar.",
        "",
    ]
    OUT.write_text("\n".join(text))
    print(f"wrote {OUT}")


def summary(digits: Sequence[Family], mnist: Sequence[Family]) -> Iterator[str]:
    """The order of the families by the guides and as measured."""
    priors = load_tables().families
    by_guides = sorted(FAMILIES, key=lambda name: -prior_quality(priors[name]))
    yield f"By quality the guides order {', '.join(by_guides)}."
    for data, families in (("digits", digits), ("MNIST", mnist)):
        order = sorted(families, key=lambda family: _value(family.best.metric("fd")))
        yield f"Measured on {data}: {', '.join(family.name for family in order)}."
    yield ""
    yield "Likelihood: which families have one, and of which kind, is as the guides say, and tests hold the cards to it. An exact"
    yield "one is no lower for that:"
    for data, families in (("digits", digits), ("MNIST", mnist)):
        bits = [(each.metric("bits_per_dim"), each) for family in families for each in family.variants]
        found = sorted(((figure, each) for figure, each in bits if figure is not None), key=lambda pair: pair[0].value)
        yield f"on {data} {', '.join(f'{each.name} {figure} ({each.card.likelihood})' for figure, each in found)}."


if __name__ == "__main__":
    main()
