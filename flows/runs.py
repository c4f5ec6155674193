"""What one production run is: its inputs, the key they give, and the record of each stage."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.brief import Brief
from components.core.record import Record
from components.core.records import (
    Bundle,
    Checkpoint,
    Dataset,
    Decision,
    Facts,
    FileDigest,
    GateReport,
    Release,
    Scorecard,
    StoredBundle,
)

if TYPE_CHECKING:
    from flows.place import Place


class Run(Record):
    """One production run: a brief at one data version, built by one version of genwright."""

    brief: Brief
    dataset: Dataset
    facts: Facts
    decision: Decision
    genwright: str

    @property
    def key(self) -> str:
        """A changed brief, data version, package version or choice of the policy gives another key, and so trains again."""
        choice = self.decision.model_dump_json(include={"family", "variant", "mode", "delivery", "config"})
        parts = (self.brief.digest(), self.dataset.md5, self.genwright, choice)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Trained(Record):
    """The outcome of training."""

    run_id: str
    checkpoint: Checkpoint


class Exported(Record):
    """A checked graph."""

    path: str
    file: FileDigest
    condition: str | None
    output: str
    opset: int
    nodes: int
    parity: dict[int, float]


class Proof(Record):
    """What the exported graph scored, beside the champion where there is one."""

    scorecard: Scorecard
    champion: Scorecard | None
    gates: GateReport
    page: str
    samples: str


class Produced(Record):
    """The end of the road: what was made, and whether it reigns."""

    run_key: str
    bundle: StoredBundle
    release: Release
    promoted: bool
    gates: GateReport
    page: str
    samples: str
    train_s: float
    notes: tuple[str, ...] = ()


def package_version() -> str:
    """The installed version of genwright."""
    return version("genwright")


def produced_path(folder: Path) -> Path:
    return folder / "produced.json"


def folder_of(run: Run, place: "Place") -> Path:
    """Where everything of a run stands."""
    return place.settings.work(run.brief.name, run.key)


def evidence(bundle: Bundle) -> dict[str, Any]:
    """What the ledger keeps of a proof."""
    metrics = bundle.scorecard.metrics
    shown: dict[str, Any] = {
        name: metrics[name].model_dump(include={"value", "low", "high", "n"}) for name in ("fd", "fd_ratio") if name in metrics
    }
    return {"verdict": bundle.gates.verdict, "beside": bundle.gates.champion, "scorecard": bundle.scorecard.digest(), **shown}
