"""Tables and texts for a person at a terminal: the scorecard, the gates, the students of a curve, a release, its ledger."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from components.core.card import Card
from components.core.metrics import number
from components.core.records import Bundle, EvidenceTable, GateReport, LedgerEntry, Metric, Release, Scorecard
from components.evaluation.definitions import words, words_of
from components.pipeline.backends import Backends

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from components.pipeline.bakeoff.outcome import Bakeoff
    from components.pipeline.descendants import Descendant
    from components.pipeline.distil.curve import Curve
    from components.pipeline.schedules import Planned
    from components.registry.steps import Outcome

COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow"}


def console(*, stderr: bool = False) -> "Console":
    """A console that keeps 100 columns where there is no terminal, so that logs do not fold tables."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 100, highlight=False, soft_wrap=False)


def table_of(title: str, **columns: Literal["left", "right"]) -> "Table":
    """A table whose headings are never cut, and broken only between words: it fits 80 columns."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    table.padding = (0, 1, 0, 0)
    for heading, side in columns.items():
        table.add_column(heading, justify=side, overflow="fold", min_width=max(map(len, heading.split())))
    return table


def scorecard_table(scorecard: Scorecard) -> "Table":
    """Every metric with its id, as MLflow has it under proof/, and its interval."""
    protocol = scorecard.protocol
    against = f"{protocol.samples:,} samples beside {protocol.reference_count:,} held-out items"
    interval = f"{protocol.level:.0%} interval"
    right: dict[str, Literal["right"]] = {"value": "right", interval: "right", "n": "right"}
    table = table_of(f"Scorecard of the graph: {against}", metric="left", id="left", **right)
    for name in (*words(), *sorted(set(scorecard.metrics) - set(words()))):
        if metric := scorecard.metrics.get(name):
            table.add_row(words_of(name).heading, name, number(metric.value), _interval(metric), f"{metric.n:,}")
    return table


def curve_table(curve: "Curve") -> "Table":
    """Every student that was tried, the fastest first, and the teacher below."""
    name = f"{curve.teacher.model} version {curve.teacher.version}"
    limit = f", at most {curve.latency_ms:g} ms wanted" if curve.latency_ms is not None else ""
    scores = ("latency_p95_ms", "throughput_per_s", "fd", "distance_ratio", "coverage", "recall")
    right: dict[str, Literal["right"]] = {words_of(score).heading: "right" for score in scores}
    table = table_of(f"Students of {name} on {curve.device}{limit}", student="left", **right, gates="left")
    table.columns[-1].no_wrap = True
    order = sorted(range(len(curve.tried)), key=lambda at: curve.tried[at].latency_p95_ms.value)
    for at in order:
        each, arrow = curve.tried[at], "→ " if at == curve.chosen else ""
        table.add_row(
            f"{arrow}{each.name}, {each.size_mb:.1f} MB",
            *(number(getattr(each, score).value) for score in scores),
            f"[{COLOURS[each.verdict]}]{each.verdict}[/]",
        )
    speed = (curve.teacher_latency_p95_ms, curve.teacher_throughput_per_s, curve.teacher_fd)
    coverage, recall = number(curve.teacher_coverage.value), number(curve.teacher_recall.value)
    table.add_row("teacher", *(number(metric.value) for metric in speed), "1", coverage, recall, "")
    return table


def gate_table(report: GateReport) -> "Table":
    """What each gate says."""
    title = f"Gates: [{COLOURS[report.verdict]}]{report.verdict}[/]"
    table = table_of(title, gate="left", verdict="left", measured="left")
    for each in report.gates:
        table.add_row(each.gate, f"[{COLOURS[each.verdict]}]{each.verdict}[/]", each.text)
    return table


def _interval(metric: Metric) -> str:
    return f"{number(metric.low)} to {number(metric.high)}"


def history_table(entries: Sequence[LedgerEntry]) -> "Table":
    """Every promotion and rollback."""
    columns: dict[str, Literal["left"]] = dict.fromkeys(("#", "when", "what", "version", "bundle", "who", "why"), "left")
    table = table_of("", **columns)
    table.columns[1].min_width, table.columns[4].min_width = 10, 12  # a date and the beginning of a digest stay whole
    for entry in entries:
        moved = f"{entry.from_version or '-'} → {entry.to_version}"
        when, bundle = entry.when[:19].replace("T", " "), entry.to_bundle[:12]
        table.add_row(str(entry.sequence), when, entry.action, moved, bundle, entry.who, entry.why)
    return table


def print_history(model: str, entries: Sequence[LedgerEntry]) -> None:
    """The table of them, or that there are none."""
    console().print(history_table(entries) if entries else f"{model}: nothing was promoted yet")


def print_explanation(out: "Console", release: Release, bundle: Bundle, differing: Sequence[str], backends: Backends) -> None:
    """Why a release is what it is. `differing`: where ledger, alias and channel do."""
    from rich.markup import escape

    from components.pipeline.stale import Known, stale
    from components.policy.view import Footnotes, sentence

    lineage = bundle.lineage
    out.print(f"[bold]{release.model} version {release.version}[/]  {', '.join(release.aliases) or 'no alias'}")
    for line in differing:
        out.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    out.print(f"bundle {release.bundle_sha256}", f"MLflow run {release.run_id}", sep="\n")
    if because := stale(bundle, Known(backends)):
        out.print(f"[yellow]{escape(because)}[/]", soft_wrap=True)
    if lineage.teacher:
        out.print(f"learnt from bundle {lineage.teacher}")
        _print_students(out, release, bundle, backends)
    if lineage.base:
        out.print(f"began with the weights of bundle {lineage.base}")
    for each in lineage.adapters:
        out.print(escape(f"and {each.weight:+g} times the adapter {each.model}, bundle {each.bundle}"), soft_wrap=True)
    if lineage.foreign:
        name, asked = lineage.foreign.name, lineage.foreign.unverified
        name += f" ({lineage.foreign.revision_text})" if asked else ""
        licence = lineage.foreign.licence.text
        out.print(escape(f"began with the weights of {name}, made elsewhere; licence {licence}"), soft_wrap=True)
    out.print(f"{bundle.family}/{bundle.variant}, data {lineage.dataset_md5[:12]} at {lineage.dataset_rev[:12]}")
    notes = Footnotes()
    for reason in lineage.decision.reasons:
        out.print(f"  - {escape(sentence(reason.text))} [dim]{escape(notes.cite(reason.source))}[/]")
    for source, at in notes:
        out.print(f"    [dim]{escape(f'[{at}]')} {escape(source)}[/]")
    out.print(scorecard_table(bundle.scorecard))
    out.print(gate_table(bundle.gates))


def _print_students(out: "Console", release: Release, bundle: Bundle, backends: Backends) -> None:
    """The students that this one was chosen from, while none were tried since."""
    from components.pipeline.distil.curve import kept_curve

    kept = kept_curve(release.model, backends)
    if kept is None or bundle.lineage.run_key not in {each.run_key for each in kept.curve.tried}:
        return
    out.print(curve_table(kept.curve))
    if backends.workspace.holds(kept.picture):
        out.print(f"their picture: {backends.workspace.open(kept.picture)}", soft_wrap=True)


def adapters_table(base: str, found: "Sequence[Descendant]") -> "Table":
    """The adapters of a base, a row a version."""
    headings = {name: words_of(name).heading for name in ("fd", "coverage")}
    right: dict[str, Literal["right"]] = dict.fromkeys(headings.values(), "right")
    table = table_of(f"Adapters of {base}", version="left", alias="left", base="left", data="left", gates="left", **right)
    for each in found:
        of = f"{each.base}{''.join(f' {part.weight:+g} {part.model}' for part in each.adapters)}"
        figures = [number(each.metrics[name].value) if name in each.metrics else "-" for name in headings]
        name = f"{each.model}/{each.version}" + (" [yellow]stale[/]" if each.stale else "")
        verdict = f"[{COLOURS[each.verdict]}]{each.verdict}[/]"
        table.add_row(name, ", ".join(each.aliases) or "-", of, each.data_md5[:12], verdict, *figures)
    return table


def print_adapters(base: str, found: "Sequence[Descendant]") -> None:
    """The table of them and why some are stale, or that there are none."""
    out = console()
    out.print(adapters_table(base, found) if found else f"{base}: nothing was adapted from it")
    for each in found:
        if each.stale:
            out.print(f"[yellow]{each.model}/{each.version} is {each.stale}[/]", soft_wrap=True)


def outcome_lines(outcome: "Outcome") -> list[str]:
    """What a promotion, a rollback or a reconciliation came to."""
    if outcome.release is None:
        return [*outcome.notes, f"{outcome.model}: no version is champion"]
    done = "is champion now" if outcome.changed else "is champion already; nothing changed"
    bundle = outcome.release.bundle_sha256[:12]
    return [*outcome.notes, f"{outcome.model} version {outcome.release.version} {done}, bundle {bundle}"]


def schedule_table(planned: "Sequence[Planned]") -> "Table":
    """What will run when, and why; and how it ended last."""
    table = table_of("", name="left", when="left", next="left", why="left", where="left", last="left")
    for each in planned:
        coming = f"{each.next:%Y-%m-%d %H:%M %Z}" if each.next else "paused" if each.paused else "-"
        where = f"{each.brief} of {each.repository}" + (f" at {each.rev}" if each.rev else "")
        where += f", in {each.pool}" + (f", trained in {each.gpu_pool}" if each.gpu_pool else "")
        table.add_row(each.name, each.when, coming, each.why, where, f"{each.last}: {each.last_sentence}" if each.last else "-")
    return table


def bakeoff_table(found: "Bakeoff") -> "Table":
    """A row a candidate, the winner first: where it was stopped, and how good it was there."""
    headings = {name: words_of(name).heading for name in dict.fromkeys((found.metric, "coverage", "latency_p95_ms"))}
    right: dict[str, Literal["left", "right"]] = dict.fromkeys(("budget", "items seen", "seconds", *headings.values()), "right")
    table = table_of(f"Bake-off of {found.model}: {found.samples} samples each", candidate="left", **right)
    for place, each in enumerate(found.candidates):
        last = each.rungs[-1]
        metrics = last.scorecard.metrics
        figures = [f"{number(metrics[name].value)}" if name in metrics else "-" for name in headings]
        kept = last.checkpoint
        name = f"{'→ ' if place == 0 else ''}{each.name}" + (" [red]cannot be served[/]" if last.refused else "")
        table.add_row(name, f"{last.share:.0%}", f"{kept.items_seen:,}", f"{kept.train_s:.0f}", *figures)
    return table


def evidence_table(found: EvidenceTable) -> "Table":
    """A row a measured case: what was made for which case, what it took, how good it is, and where it was measured."""
    headings = {name: words_of(name).heading for name in ("fd", "coverage", "latency_p95_ms")}
    right: dict[str, Literal["left", "right"]] = dict.fromkeys(("work", "seconds", *headings.values()), "right")
    table = table_of("Evidence", model="left", case="left", **right, gates="left", origin="left")
    table.columns[-2].no_wrap = True
    for row in sorted(found.rows, key=lambda row: (row.case.text, row.name, row.share, row.origin)):
        figures = [f"{number(row.metrics[name].value)}" if name in row.metrics else "-" for name in headings]
        verdict = f"[{COLOURS[row.verdict]}]{row.verdict}[/]" if row.verdict else "-"
        kind = f"{row.model} {row.kind}, {row.who}, {row.run_id[:8]}"
        work = f"{row.items_seen:,}" + (f" ({row.share:.0%})" if row.share < 1 else "")
        start = "" if row.mode == "scratch" else f", {row.mode}"
        table.add_row(row.name + start, row.case.text, work, f"{row.train_s:.3g}", *figures, verdict, kind)
    return table


def print_evidence(found: EvidenceTable) -> None:
    """The table of it, or that there is none."""
    console().print(evidence_table(found) if found.rows else "nothing was measured yet: `genwright produce` and `bakeoff` do")


def families_table(cards: Sequence[Card]) -> "Table":
    """Each family with what it is, its paper, and what of a batch in parts is each part's own; the rest is in --json."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("family", "p(x)", "steps", "what it is, and its paper"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("family", "p(x)", "steps"))
    for card in cards:
        own = f" [dim](in parts, each its own {', '.join(card.per_part)})[/]" if card.per_part else ""
        about = f"{card.title} [dim]{card.references[0]}[/]{own}"
        table.add_row(f"{card.family}/{card.variant}", card.likelihood, str(card.steps), about)
    return table
