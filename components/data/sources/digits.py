"""UCI digits: 1,797 grey 8x8 pictures of ten digits, shipped inside scikit-learn; nothing is downloaded.

E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998), doi:10.24432/C50P49.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np

from components.core.modality import ItemReader
from components.data.sources.item import Item, Opening, Survey
from components.runtime.progress import Advance

NAME = "uci-digits"
CLASSES = tuple("0123456789")
LEVELS = 16  # the pictures hold 0 to 16


class Digits:
    """The set that needs no network."""

    kind = where = NAME
    modality = "image"
    locked = True

    def survey(self, reader: ItemReader, advance: Advance) -> Survey:
        """Known beforehand."""
        reader.look(np.zeros((8, 8, 1), np.uint8))
        return Survey(count=1797, classes=CLASSES, index={name: at for at, name in enumerate(CLASSES)})

    def items(self, reader: ItemReader) -> Iterator[Item]:
        """Grey levels 0..16 become round(level * 255 / 16), in whole numbers: 0 stays 0 and 16 becomes 255."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        levels = digits.images.astype(np.int64)
        pixels = ((levels * 255 + LEVELS // 2) // LEVELS).astype(np.uint8)[..., None]
        for at, label in enumerate(digits.target):
            yield Item(name=f"{at}", read=partial(pixels.__getitem__, at), label=str(label))


def opened(opening: Opening) -> Digits:
    """The set."""
    return Digits()
