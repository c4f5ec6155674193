"""What `produce` tells a person while it runs: the decision, the scorecard, the gates, and where everything is."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.core.errors import ExportError, GenwrightError
from components.core.metrics import number
from components.core.records import GateReport, Metric, Scorecard
from components.evaluation.definitions import words, words_of
from components.pipeline.run import Exported, Produced, Proof, Run, Trained

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from components.core.records import Artifact
    from components.pipeline.distil.curve import Curve
    from components.pipeline.workspace import Workspace

JUDGED = ("latency_p95_ms", "fd_ratio", "coverage", "recall")
COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow"}


def console(*, stderr: bool = False) -> "Console":
    """A console that keeps 100 columns where there is no terminal, so that logs do not fold tables."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 100, highlight=False, soft_wrap=False)


class Report:
    """Says each stage's outcome on standard output, or nothing when it is not enabled."""

    def __init__(self, workspace: "Workspace", *, enabled: bool) -> None:
        self.workspace = workspace
        self.console = console() if enabled else None

    def __call__(self, name: str, record: Any) -> None:
        """For `after` of a production and of a distillation: what it reports of each stage."""
        reports: dict[str, Callable[[Any], None]] = {
            "run": self.decided,
            "train": self.trained,
            "export": self.exported,
            "prove": self.proved,
            "promote": self.produced,
            "student": self.student,
            "judged": self.judged,
            "left out": self.left_out,
        }
        if name in reports:
            reports[name](record)

    def decided(self, run: Run) -> None:
        if self.console:
            from components.policy.view import view

            dataset = run.dataset
            version = f"version {dataset.md5[:12]} at {dataset.rev[:12]}"
            self.console.print(view(run.facts, run.decision))
            self.console.print(f"[bold]Data[/]  {dataset.name}: {dataset.count:,} items of {dataset.item.text}, {version}")
            self.console.print(f"[bold]Run[/]  {run.brief.name}/{run.key('seal')}", soft_wrap=True)

    def trained(self, trained: Trained) -> None:
        if self.console:
            best = trained.checkpoint
            early = f" of {best.items_planned:,}" if best.items_seen < best.items_planned else ""
            work = f"{best.items_seen:,}{early} items seen, ended by {best.stopped_by}"
            steps = f"{best.steps_total:,} steps in {best.train_s:.0f} s, best at step {best.step:,}"
            self.console.print(f"[bold]Training[/]  {work}: {steps}; MLflow run {trained.run_id[:12]}")

    def exported(self, exported: Exported) -> None:
        if self.console:
            worst, how = max(exported.parity.values()), "largest" if exported.precision == "fp32" else "largest mean"
            self.console.print(
                f"[bold]Export[/]  {exported.graph.size_bytes / 1e6:.1f} MB, {exported.nodes} nodes, opset {exported.opset}; "
                f"{how} difference from torch {worst:.1e} at batch {', '.join(map(str, exported.parity))}"
            )

    def proved(self, proof: Proof) -> None:
        if self.console:
            self.console.print()
            self.console.print(scorecard_table(proof.scorecard))
            self.console.print(gate_table(proof.gates))

    def student(self, made: tuple[Run, Trained]) -> None:
        run, trained = made
        if self.console and run.student is not None:
            student, best = run.student, trained.checkpoint
            self.console.print(
                f"[bold]Student[/]  {best.variant}, {student.steps} steps at width {student.width}: best of "
                f"{best.steps_total:,} training steps in {best.train_s:.0f} s at step {best.step:,}"
            )

    def judged(self, proof: Proof) -> None:
        if self.console:
            metrics = proof.scorecard.metrics
            told = ", ".join(f"{words_of(name).heading} {number(metrics[name].value)}" for name in JUDGED)
            verdict = f"[{COLOURS[proof.gates.verdict]}]{proof.gates.verdict}[/]"
            self.console.print(f"  gates {verdict}; {told}")

    def left_out(self, error: ExportError) -> None:
        if self.console:
            self.console.print(f"  left out: {error}", highlight=False)

    def produced(self, produced: Produced) -> None:
        if self.console:
            self.console.print()
            for line in produced_lines(produced, self.workspace):
                self.console.print(line, soft_wrap=True)


def produced_lines(produced: Produced, workspace: "Workspace") -> list[str]:
    """Where everything is, in rich's markup."""
    from rich.markup import escape

    from components.delivery.bundles import bundle_uri

    release = produced.release
    champion = "champion" in release.aliases
    promoted = "promoted: it reigns as champion" if champion else "promoted; another version is champion now"
    fate = promoted if produced.promoted else f"not promoted: the gates say {produced.gates.verdict}"
    return [
        *(f"[yellow]note[/]  {escape(note)}" for note in produced.notes),
        f"[bold]Release[/]  {release.model} version {release.version}, {fate}",
        f"[bold]Bundle[/]  {escape(bundle_uri(workspace.store, produced.bundle.sha256))}",
        f"[bold]Card[/]  {escape(_shown(produced.page, workspace))}",
        f"[bold]Samples[/]  {escape(_shown(produced.samples, workspace))}",
        f"[bold]Next[/]  genwright serve {release.model}{'@champion' if champion else f'/{release.version}'}",
    ]


def _shown(artifact: "Artifact", workspace: "Workspace") -> str:
    """Where it is on this machine."""
    try:
        return near(str(workspace.open(artifact)))
    except GenwrightError as error:
        return str(error)


def near(path: str) -> str:
    """The path from here, when it lies below."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def table_of(title: str, **columns: Literal["left", "right"]) -> "Table":
    """A table whose headings are never cut, and broken only between words: it fits 80 columns."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    table.padding = (0, 1, 0, 0)
    for heading, side in columns.items():
        table.add_column(heading, justify=side, overflow="fold", min_width=max(map(len, heading.split())))
    return table


def scorecard_table(card: Scorecard) -> "Table":
    """Every metric with its id, as MLflow has it under proof/, and its interval."""
    protocol = card.protocol
    against = f"{protocol.samples:,} samples beside {protocol.reference_count:,} held-out images"
    interval = f"{protocol.level:.0%} interval"
    right: dict[str, Literal["right"]] = {"value": "right", interval: "right", "n": "right"}
    table = table_of(f"Scorecard of the graph: {against}", metric="left", id="left", **right)
    for name in (*words(), *sorted(set(card.metrics) - set(words()))):
        if metric := card.metrics.get(name):
            table.add_row(words_of(name).heading, name, number(metric.value), _interval(metric), f"{metric.n:,}")
    return table


def curve_table(curve: "Curve") -> "Table":
    """Every student that was tried, the fastest first, and the teacher below."""
    name = f"{curve.teacher.model} version {curve.teacher.version}"
    limit = f", at most {curve.latency_ms:g} ms wanted" if curve.latency_ms is not None else ""
    scores = ("latency_p95_ms", "throughput_per_s", "fd", "fd_ratio", "coverage", "recall")
    right: dict[str, Literal["right"]] = {words_of(score).heading: "right" for score in scores}
    table = table_of(f"Students of {name} on {curve.device}{limit}", student="left", **right, gates="left")
    table.columns[-1].no_wrap = True
    order = sorted(range(len(curve.tried)), key=lambda at: curve.tried[at].latency_p95_ms.value)
    for at in order:
        each, arrow = curve.tried[at], "→ " if at == curve.chosen else ""
        table.add_row(
            f"{arrow}{each.steps} steps, width {each.width}, {each.precision}, {each.size_mb:.1f} MB",
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
