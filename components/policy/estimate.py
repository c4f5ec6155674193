"""What a choice will cost: training time, memory, money, latency. Each figure says what it is made of.

The numbers stand in rules/estimate.yaml, each marked measured, text or assumed. Symbols: s seconds, ms milliseconds, px the
work of one item in pixels (side x side; a video is 16 of them; audio and text have fixed sizes; latent: side / 8).

    training  = items / batch * step(px) * family * network(tier) * text / device          from scratch
              = clamp(items * 0.01 h, the text's range) * px / 512^2 * device               finetune, lora
    pass      = calls * s a call + work / speed of the device     of a built family's own default network (sizes.json)
              = max(floor, 5 ms * px / 32^2 * family * network(tier) / device)   of what is not built, and of a pretrained one
    latency   = passes * pass + decoder, or pieces * 5 ms where an item is drawn piece by piece
    cost      = training * price of an hour
    memory    = base + parameters * bytes + pixels at once * bytes

Latency and memory are intervals: `value` is their geometric mean, which limits are compared with.
"""

import math
from itertools import pairwise
from typing import NamedTuple

from components.core.brief import Delivery, FamilyName
from components.core.records import Estimate, Facts, Figure
from components.policy.rows import Costs, TierCost, VariantRow
from components.policy.sizes import Network, counted, published

SIDE_WHEN_UNKNOWN = 64


class Pick(NamedTuple):
    """What is chosen, as the estimate needs it."""

    family: FamilyName
    variant: str
    row: VariantRow
    mode: str
    delivery: Delivery
    steps: int | None = None  # of its sampler, where the brief or the base says so
    solver: str | None = None

    @property
    def latent(self) -> bool:
        """Whether its steps are on the codes of an autoencoder."""
        return self.row.on_codes


def tuned(facts: Facts, pick: Pick) -> bool:
    """Whether the network is that of a pretrained model made elsewhere; of one made here it is the family's own."""
    known = facts.pretrained
    return pick.mode != "scratch" and known is not None and (known.variant is None or known.foreign is not None)


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
        parameters_m=parameters(facts, costs, pick),
    )


def parameters(facts: Facts, costs: Costs, pick: Pick) -> Figure | None:
    """Millions of parameters of what draws; None where nobody has counted them."""
    if tuned(facts, pick):
        found = published(facts.pretrained.model) if facts.pretrained else None
        return Figure(value=found[0], unit="M parameters", basis=f"text: {found[1]}") if found else None
    network = _network_of(facts, costs, pick.family, pick.variant)
    basis = "measured: counted in the default network of this family for such items"
    return Figure(value=rounded(network.params_m), unit="M parameters", basis=basis) if network else None


def memory_gb(facts: Facts, costs: Costs, pick: Pick) -> Figure:
    """Gigabytes of one training process, as an interval; a lower bound where the size of the network is not known."""
    memory = costs.memory
    network = None if tuned(facts, pick) else _network_of(facts, costs, pick.family, pick.variant)
    known = published(facts.pretrained.model) if tuned(facts, pick) and facts.pretrained else None
    params_m = network.params_train_m if network else known[0] if known else None
    per_parameter = memory.bytes_per_parameter_frozen if pick.mode == "lora" else memory.bytes_per_parameter
    px = _pixels(facts, costs, latent=pick.latent)
    at_once = min(costs.batch * px, max(px, memory.pixels))
    weights = (params_m or 0) * 1e6 * per_parameter / 1e9
    activations = at_once * memory.bytes_per_pixel / 1e9
    least, most = memory.base_gb / 2 + weights / 2 + activations / 3, memory.base_gb * 1.5 + weights * 1.2 + activations * 2
    basis = (
        f"assumed: {memory.base_gb:g} GB base + {at_once:,.0f} px at once x {memory.bytes_per_pixel / 1e3:g} kB, each within"
        f" a factor of 2; {'unknown' if params_m is None else f'{params_m:,.3g} M'} parameters in training x {per_parameter:g} B"
    )
    if params_m is None:
        return Figure(value=rounded(least), unit="GB", basis=basis, low=_coarse(least))
    return _between(least, most, unit="GB", basis=basis)


