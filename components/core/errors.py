"""The error tree. Every message is one line: what was given, what is allowed, what to do.

GenwrightError              exit code 1
├── InputError              exit code 2: what the user gave is wrong
│   ├── BriefError          a brief that cannot be read or contradicts itself
│   ├── DataError           data that is missing, empty, corrupt or of the wrong kind
│   ├── NotBuilt            a choice of the policy that no family here implements yet
│   ├── DeviceMissing       a device that this machine does not have
│   ├── UnknownModel        a model, alias or version that the registry does not hold
│   └── SettingsError       a GENWRIGHT_* setting that cannot be used
├── RunError                exit code 1: it failed while running
│   ├── TrainingFailed      training crashed, diverged, was killed or ran out of memory
│   ├── ExportError         a graph that cannot be exported or disagrees with torch
│   ├── BundleError         a bundle that is incomplete or does not match its digests
│   ├── StorageError        a disk or an object store that refuses
│   ├── Conflict            another writer was first
│   ├── RegistryError       MLflow refused or cannot be reached
│   └── ServingError        the server cannot start
├── Interrupted             exit code 130: ended by SIGINT or SIGTERM; the state is saved
└── GateRefused             exit code 3: a gate said no or undecided
"""

import errno
from pathlib import Path


class GenwrightError(Exception):
    """One line for a person: `what` happened; what is `allowed`; what to `do`."""

    exit_code = 1

    def __init__(self, what: str, *, allowed: str | None = None, do: str | None = None) -> None:
        parts = [what, f"allowed: {allowed}" if allowed else None, do]
        super().__init__("; ".join(" ".join(part.split()) for part in parts if part))


class InputError(GenwrightError):
    """What the user gave is wrong."""

    exit_code = 2


class BriefError(InputError):
    """A brief that cannot be read or contradicts itself."""


class DataError(InputError):
    """Data that is missing, empty, corrupt or of the wrong kind."""


class NotBuilt(InputError):
    """A choice of the policy that no family here implements yet."""


class DeviceMissing(InputError):
    """A device that this machine does not have."""


class UnknownModel(InputError):
    """A model, alias or version that the registry does not hold."""


class SettingsError(InputError):
    """A GENWRIGHT_* setting that cannot be used."""


class RunError(GenwrightError):
    """It failed while running."""


class TrainingFailed(RunError):
    """Training crashed, diverged, was killed or ran out of memory."""


class ExportError(RunError):
    """A graph that cannot be exported or disagrees with torch."""


class BundleError(RunError):
    """A bundle that is incomplete or does not match its digests."""


class StorageError(RunError):
    """A disk or an object store that refuses."""


class Conflict(RunError):
    """Another writer was first."""


class RegistryError(RunError):
    """MLflow refused or cannot be reached."""


class ServingError(RunError):
    """The server cannot start."""


class Interrupted(GenwrightError):
    """Ended by SIGINT or SIGTERM; the state is saved."""

    exit_code = 130


class GateRefused(GenwrightError):
    """A gate said no or undecided."""

    exit_code = 3


def disk_error(error: OSError, path: Path | str) -> GenwrightError:
    """Translate what the operating system says about `path` into a line that says what to do."""
    short_write = error.errno is None and "requested and" in str(error)  # numpy's, which says no more
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or short_write:
        return StorageError(f"{path}: the disk is full", do="free some space and run the same command again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SettingsError(f"{path}: not writable", do="give it write permission or set GENWRIGHT_HOME to a folder that has it")
    return StorageError(f"{path}: {error.strerror or error}")
