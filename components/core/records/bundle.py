"""What export owns: what is served, its files, where it comes from and whether it may be served."""

from typing import Annotated, Literal

from pydantic import Field

from components.core.brief import FamilyName, Precision
from components.core.noise import NoiseInput
from components.core.record import Record
from components.core.records.artifact import Artifact
from components.core.records.checkpoint import AdapterReload
from components.core.records.dataset import DataSpec
from components.core.records.decision import Decision
from components.core.records.foreign import Foreign
from components.core.records.scorecard import GateReport, Scorecard
from components.core.records.text_encoder import TextEncoder


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
    """Items that a graph made when it was sealed, in a file of the bundle (components/runtime/reference.py).

    Where it is served, at most `may_differ` of them may differ by more than `tolerance_levels` of 255 on average.
    """

    items: int = Field(ge=1, le=64)
    tolerance_levels: float = Field(ge=0)
    may_differ: int = 0


class AddedAdapter(Record):
    """A release by LoRA that was added to its base."""

    model: str
    bundle: str  # its digest
    weights: str  # the digest of its merged weights
    weight: float


class Lineage(Record):
    """Where a bundle comes from."""

    run_id: str | None = None  # of MLflow, in bundles of before they were the same wherever they are made
    brief_sha256: str
    dataset_md5: str
    dataset_rev: str
    checkpoint_sha256: str
    decision: Decision
    genwright: str  # version
    teacher: str | None = None  # the bundle that it learnt from
    base: str | None = None  # the bundle whose weights it began with
    base_weights: str | None = None  # these weights, by their digest: those of a model made elsewhere, too
    adapters: tuple[AddedAdapter, ...] = ()  # that were added to them
    foreign: Foreign | None = None  # the model made elsewhere whose weights it began with, or is
    encoder: TextEncoder | None = None  # that reads the texts by which it is asked
    run_key: str | None = None  # under which the store has the run; None: made by a version that kept it on one machine


class Port(Record):
    """One input or output of a graph: its name, its type by the Open Inference Protocol, and the shape of one item."""

    name: str
    datatype: Literal["FP32", "FP16", "INT64", "INT32", "UINT8", "BOOL"]
    shape: tuple[Annotated[int, Field(ge=1)], ...]


class GraphFile(Record):
    """A graph beside the sampler, such as `text_encoder`: its file in the bundle, and what it takes and makes."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    file: str
    inputs: Annotated[tuple[Port, ...], Field(min_length=1)]
    outputs: Annotated[tuple[Port, ...], Field(min_length=1)]
    opset: int


class Bundle(Record):
    """What is served. This record is bundle.json; its SHA-256 is the bundle's address.

    It holds nothing of the moment in which it was made: the same brief, data and code make the same bundle on the same kind of
    processor, whatever engine runs them. What a clock measured stands in its proof (pipeline/proved.py).

    The sampler is model.onnx, which the fields here describe; `graphs` are those beside it. Format 1 knew images and one graph.
    """

    format: Literal[1, 2] = 2
    model: str
    family: FamilyName
    variant: str
    spec: DataSpec
    noise: tuple[NoiseInput, ...]
    condition: str | None  # name of the input that spec.condition describes, if the graph has one
    output: str  # name of the items [batch, *spec.shape]
    output_type: Literal["FP32", "UINT8"] = "FP32"  # in data units, or the 256 levels
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
    graphs: tuple[GraphFile, ...] = ()
    adapter: AdapterReload | None = None  # of LoRA: what peft and diffusers alone made of the adapter's files


class StoredBundle(Record):
    """A bundle that an object store has, whichever store that is."""

    sha256: str
    bundle: Bundle
