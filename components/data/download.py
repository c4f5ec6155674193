"""Downloads that go on where they broke off. A partial file stays as `.part`; nothing is used before its digest is checked."""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from components.core.errors import DataError, GenwrightError, RunError, disk_error
from components.runtime.progress import Advance, bar

ATTEMPTS = 4  # in a row without one new byte
PAUSE_S = 0.5
TIMEOUT_S = 30.0


class NoAnswer(RunError):
    """A mirror that cannot be reached or breaks off again and again."""


class NotThere(DataError):
    """A mirror that does not hold the file."""


def obtain(urls: Sequence[str], part: Path, use: Callable[[Path], None], *, progress: bool, pause_s: float = PAUSE_S) -> None:
    """Download the first of `urls` that answers and whose file `use` accepts (it verifies, and raises DataError).

    Raises the only failure, or a RunError (a DataError when some bytes were wrong) that names what each mirror said.
    """
    failures: list[GenwrightError] = []
    for url in urls:
        # Bytes of one mirror are never continued with another's: the same file may be packed differently there.
        own = part.with_name(f"{part.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
        try:
            _obtain_from(url, own, use, progress=progress, pause_s=pause_s)
        except (NoAnswer, DataError) as error:
            failures.append(error)
        else:
            return
    if len(failures) == 1:
        raise failures[0]
    wrong = any(isinstance(error, DataError) and not isinstance(error, NotThere) for error in failures)
    kind = DataError if wrong else RunError
    raise kind(
        f"no mirror gave {part.name}: " + " | ".join(str(error) for error in failures),
        do="try again later, or set GENWRIGHT_DATA_MIRROR to a folder or URL that holds it",
    )


def _obtain_from(url: str, part: Path, use: Callable[[Path], None], *, progress: bool, pause_s: float) -> None:
    resumed = part.exists()
    download(url, part, progress=progress, pause_s=pause_s)
    try:
        use(part)
    except DataError:
        part.unlink(missing_ok=True)
        if not resumed:
            raise
        # What an earlier run left may have been of another version of the file: once more from the start.
        download(url, part, progress=progress, pause_s=pause_s)
        try:
            use(part)
        except DataError:
            part.unlink(missing_ok=True)
            raise
    part.unlink(missing_ok=True)


def download(url: str, part: Path, *, progress: bool, pause_s: float = PAUSE_S) -> None:
    """Bring `part` to the full length of what lies at `url`, continuing what is there.

    Raises NoAnswer, NotThere, and StorageError when the disk refuses.
    """
    import httpx

    failed, reason = 0, ""
    with httpx.Client(timeout=TIMEOUT_S, follow_redirects=True, headers={"accept-encoding": "identity"}) as client:
        while failed < ATTEMPTS:
            before = _length(part)
            try:
                if _continue(client, url, part, progress=progress):
                    return
                reason = "it sent fewer bytes than it announced"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reason = str(error) or type(error).__name__
            except OSError as error:
                raise disk_error(error, part) from error
            failed = 0 if _length(part) > before else failed + 1
            time.sleep(pause_s * 2**failed if failed else 0)
    raise NoAnswer(f"{url}: {reason}", do="run the same command again: it goes on where it stopped")


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _continue(client: Any, url: str, part: Path, *, progress: bool) -> bool:
    """One request from where `part` ends; True when it is whole."""
    have = _length(part)
    headers = {"range": f"bytes={have}-"} if have else {}
    with client.stream("GET", url, headers=headers) as reply:
        if reply.status_code in (401, 403, 404, 410):
            raise NotThere(f"{url}: HTTP {reply.status_code}", do="check the mirror's layout or name another mirror")
        if reply.status_code == 416:  # nothing lies beyond what we have
            if reply.headers.get("content-range", "").endswith(f"/{have}"):
                return True
            part.unlink()
            return False
        reply.raise_for_status()
        if reply.status_code != 206:
            have = 0  # it does not continue: from the start
        total = have + int(reply.headers["content-length"]) if "content-length" in reply.headers else None
        with bar(f"download {url.rpartition('/')[2]}", total=total, show=progress, unit_bytes=True) as advance:
            advance(have)
            return _append(reply, part, have, total, advance)


def _append(reply: Any, part: Path, have: int, total: int | None, advance: Advance) -> bool:
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab" if have else "wb") as file:
        # As they come: chunks of a fixed size would be lost when the connection breaks before they are full.
        for chunk in reply.iter_raw():
            file.write(chunk)
            advance(len(chunk))
    return total is None or _length(part) == total
