"""One holder at a time on all machines, and what an older one still writes is refused."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from components.core.errors import Conflict, RunError
from components.pipeline import lease as leases
from components.pipeline.backends import Backends
from components.pipeline.lease import Lease, check_lease, lease, watched
from flows.settings import Settings

KEY = "leases/digits.json"


@pytest.fixture
def homes(tmp_path: Path) -> list[Backends]:
    """Two machines that share a store."""
    return [Backends(Settings(home=tmp_path / name, store=str(tmp_path / "store"))) for name in ("one", "two")]


def stored(backends: Backends) -> Lease:
    found = backends.workspace.read(KEY, Lease)
    assert found is not None
    return found


def test_a_second_holder_is_turned_away_and_gets_the_next_token(homes: list[Backends]) -> None:
    one, two = homes
    with lease("digits", one) as first:
        with pytest.raises(Conflict, match="digits: another production of it is running; wait for it"), lease("digits", two):
            pass
        with lease("letters", two):
            pass
    with lease("digits", two) as second:
        assert (first.token, second.token) == (1, 2)


def test_of_many_at_once_one_gets_it(homes: list[Backends]) -> None:
    ended, held, refused = threading.Barrier(8), [], []

    def ask(number: int) -> None:
        try:
            with lease("digits", homes[number % 2]):
                held.append(number)
                ended.wait(60)
        except Conflict:
            refused.append(number)
            ended.wait(60)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 7)


def test_the_lease_of_a_dead_process_is_free_at_once(homes: list[Backends], tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from flows.settings import Settings;"
        "from components.pipeline.backends import Backends; from components.pipeline.lease import lease;"
        "held = lease('digits', Backends(Settings(home=Path(sys.argv[1]), store=sys.argv[2]))); held.__enter__(); os._exit(9)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "three"), str(tmp_path / "store")]
    assert subprocess.run(command, check=False).returncode == 9
    assert stored(homes[0]).expires_s > time.time()
    with lease("digits", homes[0]) as own:
        assert own.token == 2


def test_one_of_another_machine_is_free_once_it_ran_out(homes: list[Backends]) -> None:
    with lease("digits", homes[0]) as own:
        pass
    elsewhere = own.holder.model_copy(update={"seen_by": "another boot", "host": "far"})
    far = own.model_copy(update={"holder": elsewhere, "expires_s": time.time() + 60})
    homes[0].workspace.write(KEY, far)
    with pytest.raises(Conflict, match="another production of it is running on far"), lease("digits", homes[1]):
        pass
    homes[0].workspace.write(KEY, far.model_copy(update={"expires_s": time.time() - 1}))
    with lease("digits", homes[1]) as next_one:
        assert next_one.token == 2


def test_where_the_system_does_not_say_what_a_process_sees_the_name_of_the_host_decides(
    homes: list[Backends], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without /proc, as on macOS: a dead holder on this host is passed over at once, one on another host once it ran out."""
    monkeypatch.setattr("components.runtime.identity._namespace", lambda: "")
    with lease("digits", homes[0]) as own:
        assert (own.holder.seen_by, own.holder.is_visible) == ("", True)
    gone = own.holder.model_copy(update={"started_s": 1.0})  # its pid is another process by now
    left = own.model_copy(update={"holder": gone, "expires_s": time.time() + 60})
    homes[0].workspace.write(KEY, left)
    with lease("digits", homes[1]) as next_one:
        assert next_one.token == 2
    elsewhere = left.model_copy(update={"holder": gone.model_copy(update={"host": "far"})})
    homes[0].workspace.write(KEY, elsewhere)
    with pytest.raises(Conflict, match="another production of it is running on far"), lease("digits", homes[1]):
        pass
    homes[0].workspace.write(KEY, elsewhere.model_copy(update={"expires_s": time.time() - 1}))
    with lease("digits", homes[1]):
        pass
    seen = own.holder.model_copy(update={"seen_by": "a boot"})  # of a system that does say so
    assert not seen.is_visible


def test_it_is_renewed_while_it_is_held(homes: list[Backends], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_S", 0.02)
    with lease("digits", homes[0]) as own:
        until = time.monotonic() + 10
        while stored(homes[1]).expires_s == own.expires_s and time.monotonic() < until:
            time.sleep(0.01)
        assert stored(homes[1]).expires_s > own.expires_s
    assert stored(homes[1]).expires_s == 0


def test_a_holder_that_was_passed_over_is_refused_and_leaves_the_next_one_alone(homes: list[Backends]) -> None:
    with lease("digits", homes[0]) as stale:
        check_lease(stale, homes[1].store)
        homes[1].workspace.write(KEY, stale.model_copy(update={"token": 2}))
        with pytest.raises(RunError, match="digits: another production took over while this one was not heard of"):
            check_lease(stale, homes[0].store)
    assert stored(homes[0]).token == 2
    assert stored(homes[0]).expires_s > 0


def test_a_training_hears_once_that_its_lease_was_lost(homes: list[Backends], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LOOK_S", 0.01)
    heard = []
    lost = threading.Event()

    def hear() -> None:
        heard.append(1)
        lost.set()

    with lease("digits", homes[0]) as own, watched(own, homes[1].store, lost=hear):
        assert not lost.wait(0.2)
        homes[1].workspace.write(KEY, own.model_copy(update={"token": 2}))
        assert lost.wait(30)
        time.sleep(0.1)
    assert heard == [1]


def test_what_cannot_be_read_is_taken_over(homes: list[Backends]) -> None:
    homes[0].store.put_if_absent(KEY, b"of an older version")
    with lease("digits", homes[1]) as own:
        assert own.token == 1
