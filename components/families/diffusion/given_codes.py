"""Models on codes that may have been made elsewhere, as a pipeline of diffusers: network and autoencoder, given together."""

from abc import abstractmethod
from typing import Any, Self, cast

from pydantic import Field, model_validator
from torch import nn

from components.core.errors import BriefError
from components.core.family import PIPELINES
from components.families.diffusion.codes import Autoencoder, CodesConfig, OnCodes
from components.families.diffusion.given_autoencoder import VQ, GivenAutoencoder, check_autoencoder


class GivenCodesConfig(CodesConfig):
    """The configs of both, and what cannot stand beside them."""

    network: dict[str, Any] = Field(
        default_factory=dict, description="the config of the network of a model made elsewhere, as diffusers has it"
    )
    autoencoder: dict[str, Any] = Field(
        default_factory=dict, description="the config of diffusers' AutoencoderKL or VQModel, of a model made elsewhere; it rests"
    )

    @model_validator(mode="after")
    def _both(self) -> Self:
        if bool(self.network) != bool(self.autoencoder):
            raise ValueError("network and autoencoder: one alone; give both or none")
        if self.autoencoder:
            check_autoencoder(self.autoencoder)
            if self.adversarial or self.laplacian:
                raise ValueError("autoencoder: given with adversarial or laplacian, and it rests; leave them out")
        return self


class OnGivenCodes(OnCodes):
    """A model on codes whose autoencoder may have been made elsewhere, with the network, as a pipeline of diffusers."""

    config: Any

    @property
    def deviation(self) -> float:
        return 1.0

    @property
    def discrete(self) -> bool:
        """Which vector of a codebook is the nearest, a last bit may change."""
        return bool(self.config.autoencoder.get("_class_name") == VQ)

    def make_autoencoder(self) -> Autoencoder:
        if not self.config.autoencoder:
            return super().make_autoencoder()
        return cast(Autoencoder, GivenAutoencoder(self.config.autoencoder, self.spec))

    def pipeline(self) -> Any:
        """Of one that came from diffusers. Raises BriefError for an autoencoder trained here, which is of another class."""
        if not self.config.autoencoder:
            what = f"{self.card.family}/{self.card.variant} with an autoencoder of its own cannot be written as a pipeline"
            raise BriefError(f"{what} of diffusers", allowed=PIPELINES)
        return self.as_pipeline(cast(GivenAutoencoder, self.autoencoder).net)

    @abstractmethod
    def as_pipeline(self, autoencoder: nn.Module) -> Any:
        """diffusers' pipeline with this autoencoder."""
