"""What a bake-off tries: the run that `produce` would make of the brief, and the same brief with other choices forced."""

import hashlib
import json
import sys
from pathlib import Path

from components.core import store_keys
from components.core.brief import Brief
from components.core.errors import BriefError, GenwrightError
from components.core.record import Record
from components.pipeline.backends import Backends
from components.pipeline.evidence import known_evidence
from components.pipeline.refusals import built_cards
from components.pipeline.resolve import resolve
from components.pipeline.run import Run
from components.policy.contenders import contenders
from components.policy.tables import load_tables


class Contenders(Record):
    """What a bake-off tries, as it was begun: each of its rungs is evidence, by which another choice would be made since."""

    runs: tuple[Run, ...]


def candidates(brief: Brief, backends: Backends, *, base: Path, top: int) -> list[Run]:
    """At most `top` runs, the policy's own first; begun again, those that it was begun with, whatever was measured since.

    What cannot be produced is said and left out. Raises BriefError for a brief that forces a choice, and where nothing is left
    to compare with.
    """
    if brief.override is not None:
        what = "override: given, and a bake-off compares what the brief leaves open"
        raise BriefError(f"{brief.name}: {what}", do="leave override out, or `genwright produce` the choice")
    own = resolve(brief, backends, base=base)
    key = store_keys.contenders(brief.name, _begun_with(own, backends, top=top))
    found = backends.workspace.read_or_make(key, Contenders, lambda: _chosen(own, brief, backends, base=base, top=top))
    return [*found.runs]


def _begun_with(own: Run, backends: Backends, *, top: int) -> str:
    """The digest of all that contenders are chosen by, but for the evidence; a commit beside the data is nothing new."""
    settings = backends.settings
    parts = {
        "run": own.model_dump(mode="json", exclude={"decision", "dataset"}),
        "data": own.dataset.md5,
        "tables": load_tables(settings.policy).digest(),
        "usd_per_gpu_hour": settings.usd_per_gpu_hour,
        "top": top,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _chosen(own: Run, brief: Brief, backends: Backends, *, base: Path, top: int) -> Contenders:
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
    return Contenders(runs=tuple(found))
