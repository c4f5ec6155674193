"""Series of numbers, float32 [T], as they are."""

from typing import Literal

import numpy as np

from components.core.modality import Encoding, ItemReader, Modality, Option
from components.core.records.item import ItemSpec, Storage


class SeriesSpec(ItemSpec):
    dims = ("length",)
    storage = Storage(dtype="float32", axes=(0,))
    modality: Literal["series"] = "series"
    length: int


class SeriesReader(ItemReader):
    suffixes = frozenset({".csv"})

    def __init__(self, every=1):
        self.every = every

    def look(self, item):
        self.length = len(self.read(item))

    def spec(self, *, where):
        return SeriesSpec(length=self.length)

    def read(self, item):
        values = np.fromstring(item, np.float32, sep=",") if isinstance(item, bytes) else item.astype(np.float32)
        return values[:: self.every]


class Series(Modality):
    name = "series"
    plural = "series"
    Spec = SeriesSpec
    encodings = {"csv": Encoding("text/csv", ".csv", lambda item, spec: ",".join(map(str, item.tolist())).encode())}

    options = (Option("every", int, "keep every n-th number", least=1),)

    def reader(self, options, *, into=None):
        return SeriesReader(**options)

    def pictures(self, items, spec):
        """A black dot for each number: later ones to the right, larger ones above."""
        pictures = np.full((len(items), 32, spec.length, 1), 255, np.uint8)
        rows = np.clip(np.rint(15.5 - 10 * items), 0, 31).astype(int)
        np.put_along_axis(pictures[..., 0], rows[:, None], 0, axis=1)
        return pictures

    def noise(self, n, spec, rng):
        return rng.uniform(-1, 1, (n, spec.length)).astype(np.float32)

    def vectors(self, items):
        return items.astype(np.float32)


modality = Series()
