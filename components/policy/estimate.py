"""What a choice will cost: training time, memory, money, latency. Each figure says what it is made of.

The numbers stand in rules/estimate.yaml, each marked measured, text or assumed. Symbols: s seconds, ms milliseconds, px the
work of one item in pixels (side x side; a video is 16 of them; audio and text have fixed sizes; latent: side / 8).

    training  = items / batch * step(px) * family * network(tier) / device                 from scratch
              = clamp(items * 0.01 h, the text's range) * px / 512^2 * device               finetune, lora
    pass      = max(floor, 5 ms * px / 32^2 * family * network(tier) / device)
    latency   = passes * pass + decoder, or pieces * 5 ms where an item is drawn piece by piece
    cost      = training * price of an hour
    memory    = base + parameters * bytes + pixels at once * bytes
"""

import math
from itertools import pairwise
from typing import NamedTuple

from components.core.brief import Delivery, FamilyName, Mode
from components.core.records import Estimate, Facts, Figure
from components.policy.rows import Costs, TierCost, VariantRow

SIDE_WHEN_UNKNOWN = 64


class Pick(NamedTuple):
    """What is chosen, as the estimate needs it."""

    family: FamilyName
    variant: str
    row: VariantRow
    mode: Mode
    delivery: Delivery

    @property
    def latent(self) -> bool:
        return self.variant == "latent"


def price_of(facts: Facts, costs: Costs, *, usd_per_gpu_hour: float) -> float:
    """USD of an hour of the device that trains."""
    return usd_per_gpu_hour if facts.device == "cuda" else costs.usd_per_cpu_hour


def estimate(facts: Facts, costs: Costs, pick: Pick, *, training_s: Figure, usd_per_gpu_hour: float) -> Estimate:
    """The four figures of a choice; `training_s` comes from its budget (budget.py)."""
    gpu = facts.device == "cuda"
    price = price_of(facts, costs, usd_per_gpu_hour=usd_per_gpu_hour)
    hours = training_s.value / 3600 * (facts.workers if gpu else 1)
    cost = Figure(
        value=rounded(hours * price),
        unit="USD",
        basis=f"{hours:,.3g} h at {price:g} USD an hour ({'a setting' if gpu else 'assumed'})",
    )
    return Estimate(
        training_s=training_s,
        memory_gb=memory_gb(facts, costs, pick),
        cost_usd=cost,
        latency_ms=latency(facts, costs, pick),
    )


def memory_gb(facts: Facts, costs: Costs, pick: Pick) -> Figure:
    """Gigabytes of one training process."""
    params_m, memory = _network(facts, costs, tuned=pick.mode != "scratch").params_m, costs.memory
    per_parameter = memory.bytes_per_parameter_frozen if pick.mode == "lora" else memory.bytes_per_parameter
    px = _pixels(facts, costs, latent=pick.latent)
    at_once = min(costs.batch * px, max(px, memory.pixels))
    gigabytes = memory.base_gb + (params_m * 1e6 * per_parameter + at_once * memory.bytes_per_pixel) / 1e9
    basis = (
        f"assumed: {memory.base_gb:g} GB base + {params_m:g} M parameters x {per_parameter:g} B"
        f" + {at_once:,.0f} px at once x {memory.bytes_per_pixel / 1e3:g} kB"
    )
    return Figure(value=rounded(gigabytes), unit="GB", basis=basis)


def latency(facts: Facts, costs: Costs, pick: Pick) -> Figure:
    """Milliseconds of one item, p95, on the device of the facts."""
    count = passes(facts, costs, pick)
    if pick.row.sequential != "none":
        basis = f"text: {count:,} pieces x {costs.piece_ms:g} ms, one after another"
        return Figure(value=rounded(count * costs.piece_ms), unit="ms", basis=basis)
    step, decoder = _pass_ms(facts, costs, pick), step_ms(facts, costs, family="vae") if pick.latent else 0.0
    basis = f"{count} {'pass' if count == 1 else 'passes'} x {step:,.3g} ms" + (
        f" + decoder {decoder:,.3g} ms" if decoder else ""
    )
    basis += f"; {_pass_basis(facts, costs, step)}"
    return Figure(value=rounded(count * step + decoder), unit="ms", basis=basis)


def passes(facts: Facts, costs: Costs, pick: Pick) -> int:
    """Network passes of one item: the sampler's own steps, or as many of the distilled ones as the limit holds."""
    if pick.row.sequential != "none":
        return pieces(facts, costs, sequential=pick.row.sequential)
    if pick.delivery == "one_pass":
        return 1
    if pick.delivery == "many_step":
        return pick.row.steps
    room = math.inf if facts.latency_ms is None else facts.latency_ms // _pass_ms(facts, costs, pick)
    return int(min(costs.few_steps, max(1, room)))


def step_ms(facts: Facts, costs: Costs, *, family: FamilyName, latent: bool = False, tuned: bool = False) -> float:
    """Milliseconds of one network pass on one item. `tuned`: the network is that of a pretrained model."""
    cost, gpu = costs.families[family], facts.device == "cuda"
    network = _network(facts, costs, tuned=tuned).serve if cost.grows else 1.0
    relative = _pixels(facts, costs, latent=latent) / costs.pass_anchor["side"] ** 2
    grown = costs.pass_anchor["ms"] * relative * cost.serve * network
    return max(costs.pass_floor_ms["gpu" if gpu else "cpu"], grown / (costs.gpu_over_cpu if gpu else 1))