def latency(facts: Facts, costs: Costs, pick: Pick) -> Figure:
    """Milliseconds of one item, p95, on the device of the facts, as an interval."""
    count = passes(facts, costs, pick)
    if pick.row.sequential != "none":
        basis = f"text: {count:,} pieces x {costs.piece_ms:g} ms, one after another, give or take a factor of 2"
        return _between(count * costs.piece_ms / 2, count * costs.piece_ms * 2, unit="ms", basis=basis)
    one = _pass_ms(facts, costs, pick)
    decoder = 0.0 if not pick.latent or one.whole else step_ms(facts, costs, family=costs.denoiser.decoder)
    basis = f"{count} {'pass' if count == 1 else 'passes'} x {_coarse(one.low):,g} to {_coarse(one.high):,g} ms"
    basis += f" + decoder about {_coarse(decoder):,g} ms" if decoder else ""
    low, high = count * one.low + decoder / 2, count * one.high + decoder * 2
    return _between(low, high, unit="ms", basis=f"{basis}; {one.basis}")


def passes(facts: Facts, costs: Costs, pick: Pick) -> int:
    """Network passes of one item: the sampler's own steps, or as many of the distilled ones as the limit holds."""
    if pick.row.sequential != "none":
        return pieces(facts, costs, sequential=pick.row.sequential)
    if pick.delivery == "one_pass":
        return 1
    if pick.steps is not None and pick.row.stepwise:
        return evaluations(pick.row, pick.steps, pick.solver)
    if pick.delivery == "many_step":
        return pick.row.steps
    room = math.inf if facts.latency_ms is None else facts.latency_ms // _pass_ms(facts, costs, pick).value
    return int(min(costs.few_steps, max(1, room)))


