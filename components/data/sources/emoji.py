"""Emoji: about 3,700 Twemoji graphics, 64x64, in ten categories. Graphics by Twitter and contributors, CC-BY 4.0.

No public mirror holds them in this form: GENWRIGHT_DATA_MIRROR has to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.data.archives import Archive, RawFile, raw_files
from components.data.sources.item import Item, Survey
from components.data.sources.tarred import Tars
from components.runtime.progress import Advance

ARCHIVES = (Archive("emoji/emoji-64.tar", (), (RawFile("emoji-64.tar", "68ab448e367eb7a42ab5771837d7a22c", 13312000),)),)


@dataclass(frozen=True)
class Emoji:
    """The set, from a mirror."""

    cache: Path
    mirror: str | None = None
    progress: bool = False
    archives: tuple[Archive, ...] = ARCHIVES
    kind: str = "emoji"
    where: str = "emoji"

    def _tars(self) -> Tars:
        files = raw_files(self.kind, self.archives, cache=self.cache, mirror=self.mirror, progress=self.progress)
        return Tars(tuple(files.values()))

    def survey(self, advance: Advance) -> Survey:
        """Reads the header of every picture."""
        return self._tars().survey(advance)

    def items(self) -> Iterator[Item]:
        """In the order of the archive."""
        return self._tars().items()
