"""Every sampler as one table of coefficients, and the one loop that reads it.

A noise level is a Point: the data's share alpha and the noise's share sigma of x = alpha x0 + sigma eps, and the time the
denoiser knows it by. Iteration k evaluates D = D(x; time_k), the expected x0, and moves

    x <- a x + b base + c D + d D' + n z_k,     base = x where the row predicts, else that of the last row

with D' the last evaluation and z_k fresh noise; a denoiser with a learned variance multiplies n by e^(w f), f in [0, 1] its own
share of the way from the least variance to the largest. From one point to the next, primes marking the next one's shares:

    ddim       Song et al. 2021, arXiv:2010.02502, eq. 12 with eta = 0; Euler's method in sigma / alpha
    heun       Karras et al. 2022, arXiv:2206.00364, algorithm 1 without churn: the row of ddim, then one that corrects it
    dpm++      DPM-Solver++(2M), Lu et al. 2022, arXiv:2211.01095, algorithm 2; its first and last steps are of first order
    ancestral  Ho et al. 2020, arXiv:2006.11239, eq. 6 and 7, between any two levels (the posterior q(x' | x, x0 = D))
    multistep  Song et al. 2023, arXiv:2303.01469, algorithm 1: for a D that maps any level to the end of its trajectory; a share
               of the noise is kept, as in gamma-sampling of Kim et al. 2024, arXiv:2310.02279, section 4 (see Renewal)

B batch, C channels, H height, W width, K network evaluations, N noises an item.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Solver = Literal["heun", "ddim", "dpm++", "ancestral"]
AnySolver = Solver | Literal["multistep"]  # the last one only for models that were tuned for it
FRESH = ("ancestral", "multistep")  # of these solvers each step has noise of its own
UNROLLED = 4  # evaluations that an exported graph holds one after another; of more it holds a loop (loop_above on a card)
ONE = 1  # the same of networks that are large in themselves: two copies of one of Stable Diffusion's are no graph to be written


class Point(NamedTuple):
    """A noise level: x = alpha x0 + sigma eps at `time`."""

    time: float
    alpha: float
    sigma: float


CLEAN = Point(time=0.0, alpha=1.0, sigma=0.0)


class Row(NamedTuple):
    """One network evaluation and the move after it."""

    time: float
    x: float
    base: float
    denoised: float
    last: float
    noise: float
    predicts: float  # 1 where x is a new base, 0 where the row corrects the last one
    widens: float = 0.0  # ln of how many times larger the noise is at the upper end of a learned variance


def ddim(now: Point, following: Point) -> Row:
    ratio = following.sigma / now.sigma
    return Row(now.time, ratio, 0.0, following.alpha - now.alpha * ratio, 0.0, 0.0, 1.0)


def heun(now: Point, following: Point) -> list[Row]:
    """The move of ddim again, from the same base with the mean of both slopes (x / alpha - D) / u, u = sigma / alpha."""
    if following.sigma == 0:  # there the second slope does not exist
        return [ddim(now, following)]
    u, v = now.sigma / now.alpha, following.sigma / following.alpha
    half = (v - u) / 2
    base = following.alpha / now.alpha * (1 + half / u)
    correct = Row(following.time, half / v, base, -following.alpha * half / v, -following.alpha * half / u, 0.0, 0.0)
    return [ddim(now, following), correct]


def dpm_plus_plus(before: Point | None, now: Point, following: Point) -> Row:
    """x' = (sigma' / sigma) x - alpha' (e^-h - 1) ((1 + 1 / 2r) D - D' / 2r), h of ln(alpha / sigma), r = the last h / this h."""
    first = ddim(now, following)
    if before is None or following.sigma == 0:
        return first
    step, last_step = _log_snr(following) - _log_snr(now), _log_snr(now) - _log_snr(before)
    share = step / (2 * last_step)
    return first._replace(denoised=first.denoised * (1 + share), last=-first.denoised * share)


def ancestral(now: Point, following: Point) -> Row:
    """The posterior's mean and deviation, for x = (alpha / alpha') x' + noise of variance sigma^2 - (alpha sigma' / alpha')^2.

    That variance, beta, is also the largest that a step can have; the posterior's is the least (Nichol & Dhariwal 2021,
    arXiv:2102.09672, eq. 15).
    """
    ratio = now.alpha / following.alpha
    added = 1 - (ratio * following.sigma / now.sigma) ** 2  # beta, as a share of sigma^2
    kept = ratio * (following.sigma / now.sigma) ** 2
    noise = following.sigma * math.sqrt(added)
    widens = math.log(now.sigma / following.sigma) if noise else 0.0
    return Row(now.time, kept, 0.0, following.alpha * added, 0.0, noise, 1.0, widens)


class Renewal(NamedTuple):
    """How much of the noise `multistep` draws anew: gamma of its deviation, of data of this deviation. At 1 it is algorithm 1 of
    Song et al. 2023, which keeps nothing but D."""

    gamma: float = 1.0
    deviation: float = 0.5


ALL_NEW = Renewal()


def multistep(now: Point, following: Point, renewal: Renewal = ALL_NEW) -> Row:
    """x' = D + rho (x - D) + gamma sigma' z: along the trajectory to s = sqrt(1 - gamma^2) sigma', then noise up to sigma'.

        rho = (sqrt(s^2 + d^2) - d) / (sqrt(sigma^2 + d^2) - d)        of data of deviation d, where alpha = 1

    Where it is not, that is said of x / alpha and sigma / alpha.

    Of Gaussian data a trajectory is x(s) / sqrt(s^2 + d^2) = constant. So with the exact D, which is x(0), x' has the marginal of
    sigma' whatever gamma is. Euler's method, rho = s / sigma, would take D for the slope, and spread too far.
    """
    d, s = renewal.deviation, math.sqrt(1 - renewal.gamma**2) * following.sigma / following.alpha
    if s == 0:  # nothing is kept but D, also of noise alone, whose alpha is 0
        return Row(now.time, 0.0, 0.0, following.alpha, 0.0, renewal.gamma * following.sigma, 1.0)
    rho = (math.hypot(s, d) - d) / (math.hypot(now.sigma / now.alpha, d) - d)
    kept = following.alpha * rho / now.alpha
    return Row(now.time, kept, 0.0, following.alpha * (1 - rho), 0.0, renewal.gamma * following.sigma, 1.0)


def table(points: Sequence[Point], solver: AnySolver, renewal: Renewal = ALL_NEW) -> list[Row]:
    """The rows that lead from the first of the points through all others to clean images. `renewal`: of multistep."""
    path = [*points, CLEAN]
    if solver == "heun":
        return [row for now, following in pairwise(path) for row in heun(now, following)]
    if solver == "dpm++":
        return [dpm_plus_plus(*three) for three in zip([None, *path], path, path[1:], strict=False)]
    moves: dict[str, Callable[[Point, Point], Row]] = {
        "ddim": ddim, "ancestral": ancestral, "multistep": partial(multistep, renewal=renewal)
    }  # fmt: skip
    return [moves[solver](now, following) for now, following in pairwise(path)]


class Sampler(nn.Module):
    """noise_BCHW (noise_BNCHW for the FRESH solvers: the start, then one a step) and class_B -> x_BCHW in [-1, 1].

    One evaluation an iteration keeps an exported loop at one copy of the network. `mean`: of the data, around which the noise
    is at the start; `limit` bounds the denoised images; `begins`: the noise's share at the start, by default the first point's;
    `unrolled`: evaluations that an exported graph may hold one after another.
    """

    rows_K8: Tensor
    start: Tensor

    def __init__(
        self,
        denoiser: nn.Module,
        points: Sequence[Point],
        *,
        solver: AnySolver,
        mean: Tensor | None = None,
        limit: float | None = None,
        renewal: Renewal = ALL_NEW,
        begins: float | None = None,
        unrolled: int = UNROLLED,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.sigma_max = points[0].sigma if begins is None else begins
        self.register_buffer("start", points[0].alpha * (torch.zeros(()) if mean is None else mean), persistent=False)
        self.limit = limit
        self.fresh = solver in FRESH
        self.unrolled = unrolled
        self.register_buffer("rows_K8", torch.tensor(table(points, solver, renewal)), persistent=False)

    def forward(self, noise: Tensor, condition_B: Tensor | None = None) -> Tensor:
        return self.integrate(noise, condition_B).clamp(-1, 1)

    def integrate(self, noise: Tensor, *context: Tensor | None) -> Tensor:
        """The same without the last clamp; `context` is what the denoiser takes besides x_BCHW and time_B."""
        x = self.start + (noise[:, 0] if self.fresh else noise) * self.sigma_max
        # The first row predicts, so what base and D' start as does not matter; a loop may not carry one tensor twice.
        state = (x, torch.ones_like(x), torch.zeros_like(x))
        if torch.compiler.is_exporting() and len(self.rows_K8) > self.unrolled:
            return self._loop(state, noise, context)
        for k in torch.arange(len(self.rows_K8), device=x.device):
            state = self._iterate(k, *state, noise, context)
        return state[0]

    def _iterate(
        self, k: Tensor, x: Tensor, base: Tensor, last: Tensor, noise: Tensor, context: tuple[Tensor | None, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        time, a, b, c, d, n, predicts, widens = self.rows_K8.index_select(0, k.view(1)).squeeze(0).unbind()
        said: Tensor = self.denoiser(x, time.expand(x.shape[0]), *context)
        channels = x.shape[1]
        denoised = said[:, :channels] if said.shape[1] > channels else said
        if self.limit is not None:
            denoised = denoised.clamp(-self.limit, self.limit)
        base = predicts * x + (1 - predicts) * base
        moved = a * x + b * base + c * denoised + d * last
        if self.fresh:  # the last step adds none: its n is 0
            spread = n * (widens * said[:, channels:]).exp() if said.shape[1] > channels else n
            moved = moved + spread * noise.index_select(1, (k + 1).clamp(max=noise.shape[1] - 1).view(1)).squeeze(1)
        return moved, base, denoised

    def _loop(self, state: tuple[Tensor, Tensor, Tensor], noise: Tensor, context: tuple[Tensor | None, ...]) -> Tensor:
        """The same iterations as one Loop of the graph, so that its size does not grow with the steps."""
        from torch._higher_order_ops.while_loop import while_loop

        def more(k: Tensor, *_: Tensor) -> Tensor:
            return k < len(self.rows_K8)

        def body(k: Tensor, x: Tensor, base: Tensor, last: Tensor) -> tuple[Tensor, ...]:
            return k + 1, *self._iterate(k, x, base, last, noise, context)

        looped: Tensor = while_loop(more, body, (torch.zeros((), dtype=torch.int64), *state))[1]
        return looped


def _log_snr(point: Point) -> float:
    return math.log(point.alpha / point.sigma) if point.alpha else -math.inf  # of noise alone: its step is of first order
