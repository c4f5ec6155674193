"""The decision for people, in sentences: what is chosen, whether it will be produced, why, what was not chosen, what to look out
for, what it costs. Where a rule comes from stands in numbered footnotes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from components.core.records import Decision, Facts, Figure, UsedEvidence

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

STEPS = {"one_pass": "one pass", "few_step": "few steps", "many_step": "many steps"}
MODES = {
    "scratch": "trained from scratch",
    "finetune": "fine-tuned",
    "lora": "fine-tuned by LoRA",
    "combine": "adapters combined",
}
UNITS = {"s": ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")), "ms": ((1000, "s"), (1, "ms"))}
LAYERS = {  # what decided, in words, for the first part of a rule's name
    "hard": "the limits",
    "chart": "data, compute",
    "mode": "the start",
    "delivery": "drawing",
    "tier": "the budget",
    "disagreement": "two guides",
    "prior": "the family",
    "override": "forced",
    "evidence": "evidence",
}
CASES_SHOWN = 8


class Footnotes:
    """Numbers sources in the order in which they are first named."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def cite(self, source: str) -> str:
        """'[1,4]' for sources that are joined by '; '."""
        numbers = {self.numbers.setdefault(_document(one), len(self.numbers) + 1) for one in source.split("; ")}
        return f"[{','.join(map(str, sorted(numbers)))}]"

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self.numbers.items())


