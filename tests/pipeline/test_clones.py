"""Two clones with a git and a DVC remote between them: what one prepares and pushes, the other produces from."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from components.core.brief import base_of, read_brief
from components.data.lockfiles import folder_md5, recorded
from components.pipeline.backends import Backends
from components.pipeline.resolve import resolve
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command

REPO = Path(__file__).parents[2]
OURS = (".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore", "dvc.yaml", "dvc.lock", "params.yaml", "briefs/digits.yaml")
BRIEF = "name: photos\nmodality: image\ndata: {path: data/prepared/photos}\ncompute: {minutes: 1, device: cpu}\n"


def git(where: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=where, check=True, capture_output=True, text=True).stdout.strip()


def photos(folder: Path, *, seed: int) -> Path:
    """Eighty small pictures, which differ by the seed."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for at in range(80):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{at}.png")
    return folder


def push(clone: Path, text: str) -> None:
    from dvc.repo import Repo

    git(clone, "add", "-A")
    git(clone, "commit", "-qm", text)
    with Repo(str(clone)) as repo:
        repo.push()
    git(clone, "push", "-q")


@pytest.fixture
def clones(tmp_path: Path) -> tuple[Path, Path]:
    """Two clones of a repository that has this project's own DVC and git settings, and a DVC remote that both reach."""
    first = tmp_path / "first"
    for name in OURS:
        (first / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, first / name)
    config = (first / ".dvc" / "config").read_text()
    (first / ".dvc" / "config").write_text(config.replace("url = ../.genwright/dvc-remote", f"url = {tmp_path / 'remote'}"))
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
    git(first, "init", "-q", "-b", "main")
    git(first, "remote", "add", "origin", str(tmp_path / "origin.git"))
    for key, value in (("user.email", "t@example.org"), ("user.name", "t"), ("core.hooksPath", "/dev/null")):
        git(first, "config", key, value)
    git(first, "add", "-A")
    git(first, "commit", "-qm", "begin")
    git(first, "push", "-qu", "origin", "main")
    git(tmp_path, "clone", "-q", "origin.git", "second")
    return first, tmp_path / "second"


@pytest.fixture
def shown(cli: "Command", tmp_path: Path) -> Callable[[Path], Any]:
    """What `genwright data show` says of a clone's brief by its absolute path, called from a folder that is in no repository."""

    def show(clone: Path) -> Any:
        home = tmp_path / f"home-of-{clone.name}"
        return cli("data", "show", clone / "briefs" / "photos.yaml", "--json", GENWRIGHT_HOME=home).json()

    return show


def test_what_one_clone_prepares_and_pushes_reaches_the_other(
    cli: "Command", clones: tuple[Path, Path], shown: Callable[[Path], Any], tmp_path: Path
) -> None:
    from dvc.repo import Repo

    first, second = clones
    to = first / "data" / "prepared" / "photos"
    assert cli("data", "prepare", photos(tmp_path / "old", seed=1), "--to", to).code == 0
    assert git(first, "status", "--porcelain", "-uall") == "?? data/prepared/photos.dvc"
    (first / "briefs" / "photos.yaml").write_text(BRIEF)
    assert (shown(first)["md5"], shown(first)["rev"]) == (folder_md5(to), "workspace")  # a version, not committed yet
    push(first, "photos")

    git(second, "pull", "-q")
    old = shown(second)
    assert (old["md5"], old["rev"]) == (folder_md5(to), git(first, "rev-parse", "HEAD"))
    assert keys(first, tmp_path) == keys(second, tmp_path)  # a run is the same in every clone

    with Repo(str(second)) as repo:
        repo.pull([str(second / "data" / "prepared" / "photos")])
    assert cli("data", "prepare", photos(tmp_path / "new", seed=2), "--to", to).code == 0
    push(first, "more photos")
    before = keys(second, tmp_path)
    git(second, "pull", "-q")  # changes photos.dvc alone: the folder is that of the old version
    new = shown(second)
    assert (new["md5"], new["rev"]) == (folder_md5(to), git(first, "rev-parse", "HEAD"))
    assert new["md5"] != old["md5"] == folder_md5(second / "data" / "prepared" / "photos")
    assert keys(second, tmp_path) != before
    assert git(second, "status", "--porcelain") == ""


def keys(clone: Path, tmp_path: Path) -> str:
    """The key of the run that a brief would be."""
    path = clone / "briefs" / "photos.yaml"
    return resolve(read_brief(path), Backends(Settings(home=tmp_path / f"home-of-{clone.name}")), base=base_of(path)).key("seal")


def test_a_version_that_was_not_pushed_is_one_line(cli: "Command", clones: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = clones
    cli("data", "prepare", photos(tmp_path / "old", seed=1), "--to", first / "data" / "prepared" / "photos")
    (first / "briefs" / "photos.yaml").write_text(BRIEF)
    git(first, "add", "-A")
    git(first, "commit", "-qm", "photos")
    git(first, "push", "-q")
    git(second, "pull", "-q")
    cli("data", "show", second / "briefs" / "photos.yaml").refused(
        2, "photos.dvc", "neither DVC's cache nor its remote", "dvc push"
    )


def test_a_place_where_git_would_ignore_the_version_is_refused_before_the_work(
    cli: "Command", clones: tuple[Path, Path], tmp_path: Path
) -> None:
    first, _ = clones
    (first / ".gitignore").write_text("/data/\n")
    source, to = photos(tmp_path / "old", seed=1), first / "data" / "photos"
    cli("data", "prepare", source, "--to", to).refused(2, "photos.dvc", ".gitignore:1:/data/", "name a folder")
    assert not to.exists()
    (first / ".gitignore").write_text("/data/*/\n")  # which DVC takes for /data/ too
    cli("data", "prepare", source, "--to", to).refused(2, "photos.dvc", "does not find it again", "data/?*/")


@pytest.mark.slow
def test_the_demos_data_is_made_in_a_fresh_clone_without_any_remote(
    cli: "Command", clones: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPO))  # for the stage, as an installed package would be found
    _, second = clones
    dataset = cli("data", "show", second / "briefs" / "digits.yaml", "--json", GENWRIGHT_HOME=tmp_path / "home").json()
    known = recorded(second, second / "data" / "prepared" / "digits")
    assert known is not None
    assert (dataset["md5"], dataset["rev"]) == (known.md5, git(second, "rev-parse", "HEAD"))
    assert git(second, "status", "--porcelain") == ""
