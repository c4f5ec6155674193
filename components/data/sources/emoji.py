"""Emoji: about 3,700 Twemoji graphics, 64x64, in ten categories. Graphics by Twitter and contributors, CC-BY 4.0.

No public mirror holds them in this form: GENWRIGHT_DATA_MIRROR has to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.core.modality import ItemReader
from components.data.archives import Archive, RawFile, raw_files
from components.data.sources.item import Item, Opening, Survey
from components.data.sources.tarred import Tars
from components.runtime.progress import Advance

NAME = "emoji"
ARCHIVES = (Archive("emoji/emoji-64.tar", (), (RawFile("emoji-64.tar", "68ab448e367eb7a42ab5771837d7a22c", 13312000),)),)


@dataclass(frozen=True)
class Emoji:
    """The set, from a mirror."""

    cache: Path
    mirror: str | None = None
    progress: bool = False
    archives: tuple[Archive, ...] = ARCHIVES
    kind: str = NAME
    where: str = NAME
    modality: str = "image"
    locked: bool = True

    def _tars(self) -> Tars:
        files = raw_files(self.kind, self.archives, cache=self.cache, mirror=self.mirror, progress=self.progress)
        return Tars(tuple(files.values()))

    def survey(self, reader: ItemReader, advance: Advance) -> Survey:
        """Reads the header of every picture."""
        return self._tars().survey(reader, advance)

    def items(self, reader: ItemReader) -> Iterator[Item]:
        """In the order of the archive."""
        return self._tars().items(reader)


def opened(opening: Opening) -> Emoji:
    """The set, through the cache and the mirror."""
    return Emoji(cache=opening.cache, mirror=opening.mirror, progress=opening.progress)
