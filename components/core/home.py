"""The home: the folder of this machine, and where in it each thing stands. Its paths are spelt here and nowhere else.

data/        versions of datasets, downloads, contact sheets      a cache
extractors/  feature extractors, by the MD5 of their dataset      a cache
bundles/     bundles of a store that is no folder, by digest      a cache
artifacts/   artifacts of a store that is no folder, by digest    a cache
admitted/    what admission said of bundles, by package version   a cache
work/        trainings that run
store/       the object store, where no other is named
mlflow.db, mlartifacts/    MLflow, where no other is named
stage-seconds.json         how long stages took
"""

from dataclasses import dataclass
from pathlib import Path

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

    def extractor(self, dataset_md5: str) -> Path:
        """The folder of a dataset version's extractor."""
        return self.root / "extractors" / dataset_md5

    def admitted(self, version: str, bundle: str, device: str) -> Path:
        """What this package version's admission said of a bundle on a device."""
        return self.root / "admitted" / version / f"{bundle}-{device}.json"

    def work(self, model: str, stage: str, key: str) -> Path:
        """The folder of one stage with one key: its record, and what it made."""
        return self.root / "work" / model / f"{stage}-{key[:16]}"
