"""The records that travel between stages: small, frozen, JSON; names, ids and digests, never tensors. One file an owner."""

from components.core.records.artifact import Artifact
from components.core.records.bundle import Admission, AdmissionCheck, Bundle, Lineage, Reference, StoredBundle
from components.core.records.checkpoint import Checkpoint, Reading
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
)
from components.core.records.release import Channel, LedgerEntry, Release
from components.core.records.scorecard import Agreement, GateReport, GateVerdict, Metric, Protocol, Scorecard, Verdict

__all__ = [
    "Admission",
    "AdmissionCheck",
    "Agreement",
    "Bundle",
    "Ceiling",
    "Channel",
    "Checkpoint",
    "DataSpec",
    "Dataset",
    "Decision",
    "Estimate",
    "Facts",
    "Figure",
    "Artifact",
    "GateReport",
    "GateVerdict",
    "LedgerEntry",
    "Lineage",
    "LocalDataset",
    "Metric",
    "PolicyWarning",
    "Pretrained",
    "Protocol",
    "Reading",
    "Reason",
    "Reference",
    "Rejected",
    "Release",
    "Scorecard",
    "StoredBundle",
    "Tier",
    "TrainingBudget",
    "Verdict",
]
