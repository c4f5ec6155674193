"""What the encoder of a model that is asked by a text makes of "", as a file of safetensors: rows [L, D] that the published
weights do not hold, and that the network knows for "nothing in particular".
"""

from pathlib import Path
from typing import TYPE_CHECKING

from components.core.files import write_whole

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FILE, ROWS = "none.safetensors", "none_LD"  # of components/families/diffusion/given_text.py


def write_none(rows_LD: "npt.NDArray[np.float32]", folder: Path) -> Path:
    """The file, in a folder."""
    from safetensors.numpy import save

    path = folder / FILE
    write_whole(path, save({ROWS: rows_LD}))
    return path
