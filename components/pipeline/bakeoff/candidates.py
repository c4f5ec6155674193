"""What a bake-off tries: the run that `produce` would make of the brief, and the same brief with other choices forced."""

import sys
from pathlib import Path

from components.core.brief import Brief
from components.core.errors import BriefError, GenwrightError
from components.pipeline.backends import Backends
from components.pipeline.evidence import known_evidence
from components.pipeline.refusals import built_cards
from components.pipeline.resolve import resolve
from components.pipeline.run import Run
from components.policy.contenders import contenders
from components.policy.tables import load_tables


def candidates(brief: Brief, backends: Backends, *, base: Path, top: int) -> list[Run]:
    """At most `top` runs, the policy's own first. What cannot be produced is said and left out.

    Raises BriefError for a brief that forces a choice, and where nothing is left to compare with.
    """
    if brief.override is not None:
        what = "override: given, and a bake-off compares what the brief leaves open"
        raise BriefError(f"{brief.name}: {what}", do="leave override out, or `genwright produce` the choice")
    own = resolve(brief, backends, base=base)
    found = [own]
    tables, evidence = load_tables(backends.settings.policy), known_evidence(brief, backends)
    for forced in contenders(own.facts, own.decision, cards=built_cards(), tables=tables, evidence=evidence):
        if len(found) == top:
            break
        try:
            found.append(resolve(brief.model_copy(update={"override": forced}), backends, base=base))
        except GenwrightError as error:
            sys.stderr.write(f"genwright: {forced.family}/{forced.variant} is left out: {error}\n")
    if len(found) < 2:
        what = (
            f"{brief.name}: the brief leaves {own.decision.family}/{own.decision.variant} alone, so there is nothing to compare"
        )
        raise BriefError(what, do="genwright produce it, or let the brief ask for less")
    return found
