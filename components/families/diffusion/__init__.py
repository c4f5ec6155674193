"""Diffusion: one file a variant; they share the network, the tables of solver coefficients and the sampler."""

from components.families.diffusion.edm import EDM, EDMConfig
from components.families.diffusion.sampling import Sampler

__all__ = ["EDM", "EDMConfig", "Sampler"]
