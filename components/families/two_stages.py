"""Families that train an autoencoder first and then a prior of its codes, and what makes the autoencoder's images sharp.

    L = L_rec + s d(x, x^) - w lambda E[D(x^)]

L_rec is the family's squared error, least for a blurred image wherever the code leaves an edge open. d counts edges of every
size (laplacian.py). D tells patches of images from patches of reconstructions (patch_discriminator.py; Esser et al. 2021,
arXiv:2012.09841, eqs. 4 to 7; Rombach et al. 2022, arXiv:2112.10752, section 3.1). The papers' perceptual distance is on features
of a network that ImageNet taught; its weights come with no package, and features of the data's own extractor judge in the proof.
So d stands in its place, and is less.

D begins late, when the autoencoder has settled: from `adversarial_from` of the autoencoder's stage on the decoder learns from it,
and it learns itself from LEAD of that time on. In a training that is too short for `adversarial_items` it never begins.

B batch, C channels, H height, W width.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.family import Batch, Family, FamilyConfig, of_two_stages
from components.core.records import DataSpec
from components.families.images import side_of
from components.families.laplacian import laplacian_distance
from components.families.patch_discriminator import PatchDiscriminator

SIDE_MIN = 128  # pixels, from which both terms are on by default
ITEMS_MIN = 200_000  # images that the autoencoder has seen before the discriminator begins, by default
LEAD = 0.8  # of the time until the decoder learns from D, after which D itself learns
DISCRIMINATOR, MODEL = "discriminator", "model"  # the turns; the first is the name of D's group, too
Added = Callable[[Tensor, Tensor, Tensor], Tensor]  # of image, reconstruction and squared error: what is added to that error


class TwoStageConfig(FamilyConfig):
    """What teaches the autoencoder beside the squared error; by the fields' own defaults, which older recipes get, nothing."""

    laplacian: float = Field(
        default=0.0, ge=0, le=100, description=f"weight of the distance of Laplacian pyramids; 0.1 from side {SIDE_MIN}"
    )
    adversarial: float = Field(
        default=0.0, ge=0, le=100, description=f"weight of the discriminator, 0 for none; 0.5 from side {SIDE_MIN}"
    )
    adversarial_from: float = Field(
        default=0.5, ge=0, lt=1, description="share of the autoencoder's stage after which it learns from the discriminator"
    )
    adversarial_items: int = Field(
        default=0,
        ge=0,
        description=f"images that must be seen by then, or there is no discriminator; {ITEMS_MIN:,} from side {SIDE_MIN}",
    )
    discriminator_width: int = Field(default=32, ge=8, description="channels of its first layer; they double twice")
    discriminator_rate: float = Field(default=0.1, gt=0, le=10, description="how many times faster it learns than the rest")

    @classmethod
    def sharp_defaults(cls, spec: DataSpec) -> dict[str, Any]:
        """Both terms for large images; of small ones a patch is most of the image."""
        large = {"laplacian": 0.1, "adversarial": 0.5, "adversarial_items": ITEMS_MIN}
        return large if side_of(spec) >= SIDE_MIN else {}


