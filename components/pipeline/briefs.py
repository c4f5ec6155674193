"""A brief from its file, every name in it known here: its gates, its families, its modality."""

from pathlib import Path

from components.core.brief import Brief, read_brief
from components.core.errors import BriefError
from components.evaluation.gates import thresholds
from components.families import cards
from components.pipeline.backends import Backends
from components.policy.tables import Tables, load_tables


def load_brief(path: Path, backends: Backends) -> Brief:
    """Read a brief and check its names. Raises BriefError with one line: the field, what was given, what is allowed."""
    brief = read_brief(path)
    check_names(brief, load_tables(backends.settings.policy), where=str(path))
    return brief


def check_names(brief: Brief, tables: Tables, *, where: str = "brief") -> None:
    """Raises BriefError for a gate, family or modality that no file here defines and no table plans."""
    thresholds(brief.gates, where=where)
    found = [card for card, _, _ in cards().values()]
    modalities = dict.fromkeys((*tables.known_modalities, *(each for card in found for each in card.modalities)))
    families = dict.fromkeys((*tables.known_families, *(card.family for card in found)))
    named = (
        ("modality", brief.modality, modalities),
        ("override.family", brief.override and brief.override.family, families),
        ("pretrained.family", brief.pretrained and brief.pretrained.family, families),
    )
    for field, given, known in named:
        if given is not None and given not in known:
            raise BriefError(f"{where}: {field}: {given!r} given", allowed=", ".join(known))
