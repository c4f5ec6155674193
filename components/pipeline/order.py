"""The one order of the stages of a run, and what each of them takes and needs.

Engines, the keys of a run, `distil` and the command line read it here; none repeats it. What a stage does is the function of its
name in components/pipeline/stages.py.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Stage:
    """One step of a run: of the records that it `takes`, by their stages' names, it makes a record of its own."""

    name: str
    takes: tuple[str, ...]
    title: str | None = None  # under which people see it, with what it took before; None: it shows its own progress
    retried: bool = False  # whether another try may help: what it does passes through networks and stores
    keyed: bool = False  # whether it has a key of its own (run.py), under which its record is in the store
    device: Literal["training", "serving"] | None = None  # which device of the run it computes on; None: no GPU is asked for


STAGES = (
    Stage("train", takes=("run", "lease"), keyed=True, device="training"),
    Stage("export", takes=("run", "train"), title="Export", keyed=True),
    Stage("prove", takes=("run", "train", "export"), title="Proof", keyed=True, device="serving"),
    Stage("seal", takes=("run", "train", "export", "prove"), title="Release", retried=True, keyed=True, device="serving"),
    Stage("register", takes=("run", "lease", "train", "seal", "prove"), retried=True),
    Stage("promote", takes=("run", "lease", "train", "seal", "register", "prove"), retried=True),
)
KEYED = tuple(stage.name for stage in STAGES if stage.keyed)