class TwoStageFamily(Family):
    """An autoencoder in the first `autoencoder_share` of a training, then a prior. A subclass makes both and their losses."""

    config: Any
    autoencoder: Any
    discriminator: PatchDiscriminator | None

    @abstractmethod
    def autoencoder_loss(self, batch: Batch, rng: torch.Generator, *, added: Added | None) -> Tensor:
        """The first stage's, a scalar, with `added` to its squared error."""

    @abstractmethod
    def prior_loss(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """The second stage's, a scalar."""

    @abstractmethod
    def encoded(self, x: Tensor) -> tuple[Tensor, ...]:
        """What `prior_loss` takes of images, by the autoencoder as it is."""

    @abstractmethod
    def rebuilt(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        """What the decoder makes of the codes of images, x_BCHW, not clamped."""

    def make_discriminator(self) -> None:
        """Make D where the config has one; after all else, whose first weights are so the same with and without it."""
        width, self.discriminator = self.config.discriminator_width, None
        if self.config.adversarial > 0:
            self.discriminator = PatchDiscriminator(self.spec, width=width, last_layer=self._last_layer)

    @property
    def first_share(self) -> float:
        """The share of a training that is the autoencoder's: none where it rests, as it does under an adapter of the prior."""
        rests = not any(parameter.requires_grad for parameter in self.autoencoder.parameters())
        return 0.0 if rests else float(self.config.autoencoder_share)

    def encoded_from(self) -> float | None:
        """The prior learns the codes of an autoencoder that rests."""
        return self.first_share

    def adaptable(self) -> tuple[str, ...]:
        """The prior's layers. It has learnt the codes of the autoencoder as it is, which therefore rests."""
        stages = ("autoencoder.", f"{DISCRIMINATOR}.")
        return tuple(name for name in super().adaptable() if not name.startswith(stages))

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"autoencoder": ...} in its share of the budget, and {"discriminator": ...} in D's turn; then {"prior": ...}."""
        if batch.progress >= self.first_share:
            return {"prior": self.prior_loss(batch, rng)}
        turns = (batch.turn,) if batch.turn else self.due(batch)
        losses: dict[str, Tensor] = {}
        if DISCRIMINATOR in turns and self.discriminator is not None:
            with torch.no_grad():
                back_BCHW = self.rebuilt(batch.x, rng)
            losses[DISCRIMINATOR] = self.discriminator.loss(batch.x, back_BCHW)
        if turns != (DISCRIMINATOR,):
            added = partial(self._added, batch) if self.config.laplacian or self.discriminator is not None else None
            losses["autoencoder"] = self.autoencoder_loss(batch, rng, added=added)
        return losses

    def turns(self) -> dict[str, int]:
        """D moves first, as in a GAN; without D there is one turn."""
        return super().turns() if self.discriminator is None else {DISCRIMINATOR: 1, MODEL: 1}

    def due(self, batch: Batch) -> tuple[str, ...]:
        """D learns from LEAD of its time on, while the autoencoder does."""
        learns = self._has_begun(batch, LEAD * self.config.adversarial_from)
        return tuple(turn for turn in super().due(batch) if turn != DISCRIMINATOR or learns)

    def moments(self) -> tuple[float, ...]:
        """Beside the two ends, where the autoencoder learns from D."""
        late = (1 + self.config.adversarial_from) / 2 * self.first_share
        return super().moments() if self.discriminator is None else (late, *super().moments())

    def compilable(self) -> list[nn.Module]:
        """All but D, whose slope is taken twice in a step."""
        return [module for module in super().compilable() if module is not self.discriminator]

    def stage_progress(self, progress: float) -> float:
        return of_two_stages(progress, first=self.first_share)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """D's, where there is one; a subclass has those of autoencoder and prior before it."""
        return {} if self.discriminator is None else {DISCRIMINATOR: list(self.discriminator.parameters())}

    def rates(self) -> dict[str, float]:
        rates = super().rates()
        return rates | {DISCRIMINATOR: self.config.discriminator_rate} if DISCRIMINATOR in rates else rates

    @property
    def _last_layer(self) -> nn.Module:
        last: nn.Module = self.autoencoder.decoder[-1]
        return last

    def _has_begun(self, batch: Batch, share: float) -> bool:
        """Whether so much of the autoencoder's stage is behind, in a training that is long enough for D."""
        config, first = self.config, self.first_share
        if self.discriminator is None or not first:
            return False
        settled = batch.budget * first * config.adversarial_from >= config.adversarial_items
        return bool(settled and share <= batch.progress / first < 1)

    def _added(self, batch: Batch, x_BCHW: Tensor, back_BCHW: Tensor, error: Tensor) -> Tensor:
        """Both terms, D's by its gradient alone: times a lambda that is another in each step its value would hide what the logged
        loss tells. The slopes of each batch are measured from the moment on that D learns."""
        config, discriminator = self.config, self.discriminator
        distance = config.laplacian * laplacian_distance(x_BCHW, back_BCHW) if config.laplacian else torch.zeros_like(error)
        if discriminator is None or not self._has_begun(batch, LEAD * config.adversarial_from):
            return distance
        score, weight = discriminator(back_BCHW).mean(), config.adversarial * discriminator.weight()
        if self.training and torch.is_grad_enabled():
            discriminator.measure(error + distance, score, self._last_layer)
        return distance - weight * (score - score.detach()) if self._has_begun(batch, config.adversarial_from) else distance
