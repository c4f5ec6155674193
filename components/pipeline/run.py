"""What one production run is: its inputs, the key that they give each stage, and the record of each stage.

The key of a stage is the digest of what the stage depends on and of nothing more: a changed schedule changes none, a changed gate
that of the proof and of what follows it, as a metric that was added does; a changed precision that of the export and of what
follows.
"""

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from components.core import store_keys
from components.core.brief import Brief, DataBrief, LoraBrief, Precision
from components.core.home import Home
from components.core.record import Record
from components.core.records import (
    AdapterReload,
    Agreement,
    Artifact,
    Bundle,
    Checkpoint,
    Dataset,
    Decision,
    Facts,
    Foreign,
    GateReport,
    Release,
    Scorecard,
    StoredBundle,
    TextEncoder,
)
from components.evaluation.definitions import words
from components.evaluation.gates import thresholds
from components.pipeline.order import KEYED

UNKEYED = ("run", "promote")  # records under the key of the last stage that has one
# Those that were there when metrics became part of a proof's key. It names what was added or removed since, so that keys of
# before stayed as they were: not a list to keep in step.
METRICS_AT_FIRST = frozenset(
    (
        *("bits_per_dim", "class_share_min", "confident_share", "confident_share_real", "coverage", "coverage_lost", "density"),
        *("diversity", "duplicates", "fd", "fd_noise", "fd_noise_ratio", "fd_ratio", "fd_real", "kid", "label_agreement"),
        *("latency_p95_ms", "memorised", "precision", "recall", "recall_lost", "reconstruction_error", "throughput_per_s"),
    )
)
SAMPLES = {"one_pass": 2000, "few_step": 2000, "many_step": 500}  # behind a scorecard; a many-step sampler is slow


class Encoder(Record):
    """The text encoder that items are asked through, and its files in the store: every machine that trains, proves or seals has
    the same bytes."""

    record: TextEncoder
    files: tuple[Artifact, ...]

    @property
    def training(self) -> list[Any]:
        """What makes a training by it another one: not the bytes of the graph, which a version of torch may write otherwise."""
        return [self.record.sha256, self.record.length, self.record.precision]


class Student(Record):
    """What a distilled model is: the release it learns from, with its checkpoint, and what it shall be."""

    teacher: Release
    checkpoint: Checkpoint
    steps: int
    trained_for: int  # the steps that its training is read at: one training may serve several numbers of steps
    width: int
    lr_peak: float
    seconds: float
    adversarial: bool = False  # whether `checkpoint` is a student in one step already, which learns on from a critic
    device: Literal["cpu", "cuda"]  # where it is trained; facts.device is where it will be served
    origin: Foreign | None = None  # the model made elsewhere that its teacher began with

    @property
    def training(self) -> dict[str, Any]:
        """What makes its training another one."""
        own = self.model_dump(mode="json", include={"trained_for", "width", "seconds", "adversarial", "device"})
        return own | {"teacher": self.teacher.bundle_sha256, "checkpoint": self.checkpoint.weights.sha256}


def in_steps(steps: int, *, adversarial: bool) -> str:
    """What tells the students of one width apart, in words."""
    return f"{steps} step{'s' * (steps > 1)}" + ", adversarial" * adversarial


class Adapter(Record):
    """A release by LoRA that is added to its base, with a weight."""

    model: str
    version: int
    bundle_sha256: str
    checkpoint: Checkpoint
    weight: float

    @property
    def name(self) -> str:
        return f"{self.model}/{self.version}"


