"""How large a network is: counted of built families (sizes.json, by benchmarks/sizes.py), published of models on a hub."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

TABLE = Path(__file__).with_name("sizes.json")

# Parameters in millions as the model's own card or paper gives them: of the network that denoises or predicts, without text
# encoders and autoencoder. The longest name that the hub id holds is taken.
PUBLISHED = {
    "stable-diffusion-v1": (860.0, "Rombach et al. 2022"),
    "stable-diffusion-2": (865.0, "the card of Stable Diffusion 2"),
    "stable-diffusion-xl": (2567.0, "Podell et al. 2023, arXiv:2307.01952"),
    "sdxl-turbo": (2567.0, "Podell et al. 2023, arXiv:2307.01952"),
    "stable-diffusion-3-medium": (2000.0, "the card of Stable Diffusion 3"),
    "stable-diffusion-3.5-medium": (2500.0, "the card of Stable Diffusion 3.5"),
    "stable-diffusion-3.5-large": (8100.0, "the card of Stable Diffusion 3.5"),
    "flux.1": (12000.0, "the card of FLUX.1"),
    "gpt2": (124.0, "Radford et al. 2019"),
    "gpt2-medium": (355.0, "Radford et al. 2019"),
    "gpt2-large": (774.0, "Radford et al. 2019"),
    "gpt2-xl": (1558.0, "Radford et al. 2019"),
}


class Network(NamedTuple):
    """Parameters in millions, and the work of one evaluation on one item: GFLOP and calls of modules, None where not known."""

    params_m: float  # of what draws
    params_train_m: float  # of all that learns: a GAN's discriminator too
    gflop: float | None
    calls: float | None


def key_of(family: str, variant: str, *, by_text: bool = False) -> str:
    """The rows of a network in the table.

    >>> key_of("diffusion", "edm", by_text=True)
    'diffusion/edm by text'
    """
    return f"{family}/{variant}{' by text' if by_text else ''}"


def counted(family: str, variant: str, *, side: int, light: bool, by_text: bool = False) -> Network | None:
    """The default network of a built family, `by_text`: one that is asked by a text; between two counted sides by their
    logarithms. None for what is not built."""
    rows = [row for row in _table().get(key_of(family, variant, by_text=by_text), ()) if row[1] == light]
    if not rows:
        return None
    below = max((row for row in rows if row[0] <= side), default=rows[0])
    above = min((row for row in rows if row[0] >= side), default=rows[-1])
    if below[0] >= above[0]:
        grown = (side / below[0]) ** 2  # 1 where the side itself was counted; beyond the table the work goes by pixels
        gflop = None if below[4] is None else below[4] * grown
        return Network(below[2], below[3], gflop, below[5])
    share = math.log(side / below[0]) / math.log(above[0] / below[0])
    between = [None if b is None else b ** (1 - share) * a**share for b, a in zip(below[2:], above[2:], strict=True)]
    return Network(*between)  # type: ignore[arg-type]


def published(model: str) -> tuple[float, str] | None:
    """Millions of parameters of a model on a hub, and who says so; None for one that is not known here."""
    names = [name for name in PUBLISHED if name in model.lower().replace("_", "-")]
    return PUBLISHED[max(names, key=len)] if names else None


@cache
def _table() -> dict[str, list[list[Any]]]:
    table: dict[str, list[list[Any]]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table
