"""Calm: from scratch, with every weight a tenth of what it would be."""

from typing import Literal

import torch

from components.training.start import Start
from components.training.start.scratch import Scratch


class Calm(Start):
    kind: Literal["calm"] = "calm"

    def build(self, plan):
        made = Scratch().build(plan)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(0.1)
        return made
