"""The arrays that pass between parts, by what they hold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Stored = npt.NDArray[Any]  # [N, *stored_shape] of an item's storage (core/item.py); of images uint8 [N, H, W, C]
Raw = bytes | Stored  # an item as a source has it: a file, or an array
Pictures = npt.NDArray[np.uint8]  # [N, H, W, 1 to 4]
Asked = Sequence[int] | npt.NDArray[Any]  # what each of N items is asked for by: class indices, or [N, *shape] of the condition
