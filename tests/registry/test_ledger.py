"""The ledger: append-only, numbered, one writer a number."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.core.errors import Conflict, StorageError
from components.core.records import LedgerEntry
from components.delivery.store import open_store
from components.registry.ledger import Ledger


def entry(sequence: int, *, model: str = "digits", why: str = "better") -> LedgerEntry:
    return LedgerEntry(
        sequence=sequence,
        model=model,
        action="promote",
        from_version=None,
        to_version=1,
        from_bundle=None,
        to_bundle="a" * 64,
        who="ada",
        when="2026-11-21T12:00:00+00:00",
        why=why,
        evidence={"fd": {"value": 1.5, "n": 100}},
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(open_store(str(tmp_path)))


def test_entries_come_back_in_order(ledger: Ledger) -> None:
    assert ledger.entries("digits") == []
    assert ledger.last("digits") is None
    written = [entry(n) for n in range(1, 12)]
    for one in written:
        ledger.append(one)
    ledger.append(entry(1, model="digits-2"))
    assert ledger.entries("digits") == written
    assert ledger.last("digits") == written[-1]
    assert len(ledger.entries("digits-2")) == 1


def test_a_number_is_written_once(ledger: Ledger) -> None:
    ledger.append(entry(1))
    with pytest.raises(Conflict, match="ledger of digits: entry 1 was written by another; run the command again"):
        ledger.append(entry(1, why="other"))
    assert ledger.entries("digits") == [entry(1)]


def test_of_many_writers_one_gets_the_number(ledger: Ledger) -> None:
    def attempt(who: int) -> bool:
        try:
            ledger.append(entry(1, why=str(who)))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, range(8)))
    assert sum(won) == 1
    assert ledger.entries("digits") == [entry(1, why=str(won.index(True)))]


def test_an_entry_that_is_none_is_named(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append(entry(1))
    (tmp_path / "ledger" / "digits" / "00000002.json").write_text("{}")
    with pytest.raises(StorageError, match=r"ledger/digits/00000002.json: not a ledger entry: sequence: Field required"):
        ledger.last("digits")
