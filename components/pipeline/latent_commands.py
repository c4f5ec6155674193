"""The commands of `genwright latent`: what their options name is read first, then the model is opened, then it is looked into.

What looks imports torch, so it is imported once a model of that name is there.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.pipeline import loaded_model
from components.pipeline.backends import Backends
from components.pipeline.latent_inputs import (
    check_pictures,
    first_held_out,
    named_images,
    numbers,
    pairs,
    sample_class,
    training_group,
)
from components.pipeline.loaded_model import LoadedModel

if TYPE_CHECKING:
    from components.pipeline.latent import Told

Work = Callable[[LoadedModel, Path], "Told"]


def answer(name: str, reference: str, out: Path, backends: Backends, **options: Any) -> "Told":
    """What a command tells of a release, with which release that is: for a program, and line by line for a person. Writes `out`.

    Raises InputError for an option that names nothing, and for a picture that cannot be written.
    """
    work: Work = COMMANDS[name](**options)
    check_pictures([out])
    model = loaded_model.load_model(reference, backends)
    (document, lines), release, card = work(model, out), model.release, model.family.card
    about = {"model": release.model, "version": release.version, "family": card.family, "variant": card.variant}
    first = f"{release.model} version {release.version}, {card.family}/{card.variant}"
    return {**about, **document, "picture": str(out)}, [first, *lines, f"picture  {out}"]


def interpolate(*, items: str, seeds: str | None, label: str | None, points: int) -> Work:
    """Between seeds where they are given, else between held-out images."""
    ends = pairs("--seeds", seeds) if seeds else pairs("--items", items)

    def work(model: LoadedModel, out: Path) -> "Told":
        from components.pipeline import latent

        kind = sample_class(label, model) if seeds else 0
        return latent.interpolate(model, ends, out, by_seeds=bool(seeds), label=kind, points=points)

    return work


def traverse(*, item: int, units: int, points: int) -> Work:
    """The units of one image's code."""

    def work(model: LoadedModel, out: Path) -> "Told":
        from components.pipeline import latent

        return latent.traverse(model, item, out, units=units, points=points)

    return work


def arithmetic(
    *,
    plus: str | None,
    minus: str | None,
    plus_items: str | None,
    minus_items: str | None,
    items: str | None,
    strengths: str,
) -> Work:
    """The difference of two groups, added to images."""
    times = numbers("--strengths", strengths, float)
    chosen = numbers("--items", items, int) if items else None

    def work(model: LoadedModel, out: Path) -> "Told":
        from components.pipeline import latent

        with_it = training_group("--plus", plus, plus_items, model)
        without = training_group("--minus", minus, minus_items, model)
        changed = chosen or first_held_out(model, minus, 6)
        return latent.arithmetic(model, with_it, without, changed, out, strengths=times)

    return work


def anomaly(*, images: str, normal: str | None, limit: int) -> Work:
    """Images beside the held-out ones, and beside normal ones where they are given."""

    def work(model: LoadedModel, out: Path) -> "Told":
        from components.pipeline import latent

        scored, names = named_images(images, model, at_most=limit)
        beside = named_images(normal, model, at_most=limit)[0] if normal else None
        return latent.anomaly(model, scored, names, beside, out)

    return work


def compress(*, steps: str, limit: int, plot: Path | None) -> Work:
    """Held-out images, to bytes and back."""
    widths = numbers("--steps", steps, float)

    def work(model: LoadedModel, out: Path) -> "Told":
        from components.pipeline import latent

        return latent.compress(model, widths, out, plot or out.with_name(f"{out.stem}-rates.png"), at_most=limit)

    check_pictures([plot] if plot else [])
    return work


def variations(*, images: str, seeds: str, limit: int) -> Work:
    """Others like the images."""
    chosen = numbers("--seeds", seeds, int)

    def work(model: LoadedModel, out: Path) -> "Told":
        from components.pipeline import latent

        items, names = named_images(images, model, at_most=limit)
        return latent.variations(model, items, names, out, seeds=chosen)

    return work


COMMANDS: dict[str, Callable[..., Work]] = {
    each.__name__: each for each in (interpolate, traverse, arithmetic, anomaly, compress, variations)
}
