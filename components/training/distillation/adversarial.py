"""Adversarial fine-tuning of a student: in the second half of its budget a critic D sees what the student draws, in all of its
steps from noise, beside the data, and the student learns to please it, too (Sauer et al. 2023, arXiv:2311.17042, eq. 1-3):

    L = L_distil - weight E[D(x)],   L_D = E[max(0, 1 - D(data))] + E[max(0, 1 + D(x))]

D is that of SNGAN, on pixels; in the paper it reads the features of a pretrained network. It is trained beside the student and
no part of what is kept of it.

B batch, C channels, H height, W width.
"""

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from components.core.family import Batch
from components.families.gan.residual import Discriminator
from components.families.gan.sngan import SNGANConfig

if TYPE_CHECKING:
    from components.core.family import Family as Base
else:
    Base = object

BEGINS = 0.5  # share of the budget
CRITIC_RATE = 0.2  # of the student's
CRITIC, STUDENT = "critic", "student"  # the turns, and D's parameter group


class Sharpened(Base):
    """Beside a student's class, before it in the order of bases."""

    adversarial: float  # the weight of the discriminator's loss

    def with_critic(self, *, weight: float) -> None:
        """Make D."""
        self.adversarial = weight
        config = SNGANConfig.model_validate(SNGANConfig.defaults(self.spec, light=True))
        self.critic = Discriminator(config, self.spec, limit=spectral_norm)

    def turns(self) -> dict[str, int]:
        """D moves first, then the student, against the D that has moved."""
        return {CRITIC: 1, STUDENT: 1}

    def due(self, batch: Batch) -> tuple[str, ...]:
        return super().due(batch) if batch.progress >= BEGINS else (STUDENT,)

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """D's and the student's, of the turn; the student's has what D says in it from BEGINS on."""
        turns = (batch.turn,) if batch.turn else self.due(batch)
        losses: dict[str, Tensor] = {}
        if CRITIC in turns:
            with torch.no_grad():
                drawn_BCHW = self._drawn(batch, rng)
            real_B, drawn_B = (self.critic(x_BCHW, self._labels(batch)) for x_BCHW in (batch.x, drawn_BCHW))
            losses = {CRITIC: F.relu(1 - real_B).mean() + F.relu(1 + drawn_B).mean()}
        if STUDENT in turns:
            losses |= self._student_losses(replace(batch, turn=""), rng)
        return losses

    def _student_losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        losses = super().losses(batch, rng)  # type: ignore[safe-super]
        if batch.progress < BEGINS:
            return losses
        ((group, own),) = losses.items()
        return {group: own - self.adversarial * self.critic(self._drawn(batch, rng), self._labels(batch)).mean()}

    def _labels(self, batch: Batch) -> Tensor | None:
        return batch.condition if self.spec.conditional else None

    def _drawn(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """What the student draws, in all of its steps, for the classes of the batch."""
        labels_B, sampler = self._labels(batch), self.sampler().to(batch.x.device)
        x_BCHW: Tensor = sampler(*self.noise(len(batch.x), rng), *(() if labels_B is None else (labels_B,)))
        return x_BCHW

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        critic = list(self.critic.parameters())
        ours = {id(parameter) for parameter in critic}
        groups = super().parameter_groups()
        return {name: [each for each in group if id(each) not in ours] for name, group in groups.items()} | {CRITIC: critic}

    def rates(self) -> dict[str, float]:
        return super().rates() | {CRITIC: CRITIC_RATE}

    def kept(self) -> dict[str, Tensor]:
        return {name: value for name, value in super().kept().items() if not name.startswith("critic.")}


@cache
def sharpened(student: Any) -> Any:
    """The class of a student, with a critic beside it."""
    return type(f"Sharpened{student.__name__}", (Sharpened, student), {"__module__": __name__, "__doc__": student.__doc__})
