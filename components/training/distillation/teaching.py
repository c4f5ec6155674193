"""What every student has: a teacher that is no part of it, and the first weights."""

from typing import Any

import torch
from torch import Tensor, nn

from components.families.diffusion.network import guided


class Teacher:
    """A trained model that is asked and never changed. It is no part of the student: not saved, averaged or counted with it."""

    def __init__(self, family: Any) -> None:
        self.family = family.eval().requires_grad_(False)
        self._denoiser = guided(family.denoiser, family.config)
        self._device = torch.device("cpu")

    @property
    def guides(self) -> bool:
        """Whether it draws with guidance."""
        return self._denoiser is not self.family.denoiser

    @torch.no_grad()
    def denoise(self, x_BCHW: Tensor, time_B: Tensor, labels_B: Tensor | None) -> Tensor:
        """The clean image it sees, under its guidance where it has any."""
        if self._device != x_BCHW.device:  # once: moving walks through all modules
            self._denoiser.to(x_BCHW.device)
            self._device = x_BCHW.device
        clean_BCHW: Tensor = self._denoiser(x_BCHW, time_B) if labels_B is None else self._denoiser(x_BCHW, time_B, labels_B)
        return clean_BCHW

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        """The average of a student has the same teacher."""
        return self


def begin_as(student: nn.Module, teacher: nn.Module) -> bool:
    """Take over the teacher's weights, where all have the same shapes; else none, and False.

    A student without guidance has one class less: that of no class, the last.
    """
    known, taken = student.state_dict(), teacher.state_dict()
    cut = {name: value[: len(known[name])] if _less_by_one(known.get(name), value) else value for name, value in taken.items()}
    if known.keys() != cut.keys() or any(known[name].shape != value.shape for name, value in cut.items()):
        return False
    student.load_state_dict(cut)
    return True


def _less_by_one(own: Tensor | None, other: Tensor) -> bool:
    return own is not None and own.ndim == other.ndim and own.shape[1:] == other.shape[1:] and len(own) == len(other) - 1
