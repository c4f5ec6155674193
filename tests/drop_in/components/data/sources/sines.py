"""Noisy sines, 1,600 series of 64 numbers: a set by its name."""

from functools import partial

import numpy as np

from components.data.sources.item import Item, Survey

NAME = "sines"


class Sines:
    kind = where = NAME
    modality = "series"
    locked = False

    def survey(self, reader, advance):
        reader.look(_series(0))
        return Survey(count=1600)

    def items(self, reader):
        for at in range(1600):
            yield Item(name=str(at), read=partial(_series, at))


def _series(at):
    noise = np.random.default_rng(at).standard_normal(64)
    return (np.sin(np.linspace(0, 2 * np.pi, 64)) + 0.3 * noise).astype(np.float32)


def opened(opening):
    return Sines()
