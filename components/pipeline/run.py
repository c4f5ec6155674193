"""What one production run is: its inputs, the key they give, and the record of each stage."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.core.brief import Brief, Precision
from components.core.record import Record
from components.core.records import (
    Agreement,
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
    from components.pipeline.backends import Backends


SAMPLES = {"one_pass": 2000, "few_step": 2000, "many_step": 500}  # behind a scorecard; a many-step sampler is slow


class Student(Record):
    """What a distilled model is: the release it learns from, with its checkpoint, and what it shall be."""

    teacher: Release
    checkpoint: Checkpoint
    steps: int
    width: int
    lr_peak: float
    seconds: float
    adversarial: float = 0.0  # the weight of a critic's word
    device: Literal["cpu", "cuda"]  # where it is trained; facts.device is where it will be served

    @property
    def choice(self) -> str:
        """What makes it another student."""
        own = f"{self.steps} {self.width} {self.seconds:g} {self.adversarial:g}"
        return f"{self.teacher.bundle_sha256} {self.checkpoint.sha256} {own}"


class Run(Record):
    """One production run: a brief at one data version, built by one version of genwright. A `student` has a teacher besides."""

    brief: Brief
    dataset: Dataset
    facts: Facts
    decision: Decision
    genwright: str
    student: Student | None = None

    @property
    def key(self) -> str:
        """A changed brief, data version, package version, choice of the policy or teacher gives another key, and trains again."""
        own = {"family", "variant", "mode", "delivery", "config"}
        choice = self.decision.model_dump_json(include={**dict.fromkeys(own, True), "budget": {"items_seen", "items_enough"}})
        taught = () if self.student is None else (self.student.choice,)
        parts = (self.brief.digest(), self.dataset.md5, self.genwright, choice, *taught)
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
    output_type: Literal["FP32", "UINT8"] = "FP32"
    precision: Precision = "fp32"
    opset: int
    nodes: int
    parity: dict[int, float]


class Proof(Record):
    """What the exported graph scored, beside the champion where there is one."""

    scorecard: Scorecard
    champion: Scorecard | None
    gates: GateReport
    agreement: Agreement
    latency_ms: float | None  # the limit that the gates took
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
    advice: str = ""  # what to do where a gate did not let it pass


def package_version() -> str:
    """The installed version of genwright."""
    return version("genwright")


def produced_path(folder: Path) -> Path:
    return folder / "produced.json"


def folder_of(run: Run, backends: "Backends") -> Path:
    """Where everything of a run stands."""
    return backends.settings.work(run.brief.name, run.key)


def evidence(bundle: Bundle) -> dict[str, Any]:
    """What the ledger keeps of a proof."""
    metrics = bundle.scorecard.metrics
    shown: dict[str, Any] = {
        name: metrics[name].model_dump(include={"value", "low", "high", "n"}) for name in ("fd", "fd_ratio") if name in metrics
    }
    return {"verdict": bundle.gates.verdict, "beside": bundle.gates.champion, "scorecard": bundle.scorecard.digest(), **shown}
