"""What the same artifact and protocol give again to the last bit: a scorecard, and what gates say of it, without what a clock
measured."""

from components.core.records import GateReport, Scorecard
from components.evaluation.definitions import gates, words_of


def untimed(scorecard: Scorecard) -> Scorecard:
    """Without the metrics of a clock."""
    kept = {name: metric for name, metric in scorecard.metrics.items() if not words_of(name).timed}
    return scorecard.model_copy(update={"metrics": kept})


def untimed_gates(report: GateReport) -> GateReport:
    """Without what the gates on such metrics say. The verdict is still that of all."""
    known = gates()
    kept = (each for each in report.gates if each.gate not in known or not words_of(known[each.gate].metric).timed)
    return report.model_copy(update={"gates": tuple(kept)})
