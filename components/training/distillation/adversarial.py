"""Adversarial fine-tuning of a student: in the second half of its budget a critic D sees what the student draws, in all of its
steps from noise, beside the data, and the student learns to please it, too (Sauer et al. 2023, arXiv:2311.17042, eq. 1-3):

    L = L_distil - weight E[D(x)],   L_D = E[max(0, 1 - D(data))] + E[max(0, 1 + D(x))]

D is that of SNGAN, on pixels; in the paper it reads the features of a pretrained network. It is trained beside the student and
no part of what is kept of it.

B batch, C channels, H height, W width.
"""

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


class Sharpened(Base):
    """Beside a student's class, before it in the order of bases."""

    adversarial: float  # the weight of the discriminator's loss

    def with_critic(self, *, weight: float) -> None:
        """Make D."""
        self.adversarial = weight
        config = SNGANConfig.model_validate(SNGANConfig.defaults(self.spec, light=True))
        self.critic = Discriminator(config, self.spec, limit=spectral_norm)

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """The student's own; from BEGINS on with the discriminator's loss in it, and D's."""
        losses = super().losses(batch, rng)  # type: ignore[safe-super]
        if batch.progress < BEGINS:
            return losses
        labels_B = batch.condition if self.spec.conditional else None
        sampler = self.sampler().to(batch.x.device)
        drawn_BCHW = sampler(*self.noise(len(batch.x), rng), *(() if labels_B is None else (labels_B,)))
        ((group, own),) = losses.items()
        pleased = own - self.adversarial * self.critic(drawn_BCHW, labels_B).mean()
        real_B, drawn_B = (self.critic(x_BCHW, labels_B) for x_BCHW in (batch.x, drawn_BCHW.detach()))
        return {group: pleased, "critic": F.relu(1 - real_B).mean() + F.relu(1 + drawn_B).mean()}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        critic = list(self.critic.parameters())
        ours = {id(parameter) for parameter in critic}
        groups = super().parameter_groups()
        return {name: [each for each in group if id(each) not in ours] for name, group in groups.items()} | {"critic": critic}

    def rates(self) -> dict[str, float]:
        return super().rates() | {"critic": CRITIC_RATE}

    def kept(self) -> dict[str, Tensor]:
        return {name: value for name, value in super().kept().items() if not name.startswith("critic.")}


@cache
def sharpened(student: Any) -> Any:
    """The class of a student, with a critic beside it."""
    return type(f"Sharpened{student.__name__}", (Sharpened, student), {"__module__": __name__, "__doc__": student.__doc__})
