"""What all parts share: a file, named by what it holds."""

from pathlib import Path

from components.core.files import sha256_of
from components.core.record import Record


class Artifact(Record):
    """A file, wherever it lies: in the store under its digest, or in the folder of a bundle under its name."""

    name: str
    sha256: str
    size_bytes: int

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is this one, byte for byte."""
        return path.is_file() and path.stat().st_size == self.size_bytes and sha256_of(path) == self.sha256