class Base(Record):
    """What a model begins with, and its checkpoint: a release, or a model made elsewhere, without version and bundle. `adapters`
    of it may be added."""

    model: str
    version: int | None
    bundle_sha256: str | None
    checkpoint: Checkpoint
    teacher: str | None = None  # NAME/VERSION, where it is a student
    foreign: Foreign | None = None
    origin: Foreign | None = None  # the model made elsewhere that it all began with, of a release too
    adapters: tuple[Adapter, ...] = ()  # by the digests of their weights: their order in a brief says nothing
    encoder: Encoder | None = None  # of a release that is asked in words

    @property
    def name(self) -> str:
        """NAME/VERSION; of a model made elsewhere hf:ORG/NAME@COMMIT, or FOLDER@DIGEST."""
        return f"{self.model}/{self.version}" if self.foreign is None else self.foreign.name

    @property
    def sha256(self) -> str:
        """Of its bundle; of a model made elsewhere, of its weights."""
        return self.bundle_sha256 or self.checkpoint.weights.sha256

    @property
    def sum(self) -> str:
        """Its name, and each adapter with its weight: 'letters/1 + 0.7 thin/2 - 0.2 bold/1'."""
        added = (f"{'-' if each.weight < 0 else '+'} {abs(each.weight):g} {each.name}" for each in self.adapters)
        return " ".join([self.name, *added])

    @property
    def added(self) -> dict[str, float]:
        """The weight of each adapter, by its bundle."""
        return {each.bundle_sha256: each.weight for each in self.adapters}

    @property
    def text(self) -> str:
        """What a page says of it."""
        if self.foreign is None:
            return f"{self.name}, bundle {self.sha256}"
        asked = f" ({self.foreign.revision_text})" if self.foreign.unverified else ""
        what = f"{self.name}{asked}, a {self.foreign.made_as} made elsewhere"
        return f"{what}, weights {self.sha256}, licence {self.foreign.licence.text}"

    @property
    def training(self) -> dict[str, Any]:
        """What makes a training that begins with it another one: a release in another precision is none."""
        own = {"weights": self.checkpoint.weights.sha256, "config": self.checkpoint.config}
        added = [[each.checkpoint.weights.sha256, each.weight] for each in self.adapters]
        return own | ({"adapters": added} if added else {})


class Run(Record):
    """One production run: a brief at one data version, built by one version of genwright. A `student` has a teacher besides, what
    is fine-tuned a `base`, and what is asked in words an `encoder`."""

    brief: Brief
    dataset: Dataset
    facts: Facts
    decision: Decision
    genwright: str
    student: Student | None = None
    base: Base | None = None
    encoder: Encoder | None = None
    proof_network: Artifact | None = None  # the file that the brief names for its proofs
    anew: bool = False  # a training of the same beside its own, which is further than where a bake-off judges it

    @property
    def lora(self) -> LoraBrief:
        """How it is adapted, where the start is LoRA."""
        given = self.brief.pretrained.lora if self.brief.pretrained else None
        return given or LoraBrief()

    @property
    def freeze(self) -> bool:
        """Whether lower layers of a discriminator rest."""
        given = self.brief.pretrained.freeze if self.brief.pretrained else None
        return bool(given)

    @property
    def reference(self) -> str:
        """MODEL/KEY, as commands name it."""
        return f"{self.brief.name}/{self.key(KEYED[-1])}"

    @property
    def origin(self) -> Foreign | None:
        """The model made elsewhere that its weights began with, if any did: its licence goes with all that is made of it."""
        return self.base.origin if self.base else self.student.origin if self.student else None

    def of_data(self, data: DataBrief) -> "Run":
        """The same, its data named another way."""
        brief, dataset = self.brief.model_copy(update={"data": data}), self.dataset.model_copy(update={"repo": data.repo})
        return self.model_copy(update={"brief": brief, "dataset": dataset})

    def key(self, stage: str) -> str:
        """The digest of what a stage depends on, that of the stage before among it. Only a stage that is `keyed` has one."""
        own: dict[str, Callable[[], dict[str, Any]]] = {
            "train": self._training,
            "export": self._exporting,
            "prove": self._proving,
            "seal": lambda: {"batch": self.brief.serving.batch},
        }
        before = KEYED.index(stage) - 1
        parts = own[stage]() | ({"before": self.key(KEYED[before])} if before >= 0 else {})
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _training(self) -> dict[str, Any]:
        """The data, the choice, where the weights begin, and the work."""
        brief, compute, student = self.brief, self.brief.compute, self.student
        prior = brief.pretrained.prior_preservation if brief.pretrained else 0.0
        choice = {"family", "variant", "mode", "config"} | ({"delivery"} if student is None else set())
        return {
            "data": self.dataset.md5,
            "genwright": self.genwright,
            "decision": self.decision.model_dump(
                mode="json", include={**dict.fromkeys(choice, True), "budget": {"items_seen", "items_enough", "ceilings"}}
            ),
            "config": brief.override.config if brief.override else {},
            "conditioning": brief.conditioning,
            "seed": brief.seed,
            "processes": [compute.workers, compute.threads],
            "device": self.facts.device if student is None else student.device,
            "student": student and student.training,
            **({"base": self.base.training} if self.base else {}),
            **({"text": self.encoder.training} if self.encoder else {}),
            **({"prior": prior} if prior else {}),
            **({"anew": True} if self.anew else {}),
            **({"freeze": True} if self.freeze else {}),
            **({"lora": self.lora.model_dump(mode="json")} if self.decision.mode == "lora" else {}),
        }

    def _exporting(self) -> dict[str, Any]:
        serving = self.brief.serving
        return {"precision": serving.precision, "output": serving.output, "steps": self.student and self.student.steps}

    def _proving(self) -> dict[str, Any]:
        """What is judged, and what is measured: a metric that was added is in no proof of before."""
        facts, looks, other = self.facts, self.brief.proof.looks, set(words()) ^ METRICS_AT_FIRST
        return {
            "gates": thresholds(self.brief.gates),
            "latency_ms": facts.latency_ms,
            "device": facts.device,
            "delivery": self.decision.delivery,
            **({"metrics": sorted(other)} if other else {}),
            **({"looks": looks} if looks is not None else {}),
            **({"network": self.proof_network.sha256} if self.proof_network else {}),
        }

    def checkpoint(self, trained: "Trained") -> Checkpoint:
        """What is drawn from: the training's best weights, in as many steps as this run asks for."""
        if self.student is None:
            return trained.checkpoint
        return trained.checkpoint.model_copy(update={"config": trained.checkpoint.config | {"steps": self.student.steps}})


