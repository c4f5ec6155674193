"""The ledger: an append-only list of promotions and rollbacks of each model, in the object store.

Entry n of a model is an object of its own, counted from 1, written by put-if-absent. Of two writers
that want the same number exactly one gets it. MLflow keeps no history of aliases: this is the only one.
"""

import re

from pydantic import ValidationError

from components.core import store_keys
from components.core.errors import Conflict, StorageError
from components.core.record import first_complaint
from components.core.records import LedgerEntry
from components.core.stores import ObjectStore


class Ledger:
    """The ledgers of all models in one object store. Raises StorageError when the store refuses or an entry is not readable."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def entries(self, model: str) -> list[LedgerEntry]:
        """All entries, oldest first."""
        return [self._read(key) for key in self._keys(model)]

    def last(self, model: str) -> LedgerEntry | None:
        """The newest entry, or None."""
        keys = self._keys(model)
        return self._read(keys[-1]) if keys else None

    def after(self, model: str, sequence: int) -> list[LedgerEntry]:
        """The entries whose number is above `sequence`, oldest first."""
        return [self._read(key) for key in self._keys(model) if _sequence(key) > sequence]

    def end(self, model: str) -> int:
        """The number of the newest entry; 0 when there is none."""
        return max(map(_sequence, self._keys(model)), default=0)

    def append(self, entry: LedgerEntry) -> None:
        """Write the entry under its sequence number. Raises Conflict when the number is taken: read again and decide anew."""
        data = entry.model_dump_json(indent=2).encode() + b"\n"
        if not self._store.put_if_absent(store_keys.ledger_entry(entry.model, entry.sequence), data):
            raise Conflict(f"ledger of {entry.model}: entry {entry.sequence} was written by another", do="run the command again")

    def _keys(self, model: str) -> list[str]:
        return [key for key in self._store.list(store_keys.ledger(model)) if re.fullmatch(r"\d+\.json", key.rpartition("/")[2])]

    def _read(self, key: str) -> LedgerEntry:
        found = self._store.get(key)
        if found is None:
            raise StorageError(f"{self._store.uri}/{key}: listed but not there", do="run the command again")
        try:
            return LedgerEntry.model_validate_json(found[0])
        except ValidationError as error:
            raise StorageError(f"{self._store.uri}/{key}: not a ledger entry: {first_complaint(error)}") from error


def _sequence(key: str) -> int:
    return int(key.rpartition("/")[2].removesuffix(".json"))
