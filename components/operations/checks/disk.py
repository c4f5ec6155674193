"""Free space where genwright writes."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from components.operations.finding import Finding, Installation, fail, ok, warn
from components.runtime.disk import ROOM_MB

SOON_MB = 5_000
FREE = "genwright gc shows what may go; or give it another disk"


def check(installation: Installation) -> Iterator[Finding]:
    """One line a place: the home, the store where it is a folder, the folder of temporary files."""
    backends = installation.backends
    store = backends.store.uri
    places = {"home": backends.named_home.root, "temporary files": Path(tempfile.gettempdir())}
    if store.startswith("file://"):
        places["store"] = Path(store.removeprefix("file://"))
    for name, folder in places.items():
        yield room(name, folder)


def room(name: str, folder: Path) -> Finding:
    """Of the disk that a folder is on, or will be."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free_mb = shutil.disk_usage(there).free / 1e6
    what = f"{name}: {free_mb / 1000:.1f} GB free at {folder}"
    return ok(what) if free_mb > SOON_MB else warn(what, FREE) if free_mb > ROOM_MB else fail(what, FREE)
