"""Whether a disk has room for what is about to be written there."""

import shutil
from pathlib import Path

from components.core.errors import StorageError, disk_error

ROOM_MB = 64  # MLflow's database, an extractor, a checkpoint and a bundle of a small model


def check_room(folder: Path) -> None:
    """Raises StorageError when the disk of `folder` is as good as full: MLflow fails on it late and unclearly."""
    try:
        free_mb = shutil.disk_usage(folder).free / 1e6
    except OSError as error:
        raise disk_error(error, folder) from error
    if free_mb < ROOM_MB:
        what = f"{folder}: the disk is full: {free_mb:.0f} MB are free"
        raise StorageError(what, allowed=f"{ROOM_MB} MB or more", do="free some space")
