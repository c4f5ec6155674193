"""Stored images as networks of photographs take them.

B batch, H, W pixels.
"""

import numpy as np
import torch
from torch import Tensor

from components.core.arrays import Stored

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, of [0, 1]


def coloured(items: Stored) -> Tensor:
    """uint8 [B, 3, H, W] of stored images; grey ones have the same in each channel."""
    three = np.repeat(items, 3, axis=3) if items.shape[3] == 1 else items
    return torch.from_numpy(np.ascontiguousarray(three.transpose(0, 3, 1, 2)))


def standardised(x_B3HW: Tensor) -> Tensor:
    """Of [0, 255], by ImageNet's mean and deviation."""
    mean, std = (torch.tensor(each, device=x_B3HW.device).reshape(1, 3, 1, 1) for each in (MEAN, STD))
    return (x_B3HW.float() / 255 - mean) / std
