"""What a training may use, from the brief's grant: work in items seen, and ceilings on its time.

    compute.items_seen                 that many items, whatever they take
    minutes, gpu_hours, usd            ceilings; a probe on the device turns the lowest into items, up to what is enough
    nothing                            what the tier trains: steps(tier) * batch items

Enough is what the paper's own run saw, and no more than `epochs_enough` times each item of the data (rules/estimate.yaml).
"""

from components.core.brief import COMBINE, UNCHANGED
from components.core.records import Ceiling, Facts, Figure, TrainingBudget
from components.policy.estimate import Pick, items_s, price_of, rounded, tuned, tuning_s
from components.policy.rows import Costs

UNTRAINED = {  # the starts that learn nothing
    UNCHANGED: "nothing: the base is released as it is",
    COMBINE: "nothing: the adapters are added to the base as they are",
}


def training_budget(facts: Facts, costs: Costs, pick: Pick, *, usd_per_gpu_hour: float) -> tuple[TrainingBudget, Figure]:
    """The budget of a choice, and the seconds of the clock that its training takes by it."""
    ceilings = _ceilings(facts, usd_per_hour=price_of(facts, costs, usd_per_gpu_hour=usd_per_gpu_hour))
    devices = facts.workers if facts.device == "cuda" else 1
    granted = TrainingBudget(items_seen=facts.items_seen, ceilings=ceilings, text="").lowest(devices=devices)
    if pick.mode in UNTRAINED:
        return TrainingBudget(items_seen=None, text=UNTRAINED[pick.mode]), _figure(0.0, "nothing is trained", None)
    if tuned(facts, pick):
        wanted, basis = tuning_s(facts, costs, pick.mode)
        text = f"as long as fine-tuning takes: about {_duration(wanted)}" + (f", at most {_grant(granted)}" if granted else "")
        return TrainingBudget(items_seen=facts.items_seen, ceilings=ceilings, text=text), _figure(wanted, basis, granted)
    enough = _enough(facts, costs, pick)
    items = facts.items_seen or (None if granted else costs.tiers[facts.tier].steps * costs.batch)
    wanted, basis = items_s(items or enough, facts, costs, pick)
    wanted /= devices
    most = enough if items is None and facts.spend == "enough" else None
    if facts.items_seen:
        text = f"{items:,} items seen (compute.items_seen)" + (f", at most {_grant(granted)}" if granted else "")
    elif granted is None:
        text = f"{items:,} items seen, as no budget is granted: {costs.tiers[facts.tier].steps:,} steps of {costs.batch}"
    elif most is not None and wanted < granted.seconds:
        because = costs.enough_of(pick.family).because if most == costs.enough_of(pick.family).items_seen else _epochs(costs)
        text = (
            f"{most:,} items seen, about {_duration(wanted)}, of the {_grant(granted)}: they are enough ({because});"
            " compute.spend: all asks for the whole"
        )
    else:
        upto = f", up to {most:,}, which are enough" if most is not None else ""
        text = f"all of the {_grant(granted)}: a probe on the device turns it into items seen{upto}"
    budget = TrainingBudget(items_seen=items, items_enough=most, ceilings=ceilings, text=text)
    return budget, _figure(wanted if items or most else granted.seconds, basis, granted)  # type: ignore[union-attr]


def _ceilings(facts: Facts, *, usd_per_hour: float) -> tuple[Ceiling, ...]:
    gpu = facts.device == "cuda"
    found = []
    if facts.minutes is not None:
        found.append(Ceiling(name="compute.minutes", seconds=facts.minutes * 60))
    if facts.gpu_hours is not None:
        found.append(Ceiling(name="compute.gpu_hours", seconds=facts.gpu_hours * 3600, shared=gpu))
    if facts.usd is not None:
        found.append(Ceiling(name="compute.usd", seconds=facts.usd / usd_per_hour * 3600, shared=gpu))
    return tuple(found)


def _enough(facts: Facts, costs: Costs, pick: Pick) -> int:
    own = costs.enough_of(pick.family).items_seen
    return own if facts.items is None else min(own, costs.epochs_enough * facts.items)


def _epochs(costs: Costs) -> str:
    return f"each item {costs.epochs_enough:,} times, as EDM's run on CIFAR-10, arXiv:2206.00364"


def _figure(wanted: float, basis: str, granted: Ceiling | None) -> Figure:
    if granted is not None and granted.seconds <= wanted:
        return Figure(value=granted.seconds, unit="s", basis=f"brief: {granted.name} ends it")
    return Figure(value=rounded(wanted), unit="s", basis=basis)


def _grant(granted: Ceiling) -> str:
    return f"{_duration(granted.seconds)} that {granted.name} grants"


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            count = seconds / size
            return f"{count:,.0f} {unit}" if count >= 100 else f"{count:.3g} {unit}"
    return f"{seconds:.3g} s"
