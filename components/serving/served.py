"""The model being served: what a request takes hold of once, so that all of its reply comes from one bundle."""

from dataclasses import dataclass

from components.serving.batcher import Batcher
from components.serving.engine import Engine
from components.serving.limits import Limits


@dataclass(frozen=True)
class Served:
    """One model version behind its queue."""

    model: str
    version: str
    engine: Engine
    batcher: Batcher
    limits: Limits

    def headers(self) -> dict[str, str]:
        """Which bundle made a reply."""
        return {"X-Model": self.model, "X-Version": self.version, "X-Bundle-Sha256": self.engine.sha256}
