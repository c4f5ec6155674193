"""From what the user names to a source."""

import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from components.core.errors import DataError
from components.data.images import SUFFIXES
from components.data.sources.arrays import Npz
from components.data.sources.cifar10 import Cifar10
from components.data.sources.classes import CLASS_RULES, ClassRule
from components.data.sources.digits import Digits
from components.data.sources.emoji import Emoji
from components.data.sources.folder import Folder
from components.data.sources.item import Source
from components.data.sources.left_alone import Tally, kind_of
from components.data.sources.mnist import Mnist
from components.data.sources.names import shown
from components.data.sources.tarred import Tars
from components.data.sources.zipped import Zip

PUBLIC = ("uci-digits", "mnist", "cifar10", "emoji")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ALLOWED = f"{', '.join(PUBLIC)}, or the path of an image folder, a zip or tar of images, an npz, or WebDataset tars"


def find_source(source: str | Path, *, cache: Path, mirror: str | None, progress: bool, classes: ClassRule = "auto") -> Source:
    """The source that `source` names. `classes`: whether folders are classes. Raises DataError when there is none."""
    if classes not in CLASS_RULES:
        raise DataError(f"classes {classes!r}", allowed=", ".join(CLASS_RULES))
    if source == "uci-digits":
        return Digits()
    public: dict[str, type[Mnist | Cifar10 | Emoji]] = {"mnist": Mnist, "cifar10": Cifar10, "emoji": Emoji}
    if isinstance(source, str) and source in public:
        return public[source](cache=cache, mirror=mirror, progress=progress)
    path = Path(source)
    where = shown(str(source))
    try:
        found = _source_at(path, classes)
    except FileNotFoundError:
        raise DataError(f"{where}: no such source, file or folder", allowed=ALLOWED) from None
    except OSError as error:
        raise DataError(f"{where}: cannot be read: {error.strerror or error}", do="give it read permission") from error
    if classes == "folders" and isinstance(found, Npz):
        raise DataError(f"{where}: --classes folders given, and an npz has none", allowed="auto, none")
    return found


def _source_at(path: Path, classes: ClassRule) -> Source:
    path.stat()
    if path.is_dir():
        return _shards_in(path, classes) or Folder(path, classes=classes)
    if path.suffix == ".npz":
        return Npz(path)
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return Zip(path, classes=classes)
    if path.name.endswith(TAR_SUFFIXES) or tarfile.is_tarfile(path):
        return Tars((path,), classes=classes)
    raise DataError(f"{shown(str(path))}: not a kind of data that is known", allowed=ALLOWED)


def _shards_in(folder: Path, classes: ClassRule) -> Tars | None:
    """The tars of a folder. Raises DataError for a folder that holds pictures too: one of the two would be passed over."""
    entries = sorted(folder.iterdir())
    tars = tuple(entry for entry in entries if entry.name.endswith(TAR_SUFFIXES) and entry.is_file())
    if not tars:
        return None
    picture = min((path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()), default=None)
    if picture is not None:
        raise DataError(
            f"{shown(str(folder))}: holds both tars ({shown(tars[0].name)}) and pictures ({shown(picture.name)})",
            do="name one of the tars, or move them elsewhere",
        )
    beside = Tally(kind_of(PurePosixPath(path.name)) for path in folder.rglob("*") if path.is_file() and path not in tars)
    return Tars(tars, classes=classes, beside=tuple(sorted(beside.items())))
