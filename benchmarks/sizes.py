"""How large is each family's network by default, and how much work is one pass of it? What `genwright plan` estimates from.

    .venv/bin/python benchmarks/sizes.py [--only vae/gaussian ...]

Builds every family that is built here with its own defaults (light: those for a CPU) on PyTorch's meta device, which computes
shapes and nothing else, and writes components/policy/sizes.json: a row for each side

    side, light, parameters of the sampler and of all that trains (millions), GFLOP and calls a network evaluation

A family that takes a text has rows of its network with one, too: under "FAMILY/VARIANT by text", asked as MiniLM asks, with the
guidance that it has then.

GFLOP counts a product and a sum as two, of one item. Calls are those of modules without modules in them: what a GPU launches at
least. tests/policy/test_sizes.py compares rows with the real families.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from components.core.card import Card
from components.core.records import DataSpec, EmbeddingCondition
from components.families import cards, find
from components.modalities.image.spec import ImageSpec
from components.policy.sizes import key_of

TABLE = Path(__file__).parents[1] / "components" / "policy" / "sizes.json"
SIDES = (8, 16, 28, 32, 64, 128, 256, 512)
CHANNELS = 3  # grey images have a first and a last layer that are a little smaller
COMPUTED = ("flow/glow", "flow/realnvp", "gan/style")  # look at a value, so they cannot be on the meta device
SIDE_MAX = dict.fromkeys((*COMPUTED, "vae/vq"), 32)  # what is computed, or drawn code by code, takes its time
TEXT: dict[str, Any] = {"length": 32, "features": 384, "encoder": "minilm@0"}
COLUMNS = ("side", "light", "params_m", "params_train_m", "gflop", "calls")


def measured(card: Card, *, side: int, light: bool, by_text: bool = False) -> list[Any]:
    """One row of the table."""
    device = "cpu" if f"{card.family}/{card.variant}" in COMPUTED else "meta"
    asked = EmbeddingCondition(**TEXT, negative=card.steers) if by_text else None
    spec = DataSpec(item=ImageSpec(channels=CHANNELS, height=side, width=side), condition=asked)
    with torch.device(device), torch.no_grad():
        family = find(card.family, card.variant).build({}, spec, light=light).eval()
        training = {id(parameter): parameter.numel() for group in family.parameter_groups().values() for parameter in group}
        sampler = family.sampler()
        drawing = sum(parameter.numel() for parameter in sampler.parameters())
        gflop, calls = (None, None) if _piecewise(card) else _work(family, device)
    every = card.steps if card.stepwise else 1  # what is drawn in one pass is counted whole, with all codes of its prior
    work = [None, None] if gflop is None else [_short(gflop / every), round(calls / every)]
    return [side, light, _short(drawing / 1e6), _short(sum(training.values()) / 1e6), *work]


def _piecewise(card: Card) -> bool:
    """Drawn piece by piece: its time is that of the pieces."""
    return card.sequential != "none"


def _work(family: Any, device: str) -> tuple[float, int]:
    """GFLOP and calls of drawing one item. Of many steps few are counted: each further one is as much work."""
    steps = getattr(family.config, "steps", 0)
    if steps <= 4:
        return _counted(family, None, device)
    (few, few_calls), (more, more_calls) = (_counted(family, count, device) for count in (2, 3))
    return few + (steps - 2) * (more - few), few_calls + (steps - 2) * (more_calls - few_calls)


def _counted(family: Any, steps: int | None, device: str) -> tuple[float, int]:
    sampler, calls = family.sampler(steps=steps).requires_grad_(False), 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    hooks = [module.register_forward_hook(count) for module in sampler.modules() if not list(module.children())]
    noise = [torch.zeros((1, *each.shape), device=device) for each in family.noise_inputs()]
    asked = family.spec.condition
    condition = [] if asked is None else [torch.zeros((1, *asked.shape), device=device)]
    with FlopCounterMode(display=False) as counter:
        sampler(*noise, *condition)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() / 1e9, calls


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="FAMILY/VARIANT, or 'FAMILY/VARIANT by text'")
    wanted = parser.parse_args().only
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    every = sorted((card for card, _, _ in cards().values()), key=lambda each: each.steps)
    for card, by_text in [(card, text) for card in every for text in (False, True) if not text or "text" in card.conditioning]:
        name = key_of(card.family, card.variant, by_text=by_text)
        if wanted and name not in wanted:
            continue
        rows = []
        for side in SIDES:
            if side > min(card.side_max, SIDE_MAX.get(f"{card.family}/{card.variant}", card.side_max)):
                continue
            for light in (True, False):
                try:
                    rows.append(measured(card, side=side, light=light, by_text=by_text))
                except Exception as error:  # noqa: BLE001 - a side that this family cannot have is left out, and said
                    print(f"{name} at {side}: {type(error).__name__}: {str(error)[:120]}", flush=True)
        table[name] = rows
        print(name, len(rows), rows[:1], flush=True)
        lines = ",\n".join(
            f" {json.dumps(key)}: [\n  {f',{chr(10)}  '.join(json.dumps(row) for row in rows)}]"
            for key, rows in sorted(table.items())
        )
        TABLE.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
