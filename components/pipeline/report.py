"""What `produce` and `distil` tell a person while they run: the decision, what each stage came to, and where everything is."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import GenwrightError
from components.core.metrics import number
from components.evaluation.definitions import words_of
from components.evaluation.tuning import sentences
from components.pipeline.gate_power import gate_power
from components.pipeline.run import Exported, Produced, Proof, Run, Trained, in_steps
from components.pipeline.view import COLOURS, console, gate_table, scorecard_table

if TYPE_CHECKING:
    from components.core.records import Artifact
    from components.pipeline.backends import Backends
    from components.pipeline.bakeoff.outcome import Bakeoff
    from components.pipeline.bakeoff.rung import Rung
    from components.pipeline.distil.curve import Curve
    from components.pipeline.workspace import Workspace

RUNG = ("fd", "coverage", "recall", "bits_per_dim", "latency_p95_ms")
JUDGED = ("latency_p95_ms", "distance_ratio", "coverage", "recall")


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
            "rung": self.rung,
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
            self.console.print(f"[bold]Run[/]  {run.reference}", soft_wrap=True)
            for told in gate_power(run.brief, run.facts, run.decision, self.workspace.store, run.dataset.item):
                self.console.print(f"[bold]Gate[/]  {told}", soft_wrap=True)

    def trained(self, trained: Trained) -> None:
        if self.console:
            best = trained.checkpoint
            early = f" of {best.items_planned:,}" if best.items_seen < best.items_planned else ""
            work = f"{best.items_seen:,}{early} items seen, ended by {best.stopped_by}"
            steps = f"{best.steps_total:,} steps in {best.train_s:.0f} s, best at step {best.step:,}"
            self.console.print(f"[bold]Training[/]  {work}: {steps}; MLflow run {trained.run_id[:12]}")
            if best.memory is not None:
                self.console.print(f"  memory: {best.memory.text}", soft_wrap=True)
            for sentence in sentences(best.tuning, kept=best.step):
                self.console.print(f"  {sentence}", soft_wrap=True)
            if trained.adapter is not None:
                self.console.print(f"[bold]Adapter[/]  {trained.adapter.text}", soft_wrap=True)

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
            taken = in_steps(student.steps, adversarial=student.adversarial)
            self.console.print(
                f"[bold]Student[/]  {best.variant}, {taken}, width {student.width}: best of "
                f"{best.steps_total:,} training steps in {best.train_s:.0f} s at step {best.step:,}"
            )

    def judged(self, proof: Proof) -> None:
        if self.console:
            metrics = proof.scorecard.metrics
            told = ", ".join(f"{words_of(name).heading} {number(metrics[name].value)}" for name in JUDGED)
            verdict = f"[{COLOURS[proof.gates.verdict]}]{proof.gates.verdict}[/]"
            self.console.print(f"  gates {verdict}; {told}")

    def rung(self, rung: "Rung") -> None:
        if self.console:
            from rich.markup import escape

            kept, metrics = rung.checkpoint, rung.scorecard.metrics
            told = [f"{words_of(name).heading} {number(metrics[name].value)}" for name in RUNG if name in metrics]
            told += [f"cannot be served: {rung.refused}"] if rung.refused else []
            ended = "" if kept.stopped_by == "paused" else f", ended by {kept.stopped_by}"
            work = f"{rung.share:.0%} of its budget, {kept.items_seen:,} items in {kept.train_s:.0f} s{ended}"
            self.console.print(f"[bold]{rung.name}[/]  {work}: {escape(', '.join(told))}", soft_wrap=True)

    def left_out(self, error: GenwrightError) -> None:
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
    promoted = "promoted: it is champion" if champion else "promoted; another version is champion now"
    waits = f"waits for the tag {produced.awaits}" if produced.awaits else f"the gates say {produced.gates.verdict}"
    fate = promoted if produced.promoted else f"not promoted: {waits}"
    return [
        *(f"[yellow]note[/]  {escape(note)}" for note in produced.notes),
        f"[bold]Release[/]  {release.model} version {release.version}, {fate}",
        f"[bold]Bundle[/]  {escape(bundle_uri(workspace.store, produced.bundle.sha256))}",
        f"[bold]Page[/]  {escape(_shown(produced.page, workspace))}",
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


def print_standing(nothing_done: str, produced: Produced, workspace: "Workspace") -> None:
    """Why nothing was done, and where what stands already is."""
    for line in (nothing_done, *produced_lines(produced, workspace)):
        console().print(line, soft_wrap=True)


def print_distilled(curve: "Curve", produced: Produced | None, name: str, backends: "Backends") -> None:
    """The table of the students, where its picture is, and where the one that was released is."""
    from components.pipeline.distil.curve import picture_of
    from components.pipeline.view import curve_table

    out = console()
    out.print()
    out.print(curve_table(curve))
    out.print(f"[bold]Curve[/]  {near(str(picture_of(name, backends)))}", soft_wrap=True)
    for line in produced_lines(produced, backends.workspace) if produced else ():
        out.print(line, soft_wrap=True)


def print_bakeoff(found: "Bakeoff", backends: "Backends") -> None:
    """The table of the candidates, where the page is, what keeps the winner, and where its release is."""
    from components.pipeline.view import bakeoff_table

    out, (family, _, variant) = console(), found.winner.name.partition("/")
    out.print()
    out.print(bakeoff_table(found))
    if found.page is not None:
        out.print(f"[bold]Bake-off[/]  {_shown(found.page, backends.workspace)}", soft_wrap=True)
    keep = f"override: {{family: {family}, variant: {variant}}}"
    out.print(f"[bold]To keep it[/]  {keep} in the brief; without it a plan weighs the evidence", soft_wrap=True, markup=True)
    for line in produced_lines(found.produced, backends.workspace) if found.produced else ():
        out.print(line, soft_wrap=True)
