"""Classes of a base that are others in the new data: each begins as the base's class of its name, a new one as their mean."""

from typing import Any

import pytest
import torch

from components.core.records import ClassCondition, DataSpec
from components.families import cards, find_card
from components.training.checkpoint import load_weights, restore
from components.training.classes import carried_over, class_axes
from components.training.sampling import TorchSampler
from components.training.start import build

CONDITIONAL = sorted("/".join(key) for key in cards() if "class" in find_card(*key).conditioning)
TEN = tuple("0123456789")


def of(spec: DataSpec, *classes: str) -> DataSpec:
    return spec.model_copy(update={"condition": ClassCondition(classes=classes)})


@pytest.mark.parametrize(
    ("base", "new", "wanted"),
    [
        (TEN, TEN, [*range(10)]),
        (("a", "b"), ("b", "a"), [1, 0]),
        (("a", "b"), ("b", "c", "a"), [1, None, 0]),
        (("a", "b", "c"), ("b",), [1]),
        (("a", "b"), ("x", "y", "z"), [0, 1, None]),
    ],
)
def test_a_class_begins_as_that_of_its_name_or_its_place(base: tuple[str, ...], new: tuple[str, ...], wanted: list[Any]) -> None:
    assert ClassCondition(classes=base).origins(new) == wanted


@pytest.mark.parametrize("family", CONDITIONAL)
def test_every_variant_draws_a_class_that_it_knows_as_its_base_did(a_base: Any, tuned: Any, family: str) -> None:
    """In another place, beside new ones; what is drawn of the class is what the base drew of it."""
    start = a_base(family, conditional=True)
    base = restore(start.base, start.weights)
    plan = tuned(start)
    plan = plan.model_copy(update={"spec": of(start.base.spec, "new", *reversed(TEN), "newer")})
    made = build(plan).eval()
    axes = class_axes(made)
    assert axes, "something stands for a class"
    if any("density" in name for name in axes):
        return  # a mixture that is fitted to the codes of the new data before it draws
    theirs = TorchSampler(base, subject="x", steps=2)(range(4), [3, 1, 4, 1])
    ours = TorchSampler(made, subject="x", steps=2)(range(4), [1 + 9 - label for label in (3, 1, 4, 1)])
    assert abs(theirs.astype(int) - ours.astype(int)).max() <= 1


def test_a_new_class_begins_as_the_mean_and_leaves_the_rest_as_it_was(a_base: Any, tuned: Any) -> None:
    start = a_base("diffusion/edm", conditional=True)
    plan = tuned(start)
    made = build(plan.model_copy(update={"spec": of(plan.spec, *TEN, "new")}))
    weights, own = load_weights(start.base.weights, start.weights), made.state_dict()
    axes = class_axes(made)
    assert len(axes) == 1
    ((name, axis),) = axes.items()
    table, theirs = own[name], weights[name]
    assert (axis.axis, axis.each, axis.first) == (0, 1, True)
    assert torch.equal(table[:10], theirs[:10])
    assert torch.allclose(table[10], theirs[:10].mean(0))
    assert torch.equal(table[11:], theirs[10:]), "the place of 'no class' stays the last"
    assert all(torch.equal(value, own[other]) for other, value in weights.items() if other != name)


def test_the_same_classes_are_carried_over_untouched(a_base: Any, tuned: Any) -> None:
    start = a_base("vae/gaussian", conditional=True)
    weights = load_weights(start.base.weights, start.weights)
    same = carried_over(weights, build(tuned(start)), start.base.spec)
    assert all(same[name] is value for name, value in weights.items())