def diffusion_step_ms(facts: Facts, costs: Costs) -> float:
    """Milliseconds of one denoising step, were diffusion chosen: the least that an item would take."""
    tuned = facts.pretrained is not None and facts.pretrained.family == "diffusion"
    if facts.modality != "image" or facts.side is None or facts.side <= costs.latent_above:
        return step_ms(facts, costs, family="diffusion", tuned=tuned)
    return step_ms(facts, costs, family="diffusion", latent=True, tuned=tuned) + step_ms(facts, costs, family="vae")


def pieces(facts: Facts, costs: Costs, *, sequential: str) -> int:
    """How many pixels, codes or tokens are drawn one after another."""
    if sequential == "token":
        return costs.tokens
    side = facts.side or SIDE_WHEN_UNKNOWN
    return side**2 if sequential == "pixel" else max(1, side // costs.latent_factor) ** 2


def piece_ms(facts: Facts, costs: Costs, *, sequential: str) -> float:
    """Milliseconds of one item drawn piece by piece."""
    return pieces(facts, costs, sequential=sequential) * costs.piece_ms


def _pass_ms(facts: Facts, costs: Costs, pick: Pick) -> float:
    return step_ms(facts, costs, family=pick.family, latent=pick.latent, tuned=pick.mode != "scratch")


def _pass_basis(facts: Facts, costs: Costs, step: float) -> str:
    if step in costs.pass_floor_ms.values():
        return "assumed: the least that a call takes"
    anchor = costs.pass_anchor
    measured = (
        f"measured: {anchor['ms']:g} ms at {anchor['side']:g}x{anchor['side']:g} on 2 CPU cores, scaled by pixels and network"
    )
    gpu = f"; text: 50 ms at 1024x1024, hence a GPU is {costs.gpu_over_cpu:g} CPUs"
    return measured + (gpu if facts.device == "cuda" else "")


def _network(facts: Facts, costs: Costs, *, tuned: bool) -> TierCost:
    """How large the network is: by budget, or by what it draws when it is a pretrained one."""
    if not tuned:
        return costs.tiers[facts.tier]
    wide = facts.side is None or facts.side > costs.latent_above
    return costs.tiers[costs.pretrained["other" if facts.modality != "image" else "wide" if wide else "small"]]


def items_s(items: int, facts: Facts, costs: Costs, pick: Pick) -> tuple[float, str]:
    """Seconds of training from scratch on so many items seen, and what they are made of."""
    tier, family = costs.tiers[facts.tier], costs.families[pick.family].train
    px = _pixels(facts, costs, latent=pick.latent)
    step = _train_step_s(math.sqrt(px), costs)
    device = costs.gpu_over_cpu if facts.device == "cuda" else 1.0
    basis = (
        f"measured: {step:.3g} s a step of {costs.batch} items of {px:,.0f} px, small UNet, 2 CPU cores;"
        f" assumed: x {family:g} for {pick.family}, x {tier.train:g} for the {facts.tier} tier's network"
    )
    return items / costs.batch * step * family * tier.train / device, basis + (f", / {device:g} on a GPU" if device > 1 else "")


def tuning_s(facts: Facts, costs: Costs, mode: Mode) -> tuple[float, str]:
    tuning = costs.tuning["lora" if mode == "lora" else "finetune"]
    low, high = tuning.hours
    hours = min(high, max(low, (facts.items or 0) * tuning.hours_per_item))
    share = _pixels(facts, costs, latent=False) / tuning.side**2
    device = 1.0 if facts.device == "cuda" else costs.gpu_over_cpu
    basis = f"text: {low:g} to {high:g} GPU hours at 512x512, {hours:g} for these items; assumed: x {share:.3g} by pixels"
    return hours * 3600 * share * device, basis + (f", x {device:g} on a CPU" if device > 1 else "")


def _train_step_s(side: float, costs: Costs) -> float:
    """Seconds a step of `costs.batch`: log-log between the measured anchors, by pixels outside of them."""
    points = sorted((math.log(a.side), math.log(a.s * costs.batch / a.batch)) for a in costs.train_anchors)
    x = math.log(side)
    if x <= points[0][0] or x >= points[-1][0]:
        x0, y0 = points[0] if x <= points[0][0] else points[-1]
        return math.exp(y0 + 2 * (x - x0))
    (x0, y0), (x1, y1) = next(pair for pair in pairwise(points) if pair[0][0] <= x <= pair[1][0])
    return math.exp(y0 + (y1 - y0) * (x - x0) / (x1 - x0))


def _pixels(facts: Facts, costs: Costs, *, latent: bool) -> float:
    """The work of one item in pixels."""
    if facts.modality in costs.values:
        return float(costs.values[facts.modality])
    side = (facts.side or SIDE_WHEN_UNKNOWN) / (costs.latent_factor if latent else 1)
    return max(1.0, side) ** 2 * (costs.frames if facts.modality == "video" else 1)


def rounded(value: float) -> float:
    return float(f"{value:.3g}")
