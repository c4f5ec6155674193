"""The records that travel between stages: small, frozen, JSON; names, ids and digests, never tensors. One file an owner."""

from components.core.item import AnyItem, ItemSpec, Storage, spec_of
from components.core.records.artifact import Artifact
from components.core.records.bundle import (
    AddedAdapter,
    Admission,
    AdmissionCheck,
    Bundle,
    GraphFile,
    Lineage,
    Port,
    Reference,
    StoredBundle,
)
from components.core.records.checkpoint import AdapterReload, Checkpoint, MemoryUse, Reading, TuningPoint
from components.core.records.condition import ClassCondition, Condition, EmbeddingCondition, ItemCondition
from components.core.records.dataset import Dataset, DataSpec, LocalDataset
from components.core.records.decision import (
    Ceiling,
    Decision,
    Estimate,
    Facts,
    Figure,
    PolicyWarning,
    Pretrained,
    Reason,
    Rejected,
    Tier,
    TrainingBudget,
    UsedCase,
    UsedEvidence,
)
from components.core.records.dry_run import DryRun, DryTraining
from components.core.records.evidence import Case, EvidenceRow, EvidenceTable, Machine
from components.core.records.foreign import Foreign, Licence
from components.core.records.release import Channel, LedgerEntry, Release
from components.core.records.scorecard import Agreement, GateReport, GateVerdict, Metric, Scorecard, ScoringProtocol, Verdict
from components.core.records.text_encoder import ENCODER_JSON, EncoderKind, TextEncoder

__all__ = [
    "AddedAdapter",
    "AdapterReload",
    "Admission",
    "AdmissionCheck",
    "AnyItem",
    "Agreement",
    "Bundle",
    "Case",
    "Ceiling",
    "Channel",
    "Checkpoint",
    "ClassCondition",
    "Condition",
    "DataSpec",
    "Dataset",
    "Decision",
    "Estimate",
    "DryRun",
    "DryTraining",
    "EvidenceRow",
    "EvidenceTable",
    "Facts",
    "Figure",
    "Foreign",
    "Artifact",
    "ENCODER_JSON",
    "EmbeddingCondition",
    "EncoderKind",
    "GateReport",
    "GateVerdict",
    "GraphFile",
    "ItemCondition",
    "ItemSpec",
    "LedgerEntry",
    "Licence",
    "Lineage",
    "LocalDataset",
    "Machine",
    "MemoryUse",
    "Metric",
    "PolicyWarning",
    "Port",
    "Pretrained",
    "ScoringProtocol",
    "Reading",
    "Reason",
    "Reference",
    "Rejected",
    "Release",
    "Scorecard",
    "Storage",
    "StoredBundle",
    "TextEncoder",
    "Tier",
    "TrainingBudget",
    "TuningPoint",
    "Verdict",
    "spec_of",
    "UsedCase",
    "UsedEvidence",
]
