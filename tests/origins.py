"""A git repository with prepared digits, as a team has one: bare, and its data in a DVC remote beside it."""

import shutil
import subprocess
from pathlib import Path

from dvc.repo import Repo

from components.data.versions import track


def git(where: Path, *arguments: str) -> None:
    own = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *own, *arguments], cwd=where, check=True, capture_output=True)


def origin_with(digits: Path, folder: Path) -> Path:
    """A clone with data/digits in it, pushed to FOLDER/origin.git and its files to FOLDER/far."""
    clone = folder / "clone"
    shutil.copytree(digits, clone / "data" / "digits")
    git(folder, "init", "-q", "--bare", "-b", "main", "origin.git")
    git(clone, "init", "-q", "-b", "main")
    git(clone, "remote", "add", "origin", str(folder / "origin.git"))
    track(clone / "data" / "digits")
    with Repo(str(clone)) as repo:
        with repo.config.edit() as config:
            config["core"]["remote"] = "far"
            config["remote"] = {"far": {"url": str(folder / "far")}}
        repo.push()
    publish(clone, "digits")
    return clone


def publish(clone: Path, text: str) -> None:
    """Commit all and push it."""
    git(clone, "add", "-A")
    git(clone, "commit", "-qm", text)
    git(clone, "push", "-q", "--set-upstream", "origin", "main")