def evaluations(row: VariantRow, steps: int, solver: str | None = None) -> int:
    """Of the network, where a sampler takes so many steps: Heun's method asks twice in each but the last."""
    twice = (solver or row.solver) == "heun"
    each = [max(1, -(-steps // 2**stage)) for stage in range(row.stages)]
    return sum(2 * count - 1 if twice else count for count in each)


class Pass(NamedTuple):
    """One evaluation of a network on one item, in milliseconds. `whole`: an item's decoder is counted in it."""

    low: float
    high: float
    basis: str
    whole: bool = False

    @property
    def value(self) -> float:
        return math.sqrt(self.low * self.high)


def step_ms(facts: Facts, costs: Costs, *, family: FamilyName, latent: bool = False, tuned: bool = False) -> float:
    """Milliseconds of one network pass on one item. `tuned`: the network is that of a pretrained model."""
    cost, gpu = costs.of_family(family), facts.device == "cuda"
    network = _network(facts, costs, tuned=tuned).serve if cost.grows else 1.0
    relative = _pixels(facts, costs, latent=latent) / costs.pass_anchor["side"] ** 2
    grown = costs.pass_anchor["ms"] * relative * cost.serve * network
    return max(costs.pass_floor_ms["gpu" if gpu else "cpu"], grown / (costs.gpu_over_cpu if gpu else 1))


def denoising_step_ms(facts: Facts, costs: Costs) -> float:
    """Milliseconds of one step of the denoiser in the tables, were it chosen: the least that an item would take."""
    pretrained, denoiser = facts.pretrained, costs.denoiser
    foreign = pretrained is not None and pretrained.family == denoiser.family and pretrained.variant is None
    wide = facts.side is not None and facts.side > costs.latent_above
    network = _network_of(facts, costs, denoiser.family, denoiser.on_codes if wide else denoiser.variant)
    if not foreign and network and (one := _worked(facts, costs, network)):
        return one.value
    if facts.modality != costs.measured_on or facts.side is None or facts.side <= costs.latent_above:
        return step_ms(facts, costs, family=denoiser.family, tuned=foreign)
    step = step_ms(facts, costs, family=denoiser.family, latent=True, tuned=foreign)
    return step + step_ms(facts, costs, family=denoiser.decoder)


def pieces(facts: Facts, costs: Costs, *, sequential: str) -> int:
    """How many pixels, codes or tokens are drawn one after another."""
    if sequential == "token":
        return costs.tokens
    side = facts.side or SIDE_WHEN_UNKNOWN
    return side**2 if sequential == "pixel" else max(1, side // costs.latent_factor) ** 2


def piece_ms(facts: Facts, costs: Costs, *, sequential: str) -> float:
    """Milliseconds of one item drawn piece by piece."""
    return pieces(facts, costs, sequential=sequential) * costs.piece_ms


def _pass_ms(facts: Facts, costs: Costs, pick: Pick) -> Pass:
    """By the work of the default network where it was counted; else scaled from one measured pass, good to a factor of 3."""
    network = None if tuned(facts, pick) else _network_of(facts, costs, pick.family, pick.variant)
    if network and (one := _worked(facts, costs, network)):
        return one
    step = step_ms(facts, costs, family=pick.family, latent=pick.latent, tuned=tuned(facts, pick))
    anchor, gpu = costs.pass_anchor, facts.device == "cuda"
    source = (
        "text: 50 ms a pass at 1024x1024 for a GAN, and at 512x512 for Stable Diffusion"
        if gpu
        else f"measured: {anchor['ms']:g} ms at {anchor['side']:g}x{anchor['side']:g} on 2 CPU cores"
    )
    return Pass(step / 3, step * 3, f"{source}; scaled by pixels, give or take a factor of 3")


def _worked(facts: Facts, costs: Costs, network: Network) -> Pass | None:
    """A pass by its work; None where that was not counted."""
    if network.gflop is None or network.calls is None:
        return None
    device = costs.work[facts.device]
    slow, fast = device.gflop_per_s
    least, most = device.call_us
    low, high = (network.calls * us / 1e3 + network.gflop / speed * 1e3 for us, speed in ((least, fast), (most, slow)))
    basis = (
        f"{device.source}: {network.gflop:.2g} GFLOP in {network.calls:,.0f} calls, at {slow:,g} to {fast:,g} GFLOP/s"
        f" and {least:g} to {most:g} µs a call"
    )
    return Pass(low, high, basis, whole=True)


def _network_of(facts: Facts, costs: Costs, family: str, variant: str) -> Network | None:
    """The default network of a built family for such items, where it was counted for them."""
    if facts.modality != costs.measured_on:
        return None
    side, light = facts.side or SIDE_WHEN_UNKNOWN, facts.device == "cpu"
    return counted(family, variant, side=side, light=light, by_text=facts.conditioning == "text")


def _network(facts: Facts, costs: Costs, *, tuned: bool) -> TierCost:
    """How large the network is: by budget, or by what it draws when it is a pretrained one."""
    if not tuned:
        return costs.tiers[facts.tier]
    wide = facts.side is None or facts.side > costs.latent_above
    return costs.tiers[costs.pretrained["other" if facts.modality != costs.measured_on else "wide" if wide else "small"]]


def items_s(items: int, facts: Facts, costs: Costs, pick: Pick) -> tuple[float, str]:
    """Seconds of training from scratch on so many items seen, and what they are made of."""
    tier, family = costs.tiers[facts.tier], costs.of_family(pick.family).train
    px = _pixels(facts, costs, latent=pick.latent)
    step = _train_step_s(math.sqrt(px), costs)
    device = costs.gpu_over_cpu if facts.device == "cuda" else 1.0
    asked = _text_share(facts, costs, pick)
    basis = (
        f"measured: {step:.3g} s a step of {costs.batch} items of {px:,.0f} px, small UNet, 2 CPU cores;"
        f" assumed: x {family:g} for {pick.family}, x {tier.train:g} for the {facts.tier} tier's network"
    )
    basis += f", x {asked:.3g} as the network by text has that many times the parameters" if asked != 1 else ""
    basis += f", / {device:g} on a GPU" if device > 1 else ""
    return items / costs.batch * step * family * tier.train * asked / device, basis


def _text_share(facts: Facts, costs: Costs, pick: Pick) -> float:
    """How much larger a network is by a text: at side 16 it had 1.56 times the parameters, and a step took 1.58 times as long."""
    if facts.conditioning != "text":
        return 1.0
    asked = _network_of(facts, costs, pick.family, pick.variant)
    plain = _network_of(facts.model_copy(update={"conditioning": "none"}), costs, pick.family, pick.variant)
    return asked.params_train_m / plain.params_train_m if asked and plain else 1.0


def tuning_s(facts: Facts, costs: Costs, mode: str) -> tuple[float, str]:
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
    return max(1.0, side) ** 2 * costs.frames.get(facts.modality, 1)


def _between(low: float, high: float, *, unit: str, basis: str) -> Figure:
    return Figure(value=rounded(math.sqrt(low * high)), unit=unit, basis=basis, low=_coarse(low), high=_coarse(high))


def rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _coarse(value: float) -> float:
    """The ends of an interval: more digits would say more than is known."""
    return float(f"{value:.2g}")
