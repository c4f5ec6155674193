"""The forward process of diffusion in discrete steps: x_t = alpha_t x0 + sigma_t eps, by the betas of each step.

    alpha_t^2 = product of (1 - beta_s) for s <= t,    sigma_t^2 = 1 - alpha_t^2                     (Ho et al. 2020, eq. 4)

    linear         evenly from beta_0 to beta_T                                                          (Ho et al., sec. 4)
    scaled_linear  evenly in the square root                             (Rombach et al. 2022, arXiv:2112.10752, their code)
    cosine         alpha_t by the square of a cosine                 (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17)
    sigmoid        from beta_0 to beta_T along a sigmoid                          (Xu et al. 2022, arXiv:2203.02923, GeoDiff)

With `zero_snr` the square roots of alpha_t^2 are shifted and scaled so that the last step is noise alone (Lin et al. 2024,
arXiv:2305.08891, algorithm 1). All of it is what diffusers' schedulers mean by their `beta_schedule`, where a model was made
elsewhere.
"""

import math
from typing import Literal

from components.families.diffusion.sampling import Point

Schedule = Literal["linear", "scaled_linear", "cosine", "sigmoid"]
BETA_MAX = 0.999
SIGMOID = 6.0  # how far to both sides


def betas(schedule: Schedule, levels: int, *, ends: tuple[float, float] | None = None) -> list[float]:
    """beta_t of each step, t = 0 to T - 1, from the first of `ends` to the second; by default Ho et al.'s."""
    if schedule == "cosine":
        return [min(BETA_MAX, 1 - _cosine((t + 1) / levels) / _cosine(t / levels)) for t in range(levels)]
    # 1e-4 to 0.02 over 1,000 steps; fewer steps, larger ones, so that alpha_T stays about the same
    low, high = ends or (0.1 / levels, 20 / levels)
    shares = [t / (levels - 1) for t in range(levels)]
    if schedule == "sigmoid":
        return [min(BETA_MAX, low + (high - low) / (1 + math.exp(SIGMOID - 2 * SIGMOID * share))) for share in shares]
    if schedule == "scaled_linear":
        return [min(BETA_MAX, (math.sqrt(low) + share * (math.sqrt(high) - math.sqrt(low))) ** 2) for share in shares]
    return [min(BETA_MAX, low + share * (high - low)) for share in shares]


def _cosine(share: float) -> float:
    return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2


def forward_process(
    schedule: Schedule, levels: int, *, ends: tuple[float, float] | None = None, zero_snr: bool = False
) -> list[Point]:
    """alpha_t and sigma_t of each step, t = 0 to T - 1."""
    kept, shares = 1.0, []
    for beta in betas(schedule, levels, ends=ends):
        kept *= 1 - beta
        shares.append(kept)
    if zero_snr:
        first, last = math.sqrt(shares[0]), math.sqrt(shares[-1])
        shares = [((math.sqrt(share) - last) * first / (first - last)) ** 2 for share in shares]
    return [Point(time=t, alpha=math.sqrt(share), sigma=math.sqrt(1 - share)) for t, share in enumerate(shares)]


def trailing(process: list[Point], steps: int) -> list[Point]:
    """`steps` of the process's levels, evenly spaced from the last one."""
    return [process[round(len(process) * (1 - step / steps)) - 1] for step in range(steps)]
