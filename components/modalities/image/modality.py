"""What is particular to images. N items, H, W pixels, C channels (1 grey, 3 colour)."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from components.core.item import ItemSpec
from components.core.modality import Encoding, ItemReader, Modality, Option
from components.core.proof_items import Asked
from components.modalities.image.networks.asked import GIVEN, asked_of_package
from components.modalities.image.spec import ImageSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from components.core.arrays import Pictures, Stored

DARK, BRIGHT = 16, 239  # mean of 255
CONTRAST = 6  # standard deviation of 255


def png(image_HWC: "Stored", _spec: ItemSpec | None = None) -> bytes:
    """One PNG of uint8 [H, W, C]."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC).save(buffer, "PNG")
    return buffer.getvalue()


def _more_levels(high: int, levels: int | None) -> str:
    """Advice where no pixel is white; `levels`: those that became 0 to 255, None where they were 256."""
    if high == 255:
        return ""
    example = high + 1 if levels is None else 1 << int((high - 0.5) * (levels - 1) / 255).bit_length()
    return f"if their white is darker than 255, say how many levels they have, for example --levels {example}"


class ImageModality(Modality):
    """Images of one size."""

    name = "image"
    singular = "picture"
    plural = "images"
    flat = "one flat colour"
    Spec = ImageSpec
    encodings: ClassVar[Mapping[str, Encoding]] = {"png": Encoding("image/png", ".png", png)}
    options = (
        Option("side", int, "resize and crop to this many pixels", least=2),
        Option("background", str, "the colour under transparent pictures: white (the default), black, '#80a0ff'"),
        Option("levels", int, "levels of a channel: 4096 for twelve bits; by default as the pictures show", least=2),
    )

    def reader(self, options: Mapping[str, Any], *, into: ItemSpec | None = None) -> ItemReader:
        """With the `options`."""
        from components.modalities.image.reader import ImageReader

        given = {"count" if name == "levels" else name: value for name, value in options.items()}
        return ImageReader(into=cast(ImageSpec | None, into), **given)

    def rules(self, details: Mapping[str, Any]) -> list[str]:
        """What became of transparency, and of more or fewer than 256 levels."""
        found = []
        if transparent := details["transparent"]:
            found.append(f"{transparent:,} pictures with transparency are laid over {details['background']} (--background)")
        if (levels := details["levels"]) is not None:
            bits = levels.bit_length() - 1
            depth = f"the {levels:,} levels ({bits} bits)" if levels == 1 << bits else f"the {levels:,} levels"
            found.append(f"{depth} of a channel become 0 to 255 (--levels)")
        return found

    def remarks(self, details: Mapping[str, Any], *, high: float, mean: Sequence[float], std: Sequence[float]) -> list[str]:
        """Sets that are dark, nearly white or of little contrast: less is seldom meant. Levels that few pixels reach."""
        level, spread = (sum(each) / len(each) for each in (mean, std))
        if usual := details.get("levels_usual"):
            return [
                f"a few pixels set the scale of {details['levels']:,} levels, and nearly all others are below {usual:,}: a mean "
                f"of {level:.0f} of 255; with --levels {usual} pictures that have such pixels are set aside (--quarantine-max)"
            ]
        if high < 128 or level < DARK:
            dark = f"the items are dark: a mean of {level:.0f} and at most {high:g} of 255; "
            return [dark + (_more_levels(int(high), details.get("levels")) or "look at the sheet")]
        if level > BRIGHT:
            return [f"the items are nearly white: a mean of {level:.0f} of 255; look at the sheet"]
        if spread < CONTRAST:
            return [f"the items have little contrast: a standard deviation of {spread:.1f} of 255; look at the sheet"]
        return []

    def pictures(self, items: "Stored", spec: ItemSpec) -> "Pictures":
        """The images themselves."""
        return items

    def noise(self, n: int, spec: ItemSpec, rng: "np.random.Generator") -> "Stored":
        """Every value by chance."""
        import numpy as np

        return rng.integers(0, 256, (n, *spec.stored_shape), dtype=np.uint8)

    def vectors(self, items: "Stored") -> "npt.NDArray[np.float32]":
        """Windows of pixels, at any brightness and contrast (alike.py).

        Copies are looked for here and not among features: a classifier's features forget what sets two images of a class apart.
        """
        from components.modalities.image import alike

        return alike.vectors(items)

    def variants(self, items: "Stored") -> "npt.NDArray[np.float32]":
        """An image moved by up to a sixteenth of its side, and its mirror image."""
        from components.modalities.image import alike

        return alike.variants(items)

    def asked_of_unseen(self, least: int | None, *, given: bool) -> Asked:
        """By their size."""
        return GIVEN if given else asked_of_package(least)

    def sketches(self, items: "Stored") -> "npt.NDArray[np.float32]":
        """Magnitudes of low frequencies."""
        from components.modalities.image import alike

        return alike.sketches(items)