def view(facts: Facts, decision: Decision) -> "Group":
    """A rich renderable, made for 80 columns and more."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    def section(title: str, body: "RenderableType", style: str = "bold") -> list["RenderableType"]:
        return [Text(title, style=style), Padding(body, (0, 0, 0, 2)), Text()]

    notes = Footnotes()
    parts: list[RenderableType] = [_headline(facts, decision)]
    if decision.refusals:
        parts += section("Why produce will refuse", _refusals(decision), "bold red")
    parts += section("Why", _reasons(decision, notes))
    if decision.warnings:
        parts += section("Look out", _warnings(decision, notes), "bold yellow")
    parts += [*section("Not chosen", _rejected(decision, notes)), *section("Estimate", _estimate(decision))]
    if decision.evidence is not None and decision.evidence.cases:
        parts += section("Measured in similar cases", _cases(decision.evidence))
    if decision.gate_power:
        parts += section("What the gate will tell", Text("\n".join(sentence(each) for each in decision.gate_power)))
    return Group(*parts, *section("Sources", _sources(notes), "dim")[:2])


def amount(figure: Figure) -> str:
    """A figure in the unit that reads best: '90 s', '1.5 h', '0.5 to 2 GB' where it is an interval, 'at least 3 GB'."""
    if figure.low is None and figure.high is None:
        return _in_unit(figure.value, figure.unit, of=figure.value)
    if figure.low is None or figure.high is None:
        end, words = (figure.low, "at least") if figure.low is not None else (figure.high, "at most")
        assert end is not None
        return f"{words} {_in_unit(end, figure.unit, of=end)}"
    low, high = (_in_unit(end, figure.unit, of=figure.high) for end in (figure.low, figure.high))
    return high if low == high else f"{low.partition(' ')[0]} to {high}"


def sentence(text: str) -> str:
    """With a capital at its beginning and a full stop at its end."""
    first = text.split(" ", 1)[0]
    text = text if not first.rstrip(":,").isalpha() else text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def _document(source: str) -> str:
    """The document and its part; the section within it stands in --json."""
    where, comma, place = source.partition(", ")
    return where + comma + place.split(": ")[0]


def _in_unit(value: float, unit: str, *, of: float) -> str:
    """`value` in the unit that suits `of`."""
    sizes = UNITS.get(unit, ((1, unit),))
    size, name = next(((size, name) for size, name in sizes if abs(of) >= 2 * size), sizes[-1])
    return f"{_number(value / size)} {name}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.1g}"


def _headline(facts: Facts, decision: Decision) -> "RenderableType":
    from rich.panel import Panel
    from rich.text import Text

    style = "red" if decision.refusals else "green"
    line = Text.assemble(
        (f"{decision.family}/{decision.variant}", f"bold {style}"),
        f", {MODES.get(decision.mode, decision.mode)}, {STEPS[decision.delivery]} an item\n",
        (_facts(facts), "dim"),
    )
    if decision.refusals:
        line.append(f"\n{_refused(decision)}", style="bold red")
    if decision.budget is not None:
        line.append(f"\ntraining: {decision.budget.text}")
    if decision.overridden:
        line.append(f"\nforced by the brief; the policy would choose {decision.overridden}", style="yellow")
    return Panel(line, border_style=style, padding=(0, 1))


def _refused(decision: Decision) -> str:
    """The first refusal in short: 'produce will refuse (exit 2): LoRA of ... is not built yet'."""
    line, _, code = decision.refusals[0].rpartition(" (exit ")
    more = f", and {len(decision.refusals) - 1} more below" if len(decision.refusals) > 1 else ""
    return f"produce will refuse (exit {code}: {line.split('; ')[0]}{more}"


def _facts(facts: Facts) -> str:
    size = f" of {facts.side} px" if facts.side else ""
    items = f"{facts.items:,}" if facts.items is not None else "an unknown number of"
    parts = [f"{items} {facts.modality} items{size}"]
    parts += [f"by {facts.conditioning}"] if facts.conditioning != "none" else []
    parts += [f"goal {facts.goal}", f"{facts.tier} compute"]
    parts += [f"at most {facts.latency_ms:,g} ms an item"] if facts.latency_ms else []
    if facts.pretrained:
        where = "in-domain" if facts.pretrained.in_domain else "general"
        parts.append(f"{where} pretrained {facts.pretrained.family} {facts.pretrained.model}")
    return " · ".join(parts)


def _grid(style: str) -> "Table":
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style=style, no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    return table


def _refusals(decision: Decision) -> "Table":
    table = _grid("red")
    for number, line in enumerate(decision.refusals, start=1):
        table.add_row(f"{number}", sentence(line))
    return table


def _reasons(decision: Decision, notes: Footnotes) -> "Table":
    table, before = _grid("cyan"), ""
    for reason in decision.reasons:
        layer = reason.rule.split(".")[0]
        layer = LAYERS.get(layer, layer)
        table.add_row(layer if layer != before else "", _cited(sentence(reason.text), reason.source, notes))
        before = layer
    return table


def _warnings(decision: Decision, notes: Footnotes) -> "Table":
    table = _grid("yellow")
    for warning in decision.warnings:
        table.add_row(warning.code, sentence(warning.text))
        table.add_row("", _cited(sentence(f"Fix: {warning.fix}"), warning.source, notes))
    return table


def _rejected(decision: Decision, notes: Footnotes) -> "Table":
    """Families that are out for the same reason share a row."""
    why: dict[tuple[str, str], list[str]] = {}
    for row in decision.rejected:
        why.setdefault((row.text, row.source), []).append(row.family)
    table = _grid("red")
    for (text, source), families in why.items():
        for line, family in enumerate(families):
            table.add_row(family, _cited(sentence(text), source, notes) if line == 0 else "the same")
    return table


def _estimate(decision: Decision) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1, style="dim", overflow="fold")
    estimate = decision.estimate
    named = {
        "training": estimate.training_s,
        "network": estimate.parameters_m,
        "memory": estimate.memory_gb,
        "cost": estimate.cost_usd,
        "latency p95": estimate.latency_ms,
    }
    for name, figure in named.items():
        if figure is not None:
            table.add_row(name, amount(figure), Text(sentence(figure.basis)))
    return table


def _cases(used: UsedEvidence) -> "Table":
    """The cases that were looked at, the nearest first, and the digest by which they are found again."""
    table = _grid("cyan")
    for case in used.cases[:CASES_SHOWN]:
        figure = case.metric
        value = f"{used.metric} {figure.value:.3g} [{figure.low:.3g}, {figure.high:.3g}], " if figure else ""
        share = f"after {case.share:.0%} of its work, " if case.share < 1 else ""
        table.add_row(case.name, f"{value}{share}{case.distance:.2g} away; {case.origin}")
    more = f"{len(used.cases) - CASES_SHOWN} more; " if len(used.cases) > CASES_SHOWN else ""
    table.add_row("", f"{more}evidence {used.sha256}")
    return table


def _sources(notes: Footnotes) -> "Table":
    table = _grid("dim")
    for source, number in notes:
        table.add_row(f"[{number}]".rjust(4), source, style="dim")
    return table


def _cited(text: str, source: str, notes: Footnotes) -> "Text":
    from rich.text import Text

    return Text.assemble(text, (f" {notes.cite(source)}", "dim"))
