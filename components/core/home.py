"""The home: the folder of this machine, and where in it each thing stands. Its paths are spelt here and nowhere else.

data/        versions of datasets, downloads, contact sheets      a cache
extractors/  feature extractors, by the MD5 of their dataset      a cache
encoders/    text encoders, by digest, length and precision       a cache
embeddings/  of captions, by encoder and digest                   a cache
bundles/     bundles of a store that is no folder, by digest      a cache
artifacts/   artifacts of a store that is no folder, by digest    a cache
admitted/    what admission said of bundles, by package version   a cache
work/        trainings that run
store/       the object store, where no other is named
mlflow.db, mlartifacts/    MLflow, where no other is named
stage-seconds.json         how long stages took
stack/       what `genwright up` started: its processes, logs, secrets and servers' data
"""

import errno
import getpass
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import GenwrightError, SettingsError, disk_error

DEFAULT = Path(".genwright")  # below the current folder, and below a DVC repository


@dataclass(frozen=True)
class Home:
    """Paths in a home. Nothing is made."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def bundles(self) -> Path:
        return self.root / "bundles"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def mlflow_database(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.root / "mlartifacts"

    @property
    def stage_seconds(self) -> Path:
        return self.root / "stage-seconds.json"

    @property
    def extractors(self) -> Path:
        return self.root / "extractors"

    @property
    def encoders(self) -> Path:
        return self.root / "encoders"

    @property
    def embeddings(self) -> Path:
        return self.root / "embeddings"

    @property
    def works(self) -> Path:
        return self.root / "work"

    @property
    def stack(self) -> Path:
        return self.root / "stack"

    def extractor(self, dataset_md5: str) -> Path:
        """The folder of a dataset version's extractor."""
        return self.extractors / dataset_md5

    def encoder(self, sha256: str, length: int, precision: str) -> Path:
        """The folder of a text encoder: its graph, its tokenizer and its record."""
        return self.encoders / f"{sha256}-{length}-{precision}"

    def embedded(self, encoder: Path, captions: str) -> Path:
        """The embeddings that the encoder of this folder made of captions, by their digest."""
        return self.embeddings / f"{encoder.name}-{captions[:32]}"

    def admitted(self, version: str, bundle: str, device: str) -> Path:
        """What this package version's admission said of a bundle on a device."""
        return self.root / "admitted" / version / f"{bundle}-{device}.json"

    def work(self, model: str, stage: str, key: str) -> Path:
        """The folder of one stage with one key: its record, and what it made."""
        return self.works / model / f"{stage}-{key[:16]}"


def writable(home: Path) -> Path:
    """A home as an absolute folder that can be written, made where there is none. Raises SettingsError or StorageError."""
    try:
        root = home.expanduser().absolute()
    except RuntimeError as error:
        raise SettingsError(f"GENWRIGHT_HOME: {home}: no such user, or none with a home", do="name a folder") from error
    probe = root / ".writable"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise _home_error(error, root) from error
    return root


def _home_error(error: OSError, root: Path) -> GenwrightError:
    """A full disk is the disk's fault; any other refusal means that the setting names no place for a home."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_error(error, root)
    what = f"GENWRIGHT_HOME: {root} cannot be written ({error.strerror})"
    return SettingsError(what, do="set it to a folder that can be written")


def login_name() -> str | None:
    """Who is logged in here; None for a user without a name, as in a container."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None
