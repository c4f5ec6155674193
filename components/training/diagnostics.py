"""What the diagnostics of a family say of its latent space, when they say that it has collapsed.

A posterior that equals the prior for every image carries nothing (Bowman et al. 2016, arXiv:1511.06349); a codebook of which a
few entries are used carries little more (Dhariwal et al. 2020, arXiv:2005.00341). The loss may look well in both cases.
"""

from collections.abc import Mapping

LEAST = {
    "active_units": (
        1.0,
        "no latent unit is active, the posterior has collapsed; lower override.config.beta, or raise kl_warmup",
    ),
    "codebook_share": (0.05, "the codebook has collapsed; lower override.config.codes, or raise dead_below"),
}


def complaints(diagnosed: Mapping[str, float]) -> list[str]:
    """One line for each diagnostic below what a latent space in use has."""
    return [
        f"{name} {diagnosed[name]:.2g}: {meaning}"
        for name, (least, meaning) in LEAST.items()
        if name in diagnosed and diagnosed[name] < least
    ]
