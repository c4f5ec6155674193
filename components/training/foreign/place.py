"""Where a model made elsewhere was found on this machine, and what is read of it there."""

from pathlib import Path
from typing import NamedTuple

# What samples look like and other formats of weights are left there. A star stands for folders, too.
SMALL = ["*.json", "*merges.txt", "README.md", "LICEN[SC]E*", "COPYING"]
WEIGHTS = ["*/*.safetensors"]  # of a pipeline's parts; one file of all of them, as other tools have it, lies beside them


class Place(NamedTuple):
    """A folder on this machine, and the commit that its files are of; where nothing knows it, the revision that was asked for."""

    folder: Path
    revision: str | None
    unverified: str | None = None
