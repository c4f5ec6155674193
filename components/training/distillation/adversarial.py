"""Adversarial post-training of a student (Lin et al. 2025, arXiv:2501.08316): from the weights of one that is distilled, against
a critic D that sees what it draws, in all of its steps from noise, beside the data. Nothing else teaches it then:

    L_D = E[max(0, 1 - D(data))] + E[max(0, 1 + D(x))],   L = -E[D(x)]

Both learn from the same x at once. D is that of SNGAN, on pixels, and begins with random weights, so it learns alone first; in
the paper it is the teacher's network, with a penalty on its slope in place of spectral norms. It is no part of what is kept.

B batch, C channels, H height, W width.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from components.core.family import Batch
from components.core.records import ClassCondition, DataSpec
from components.families.gan.residual import Discriminator
from components.families.gan.sngan import SNGANConfig
from components.families.images import side_of

if TYPE_CHECKING:
    from components.core.family import Family as Base
else:
    Base = object

CRITIC = "critic"  # D's parameter group
CRITIC_RATE = 4.0  # of the student's
WIDTH = 32  # of D: half of it left a student farther from the data (docs/decisions/0052-one-step.md)
ALONE = 0.05  # share of the budget in which D learns alone
SIDE_MAX = 128  # pixels; D is a network for small images
RECIPE: dict[str, Any] = {"betas": (0.0, 0.99)}  # of a game, in place of the student's own


def beyond(spec: DataSpec) -> str | None:
    """Why D cannot judge such items, None where it can: it is for small images by themselves or by class."""
    if spec.item.modality != "image":
        return f"items of {spec.item.modality}"
    if spec.condition is not None and not isinstance(spec.condition, ClassCondition):
        return f"items that are asked for by {spec.condition.kind}"
    return f"images of {side_of(spec)} pixels a side" if side_of(spec) > SIDE_MAX else None


class PostTrained(Base):
    """Beside a student's class, before it in the order of bases."""

    def with_critic(self) -> None:
        """Make D."""
        config = SNGANConfig.model_validate(SNGANConfig.defaults(self.spec, light=True) | {"width": WIDTH})
        self.critic = Discriminator(config, self.spec, limit=spectral_norm)

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """D's and, from ALONE on, the student's, of the same images."""
        group, labels_B = self._student_group(), batch.condition if self.spec.conditional else None
        alone = batch.progress < ALONE
        with torch.set_grad_enabled(torch.is_grad_enabled() and not alone):
            drawn_BCHW = self._drawn(len(batch.x), labels_B, rng)
        real_B, drawn_B = self.critic(batch.x, labels_B), self.critic(drawn_BCHW, labels_B)
        losses = {CRITIC: F.relu(1 - real_B).mean() + F.relu(1 + drawn_B).mean()}
        return losses if alone else losses | {group: -drawn_B.mean()}

    def _drawn(self, n: int, labels_B: Tensor | None, rng: torch.Generator) -> Tensor:
        """What the student draws, in all of its steps."""
        noise = self.noise(n, rng)
        sampler = self.sampler().to(noise[0].device)
        x_BCHW: Tensor = sampler(*noise, *(() if labels_B is None else (labels_B,)))
        return x_BCHW

    def _student_group(self) -> str:
        """The one that its own loss would move."""
        names = super().parameter_groups()
        return next(name for name in ("model", "prior") if name in names)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        critic = list(self.critic.parameters())
        ours = {id(parameter) for parameter in critic}
        groups = super().parameter_groups()
        return {name: [each for each in group if id(each) not in ours] for name, group in groups.items()} | {CRITIC: critic}

    def rates(self) -> dict[str, float]:
        return super().rates() | {CRITIC: CRITIC_RATE}

    def rate_share(self, progress: float) -> float:
        del progress  # the stages are of what it was taught by
        return 1.0

    def stage_progress(self, progress: float) -> float:
        return progress

    def encoded_from(self) -> float | None:
        return None  # D sees items, no codes

    def kept(self) -> dict[str, Tensor]:
        return {name: value for name, value in super().kept().items() if not name.startswith("critic.")}


@cache
def post_trained(student: Any) -> Any:
    """The class of a student, against a critic."""
    return type(f"PostTrained{student.__name__}", (PostTrained, student), {"__module__": __name__, "__doc__": student.__doc__})
