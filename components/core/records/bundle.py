"""What export owns: what is served, its files, where it comes from and whether it may be served."""

from typing import Literal

from pydantic import Field

from components.core.brief import FamilyName, Precision
from components.core.noise import NoiseInput
from components.core.record import Record
from components.core.records.artifact import Artifact
from components.core.records.dataset import DataSpec
from components.core.records.decision import Decision
from components.core.records.scorecard import GateReport, Scorecard


class AdmissionCheck(Record):
    """What one check of a graph saw."""

    check: str
    passed: bool
    text: str


class Admission(Record):
    """Whether a graph may be served, after it was read, loaded and run on a device under limits."""

    verdict: Literal["pass", "fail"]
    device: Literal["cpu", "cuda"]
    checks: tuple[AdmissionCheck, ...]  # the last one says no, where the verdict is fail
    runtime: str  # the version of ONNX Runtime that ran it

    @property
    def refusal(self) -> str:
        """The check that says no and what it saw; empty where the verdict is pass."""
        return next((f"{check.check}: {check.text}" for check in self.checks if not check.passed), "")


class Reference(Record):
    """Images that a graph made when it was sealed, in the bundle's `reference.u8` (components/runtime/reference.py).

    Where it is served, at most `may_differ` of them may differ by more than `tolerance_levels` of 255 on average.
    """

    items: int = Field(ge=1, le=64)
    tolerance_levels: float = Field(ge=0)
    may_differ: int = 0


class Lineage(Record):
    """Where a bundle comes from."""

    run_id: str
    brief_sha256: str
    dataset_md5: str
    dataset_rev: str
    checkpoint_sha256: str
    decision: Decision
    genwright: str  # version
    teacher: str | None = None  # the bundle that it learnt from
    base: str | None = None  # the bundle whose weights it began with
    run_key: str | None = None  # under which the store has the run; None: made by a version that kept it on one machine


class Bundle(Record):
    """What is served. This record is bundle.json; its SHA-256 is the bundle's address."""

    format: Literal[1] = 1
    model: str
    family: FamilyName
    variant: str
    spec: DataSpec
    noise: tuple[NoiseInput, ...]
    condition: str | None  # name of the class-index input (int64, shape [batch]), if the graph has one
    output: str  # name of the image output [batch, C, H, W]
    output_type: Literal["FP32", "UINT8"] = "FP32"  # in [-1, 1], or the 256 levels
    precision: Precision = "fp32"  # of its products
    opset: int
    max_batch: int = Field(ge=1, le=1024)
    files: tuple[Artifact, ...]
    lineage: Lineage
    scorecard: Scorecard
    gates: GateReport
    latent: bool = False  # whether its noise is a latent space: near noise, near images
    admission: Admission | None = None  # None: sealed by a version that did not examine its graphs
    reference: Reference | None = None  # None: sealed by a version that kept none


class StoredBundle(Record):
    """A bundle in an object store."""

    sha256: str
    uri: str
    bundle: Bundle
