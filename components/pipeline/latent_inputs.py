"""What the options of `genwright latent` name: numbers, classes, training images, and images of the user's own."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from components.core.errors import InputError

if TYPE_CHECKING:
    from components.latent.space import Items
    from components.pipeline.loaded_model import LoadedModel

GROUP_MAX = 10_000  # training images behind a mean code

Number = TypeVar("Number", int, float)


def numbers(option: str, text: str, kind: Callable[[str], Number]) -> list[Number]:
    """'0,1.5,2' as a list. Raises InputError for anything else, and for what is not finite."""
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(math.isfinite(number) for number in found):
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(f"{option} {text!r}", allowed=f"{what} with commas between them")
    return found


def pairs(option: str, text: str) -> list[tuple[int, int]]:
    """'0,1,2,3' as two pairs. Raises InputError for an odd count and for negative numbers."""
    found = numbers(option, text, int)
    if len(found) % 2 or min(found) < 0:
        raise InputError(f"{option} {text!r}", allowed="two numbers a row, each 0 or more")
    return list(zip(found[::2], found[1::2], strict=True))


def shares(points: int) -> list[str]:
    """How far each of the points of a walk is, for a picture: '0', '0.25', ... '1'."""
    return [f"{at / (points - 1):.2g}" for at in range(points)]


def check_pictures(paths: Iterable[Path]) -> None:
    """Raises InputError for the name of a picture to write that is not a PNG's."""
    for path in paths:
        if path.suffix != ".png":
            raise InputError(f"{path}: a picture is written as PNG", allowed="a name that ends in .png")


def class_index(option: str, name: str, model: "LoadedModel") -> int:
    """The number of a class of the model's data. Raises InputError when there is none of that name."""
    classes = model.dataset.classes
    if name not in classes:
        raise InputError(f"{option} {name!r}", allowed=", ".join(classes[:50]) or "nothing: the data has no classes")
    return classes.index(name)


def sample_class(label: str | None, model: "LoadedModel") -> int:
    """The class that samples are of, the first by default. Raises InputError where the model takes none."""
    if label is None:
        return 0
    if not model.family.spec.classes:
        raise InputError(f"--class {label!r}: this model is asked without a class", do="leave it out")
    return class_index("--class", label, model)


def training_group(option: str, kind: str | None, items: str | None, model: "LoadedModel") -> "Items":
    """The training images of a class, or those that are listed. Raises InputError unless exactly one of the two is given."""
    import numpy as np

    from components.latent.space import evenly, take

    if (kind is None) == (items is None):
        raise InputError(f"{option} and {option}-items", allowed="one of the two", do=f"give {option} CLASS, or a list of images")
    if items is not None:
        return take(model.train, numbers(f"{option}-items", items, int))
    index = class_index(option, str(kind), model)
    assert model.train.labels is not None  # the data has classes
    own = np.flatnonzero(model.train.labels == index)
    return take(model.train, own[evenly(len(own), at_most=GROUP_MAX)])


def first_held_out(model: "LoadedModel", kind: str | None, count: int) -> list[int]:
    """The first held-out images of a class, or the first of all."""
    labels = model.held_out.labels
    if kind is None or labels is None:
        return [*range(min(count, len(model.held_out)))]
    index = class_index("--minus", kind, model)
    return [at for at, label in enumerate(labels.tolist()) if label == index][:count]


def named_images(text: str, model: "LoadedModel", *, at_most: int) -> tuple["Items", tuple[str, ...]]:
    """A split of the model's data by its name, or the images at a path, and what each image is called."""
    from components.data.reading import read_items
    from components.data.shards import open_split
    from components.data.splits import SPLITS
    from components.latent.space import Items, evenly, take

    if split := next((name for name in SPLITS if name == text), None):
        images = open_split(model.dataset.path, split)
        chosen = evenly(len(images), at_most=at_most)
        return take(images, chosen), tuple(f"{split}[{at}]" for at in chosen)
    spec = model.family.spec
    read = read_items(Path(text), item=model.dataset.item, classes=spec.classes, at_most=at_most)
    return Items(read.images, read.labels), read.names
