"""What the registry owns: versions, the ledger of promotions, and the channel that servers follow."""

from typing import Any, Literal

from pydantic import Field

from components.core.record import Record


class Release(Record):
    """A registered model version in MLflow."""

    model: str
    version: int
    bundle_sha256: str
    run_id: str
    aliases: tuple[str, ...] = ()


class LedgerEntry(Record):
    """One promotion or rollback; or that the champion was put back, where a hand had set the alias on what cannot be served."""

    sequence: int
    model: str
    action: Literal["promote", "rollback", "restore"]
    from_version: int | None
    to_version: int
    from_bundle: str | None
    to_bundle: str
    who: str
    when: str  # ISO 8601, UTC
    why: str
    evidence: dict[str, Any] = Field(default_factory=dict)


class Channel(Record):
    """The one small object that names the bundle being served; changed only by compare-and-swap."""

    model: str
    version: int
    bundle_sha256: str
    sequence: int  # of the ledger entry that put it here
