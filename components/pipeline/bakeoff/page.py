"""The page of a bake-off: pictures of every candidate, how good each was at each rung, and what became of the winner."""

from components.core.records import Artifact
from components.pipeline.backends import Backends
from components.pipeline.bakeoff.outcome import Bakeoff

SHOWN = ("recall", "coverage")  # beside the metric that ranks


def page_of(found: Bakeoff, backends: Backends) -> Artifact:
    """Draw it and put it into the store."""
    from components.evaluation.bakeoff_page import Shown, write_bakeoff_page

    workspace, produced = backends.workspace, found.produced
    candidates = [
        Shown(
            name=each.name if each.mode == "scratch" else f"{each.name}, {each.mode}",
            wins=each is found.candidates[0],
            parameters_m=each.parameters_m,
            refused=each.rungs[-1].refused,
            collapse=each.rungs[-1].checkpoint.collapse,
            picture=workspace.open(each.rungs[-1].samples).read_bytes(),
            latency=each.rungs[0].latency,
            rungs=[
                (rung.share, rung.checkpoint.items_seen, rung.checkpoint.train_s, rung.scorecard.metrics) for rung in each.rungs
            ],
        )
        for each in found.candidates
    ]
    with workspace.scratch() as folder:
        path = folder / "bakeoff.html"
        write_bakeoff_page(
            path,
            model=found.model,
            budget=found.budget,
            metric=found.metric,
            beside=[name for name in SHOWN if name != found.metric],
            samples=found.samples,
            candidates=candidates,
            gates=produced.gates if produced else None,
            final=workspace.open(produced.samples).read_bytes() if produced and workspace.holds(produced.samples) else None,
        )
        return workspace.put(path)
