"""Several adapters of one base as one: their models added with weights, and the adapter that is their sum.

    W = W_b + sum_i w_i (W_i - W_b),                                      W_i = W_b + s_i B_i A_i
      = W_b + [w_1 s_1 B_1 | w_2 s_2 B_2 | ...] [A_1 ; A_2 ; ...]

The second form has rank r_1 + r_2 + ... and is exact: peft's combination_type 'cat'. Of DoRA, whose W_i are not of this form,
there is the first alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from components.core.family import Family
from components.training.adapter.files import Files, adapter_files, check_reloads, factors_of
from components.training.adapter.merging import NAME, check_merged, inject, lora_layers, named_targets
from components.training.adapter.targets import network_name

if TYPE_CHECKING:
    from peft import LoraConfig

Factors = Mapping[str, tuple[Tensor, Tensor]]  # A and s B of each layer, by its name in the network


def weighted_sum(
    base: Mapping[str, Tensor], weights: Sequence[float], models: Iterable[Mapping[str, Tensor]], *, buffers: set[str]
) -> dict[str, Tensor]:
    """The sum, in double precision: of one model at 1 it is that model, of models at 0 the base. One model is held at a time.

    `buffers` are no weights: moments, codes, mixtures. Of those with a fraction the mean is taken, by the weights above 0, with
    the base where these are less than 1 in all: variances stay positive. Counters and flags are those of the model with the
    largest weight above 0.
    """
    whole, largest = max(1.0, sum(max(weight, 0.0) for weight in weights)), max([0.0, *weights])
    total = {name: value.double() if value.is_floating_point() else value for name, value in base.items()}
    for weight, model in zip(weights, models, strict=True):
        for name, value in base.items():
            share = max(weight, 0.0) / whole if name in buffers else weight
            if not value.is_floating_point():
                total[name] = model[name] if 0 < weight == largest else total[name]
            elif share:
                total[name] = total[name] + share * (model[name].double() - value.double())
    return {name: value.to(base[name].dtype) for name, value in total.items()}


def is_one_model(weights: Sequence[float]) -> bool:
    """Whether the sum is one of its models, or the base: what that measured for drawing then holds."""
    return sorted(weight for weight in weights if weight) in ([], [1.0])


def combined_adapter(
    plain: Family, base: Mapping[str, Tensor], added: Sequence[tuple[float, Files]], *, base_sha256: str
) -> dict[str, bytes]:
    """The files of the adapter that makes the base the family `plain`, the sum; none where nothing is added, and where one has no
    such form. `added`: the weights, and the files of each adapter.

    Raises RunError where the files beside the base are not that family.
    """
    factors = [(weight, factors_of(files)) for weight, files in added]
    known = [(weight, found) for weight, found in factors if found]
    if not known or len(known) < len(factors):
        return {}
    adapted = type(plain)(plain.config, plain.spec)
    adapted.load_state_dict(dict(base) | {name: value for name, value in plain.named_buffers() if name in base})
    layers = tuple(name for name in plain.adaptable() if any(_in_network(plain, name) in found for _, found in known))
    config = _config(plain, layers, rank=sum(map(_rank, (found for _, found in known))), base_sha256=base_sha256)
    inject(adapted, config)
    for name, layer in lora_layers(adapted):
        rows, columns = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
        _fill(rows.data, columns.data, _in_network(plain, name), known)
    files = adapter_files(adapted.eval(), config, base)
    check_merged(adapted, plain)
    check_reloads(adapted, files, base, base_sha256=base_sha256)
    return files


def _config(plain: Family, layers: tuple[str, ...], *, rank: int, base_sha256: str) -> "LoraConfig":
    from peft import LoraConfig

    named = f"sha256:{base_sha256}"
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=named_targets(plain, layers), base_model_name_or_path=named)


def _fill(rows: Tensor, columns: Tensor, layer: str, known: Sequence[tuple[float, Factors]]) -> None:
    """A's rows and B's columns of one layer, those of each adapter in its place; of one that leaves the layer out zeros."""
    rows.zero_()
    columns.zero_()
    place = 0
    for weight, factors in known:
        end = place + _rank(factors)
        if layer in factors:
            a, b = factors[layer]
            rows[place:end], columns[:, place:end] = a, weight * b
        place = end


def _rank(factors: Factors) -> int:
    return max(len(a) for a, _ in factors.values())


def _in_network(family: Family, name: str) -> str:
    root = network_name(family)
    return name.removeprefix(f"{root}.") if root else name