class Trained(Record):
    """The outcome of training."""

    run_id: str
    checkpoint: Checkpoint
    adapter: AdapterReload | None = None  # of LoRA: what other programs made of the files that leave the house


class Exported(Record):
    """A checked graph."""

    graph: Artifact
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
    page: Artifact
    samples: Artifact


class Produced(Record):
    """The end of the road: what was made, and whether it is champion."""

    run_key: str  # of its bundle
    bundle: StoredBundle
    release: Release
    promoted: bool
    awaits: str = ""  # the tag that promotion requires and the version lacks, where every gate passed
    gates: GateReport
    page: Artifact
    samples: Artifact
    train_s: float
    notes: tuple[str, ...] = ()
    advice: str = ""  # what to do where a gate did not let it pass


def package_version() -> str:
    """The installed version of genwright."""
    return version("genwright")


def folder_of(run: Run, home: Home, stage: str) -> Path:
    """Where everything of a stage of a run stands on this machine."""
    return home.work(run.brief.name, stage, run.key(stage))


def record_key(run: Run, stage: str, *, beside: str | None = None) -> str:
    """Where the store has the record of a stage. A proof, and the bundle that holds it, are of one champion that it was made
    `beside`, by its digest; the run as a whole, and what became of it, are of none."""
    assert stage in (*KEYED, *UNKEYED), stage
    key = run.key(stage if stage in KEYED else KEYED[-1])
    if stage in ("prove", "seal"):
        key = hashlib.sha256(f"{key} beside {beside}".encode()).hexdigest()
    return store_keys.run_record(run.brief.name, key, stage)


def evidence(bundle: Bundle) -> dict[str, Any]:
    """What the ledger keeps of a proof."""
    metrics = bundle.scorecard.metrics
    shown: dict[str, Any] = {
        name: metrics[name].model_dump(include={"value", "low", "high", "n"})
        for name in ("fd", "distance_ratio", "heldout_ratio")
        if name in metrics
    }
    lineage = bundle.lineage
    if lineage.base is not None:
        shown["base"] = lineage.base
    if lineage.adapters:
        shown["adapters"] = [each.model_dump(mode="json") for each in lineage.adapters]
    if lineage.foreign is not None:
        shown["base"] = {"name": lineage.foreign.name, "licence": lineage.foreign.licence.name}
    return {"verdict": bundle.gates.verdict, "beside": bundle.gates.champion, "scorecard": bundle.scorecard.digest(), **shown}
