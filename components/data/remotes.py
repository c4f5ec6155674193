"""The DVC remotes of a repository, and whether they may be read."""

from dataclasses import dataclass
from pathlib import Path

from components.core.addresses import without_password
from components.data.lockfiles import find_root


@dataclass(frozen=True)
class Remote:
    """A remote; `refusal` says why it cannot be read."""

    name: str
    url: str
    refusal: str = ""


def remotes(folder: Path) -> list[Remote] | None:
    """Those of the repository that a folder is in; None where it is in none."""
    root = find_root(folder)
    if root is None:
        return None
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return [_read(repo, name, str(each.get("url", ""))) for name, each in repo.config["remote"].items()]


def _read(repo: object, name: str, url: str) -> Remote:
    """A folder that is not there yet is made by the first push, and says so."""
    shown = without_password(url)
    try:
        odb = repo.cloud.get_remote_odb(name)  # type: ignore[attr-defined]
        if not odb.fs.exists(odb.path):
            return Remote(name, shown, "" if url.startswith("s3:") else "does not exist: nothing was pushed there yet")
    except Exception as error:  # noqa: BLE001 (whatever the file system of a remote raises)
        return Remote(name, shown, (str(error).splitlines() or [type(error).__name__])[0][:200])
    return Remote(name, shown)
