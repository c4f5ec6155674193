"""A bake-off from its candidates to the winner's release, and one page of it all."""

from collections.abc import Sequence

from components.core import store_keys
from components.core.errors import RunError, TrainingFailed
from components.pipeline import existing
from components.pipeline.backends import Backends
from components.pipeline.bakeoff.halving import left_of, order, rungs
from components.pipeline.bakeoff.outcome import Bakeoff, Candidate
from components.pipeline.bakeoff.page import page_of
from components.pipeline.bakeoff.rung import Rung, rung
from components.pipeline.bakeoff.share import END
from components.pipeline.endings import Ending, judged
from components.pipeline.lease import Lease, check_lease, lease
from components.pipeline.production import After, Call, put_run, run_stages, silent
from components.pipeline.run import Run
from components.policy.tables import load_tables

FD = "fd"  # where no metric says what the goal asks


def bakeoff(runs: Sequence[Run], samples: int, backends: Backends, call: Call, after: After = silent) -> Bakeoff:
    """Train, compare and halve until one run is left, take it through its gates to its release, and keep the page.

    Whatever is in the store already is taken from there: begun again with the same runs, it goes on. `after` is called with
    "rung" and the rung of a candidate, and as for a production of the winner.
    """
    own = runs[0]
    with lease(own.brief.name, backends) as held:
        existing.begin(own, backends)
        found = halved(runs, samples, held, backends, after)
        winner = next(run for run in runs if run.reference == found.winner.run)
        produced = existing.find_existing_result(winner, backends)
        if produced is None:
            records = {"run": winner, "lease": held}
            put_run(winner, backends)
            run_stages(records, call, after)
            produced = records["promote"]  # type: ignore[assignment]
        found = found.model_copy(update={"produced": produced})
        found = found.model_copy(update={"page": page_of(found, backends)})
        backends.workspace.write(store_keys.bakeoff(own.brief.name), found, check=lambda: check_lease(held, backends.store))
    return found


def ending(found: Bakeoff) -> Ending:
    """How it ends: as the production of its winner."""
    assert found.produced is not None, "of a bake-off that ended"
    return judged(None, found.produced)


def halved(runs: Sequence[Run], samples: int, held: Lease, backends: Backends, after: After) -> Bakeoff:
    """Every candidate as far as it came; one whose training fails is left out. Raises TrainingFailed where all do.

    Those at the share of a rung are compared. What is further, as it has no reading there or its ceiling ended it, goes on beside
    them to a rung at which it is level; at the end of their budgets all are.
    """
    own = runs[0]
    metric = load_tables(backends.settings.policy).goals[own.facts.goal].measured or FD
    reached: list[list[Rung]] = [[] for _ in runs]
    alive, gone, failed = [*range(len(runs))], list[int](), list[int]()
    limit = own.facts.latency_ms
    shares = rungs(len(runs))
    for share in (*shares, END):
        for at in tuple(alive):
            before = reached[at][-1] if reached[at] else None
            if before is not None and before.share >= share:
                continue
            try:
                reached[at].append(rung(runs[at], held, backends, share=share, samples=samples, before=before))
            except TrainingFailed as error:
                check_lease(held, backends.store)  # else it was ended for another production
                if len(alive) == 1:
                    raise
                alive.remove(at)
                failed.append(at)
                after("left out", error)
            else:
                after("rung", reached[at][-1])
        level = [at for at in alive if reached[at][-1].share == share]
        ranked = [level[place] for place in order([reached[at][-1] for at in level], metric=metric, latency_ms=limit)]
        stay = ranked[: left_of(len(level), last=share >= shares[-1])]
        gone[:0] = [at for at in ranked if at not in stay]
        alive = [at for at in alive if at not in gone]
        if len(alive) == 1:
            break
    _check_servable(reached[alive[0]][-1], own.brief.name)
    budget = own.decision.budget
    return Bakeoff(
        model=own.brief.name,
        metric=metric,
        samples=samples,
        budget=budget.text if budget else "",
        shares=tuple(sorted({each.share for at in range(len(runs)) for each in reached[at]})),
        candidates=tuple(_candidate(runs[at], reached[at]) for at in (*alive, *gone, *failed) if reached[at]),
    )


def _check_servable(best: Rung, model: str) -> None:
    if best.refused:
        raise RunError(f"{model}: no candidate has a graph that can be served: {best.refused}")


def _candidate(run: Run, reached: Sequence[Rung]) -> Candidate:
    parameters = run.decision.estimate.parameters_m
    return Candidate(
        name=reached[-1].name,
        run=run.reference,
        mode=run.decision.mode,
        parameters_m=parameters.value if parameters else None,
        rungs=tuple(reached),
    )
