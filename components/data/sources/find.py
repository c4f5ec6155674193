"""From what the user names to a source."""

import tarfile
import zipfile
from pathlib import Path

from components.core.errors import DataError
from components.data.sources.arrays import Npz
from components.data.sources.cifar10 import Cifar10
from components.data.sources.digits import Digits
from components.data.sources.emoji import Emoji
from components.data.sources.folder import Folder
from components.data.sources.item import Source
from components.data.sources.mnist import Mnist
from components.data.sources.tarred import Tars
from components.data.sources.zipped import Zip

PUBLIC = ("uci-digits", "mnist", "cifar10", "emoji")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ALLOWED = f"{', '.join(PUBLIC)}, or the path of an image folder, a zip or tar of images, an npz, or WebDataset tars"


def find_source(source: str | Path, *, cache: Path, mirror: str | None, progress: bool) -> Source:
    """The source that `source` names. Raises DataError when there is none."""
    if source == "uci-digits":
        return Digits()
    public: dict[str, type[Mnist | Cifar10 | Emoji]] = {"mnist": Mnist, "cifar10": Cifar10, "emoji": Emoji}
    if isinstance(source, str) and source in public:
        return public[source](cache=cache, mirror=mirror, progress=progress)
    path = Path(source)
    try:
        return _source_at(path)
    except FileNotFoundError:
        raise DataError(f"{source}: no such source, file or folder", allowed=ALLOWED) from None
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or error}", do="give it read permission") from error


def _source_at(path: Path) -> Source:
    path.stat()
    if path.is_dir():
        tars = tuple(sorted(entry for entry in path.iterdir() if entry.name.endswith(TAR_SUFFIXES) and entry.is_file()))
        return Tars(tars) if tars else Folder(path)
    if path.suffix == ".npz":
        return Npz(path)
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return Zip(path)
    if path.name.endswith(TAR_SUFFIXES) or tarfile.is_tarfile(path):
        return Tars((path,))
    raise DataError(f"{path}: not a kind of data that is known", allowed=ALLOWED)
