"""What all parts share: a file, named by what it holds."""

from components.core.record import Record


class Artifact(Record):
    """A file, wherever it lies: in the store under its digest, or in the folder of a bundle under its name."""

    name: str
    sha256: str
    size_bytes: int
