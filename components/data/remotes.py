"""The DVC remotes of a repository, and whether they may be read."""

from dataclasses import dataclass
from pathlib import Path

from components.core.addresses import without_password
from components.data.lockfiles import find_root


@dataclass(frozen=True)
class Remote:
    """A remote; `refusal` says why it cannot be read. `is_new`: nothing was pushed there yet."""

    name: str
    url: str
    is_default: bool
    refusal: str = ""
    is_new: bool = False


def remotes(folder: Path) -> list[Remote] | None:
    """Those of the repository that a folder is in; None where it is in none."""
    root = find_root(folder)
    if root is None:
        return None
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        default = repo.config["core"].get("remote")
        return [_read(repo, name, str(each.get("url", "")), name == default) for name, each in repo.config["remote"].items()]


def _read(repo: object, name: str, url: str, is_default: bool) -> Remote:
    """A folder that is not there yet is made by the first push, and says so."""
    shown = without_password(url)
    try:
        remote = repo.cloud.get_remote(name)  # type: ignore[attr-defined]
        is_s3 = url.startswith("s3:")  # where a folder without objects is none, so its bucket is asked for
        if not remote.fs.exists(remote.path.partition("/")[0] if is_s3 else remote.path):
            is_folder = "://" not in url
            why = "nothing was pushed there yet" if is_folder else "does not exist, or nothing answers"
            return Remote(name, shown, is_default, why, is_new=is_folder)
    except Exception as error:  # noqa: BLE001 (whatever the file system of a remote raises)
        return Remote(name, shown, is_default, (str(error).splitlines() or [type(error).__name__])[0][:200])
    return Remote(name, shown, is_default)
