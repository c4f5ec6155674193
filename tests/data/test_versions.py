"""Datasets at a version, with real git and DVC repositories and a real local remote."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from elsewhere import run_elsewhere
from sklearn.datasets import load_digits

from components.core.brief import DataBrief
from components.core.errors import DataError, RunError
from components.core.files import sha256_of
from components.data.lockfiles import folder_md5, recorded
from components.data.manifest import MANIFEST
from components.data.prepare import prepare
from components.data.shards import open_split
from components.data.versions import WORKSPACE, describe, fetch, find, track

STAGE = 'python -m components.data prepare pictures.npz --to data/small --seed ${seed} --cache "$GENWRIGHT_DATA_CACHE"'
ROOT = Path(__file__).resolve().parents[2]


ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def sh(where: Path, *command: str) -> str:
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.run(command, cwd=where, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def pull(clone: Path, folder: str) -> None:
    """What `dvc pull` does, without another process."""
    from dvc.repo import Repo

    with Repo(str(clone)) as repo:
        repo.pull([str(clone / folder)])


def empty_remote(where: Path) -> None:
    config = where / ".dvc" / "config"
    config.write_text(re.sub("url = .*", "url = ../nothing-here", config.read_text()))


def commit(where: Path, text: str) -> str:
    sh(where, "git", "add", "-A")
    sh(where, "git", "commit", "-qm", text)
    return sh(where, "git", "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A repository with a stage and an added folder, each in two committed and pushed versions."""
    from dvc.repo import Repo

    repo = tmp_path_factory.mktemp("origin")
    sh(repo, "git", "init", "-q", "-b", "main")
    for key, value in (("user.email", "t@example.org"), ("user.name", "t"), ("core.hooksPath", "/dev/null")):
        sh(repo, "git", "config", key, value)
    with Repo.init(str(repo)) as opened, opened.config.edit() as config:
        config["core"] |= {"analytics": False, "remote": "local"}
        config["remote"]["local"] = {"url": str(repo.parent / f"{repo.name}-remote")}
    stage = {"cmd": STAGE, "deps": ["pictures.npz"], "params": ["seed"], "outs": ["data/small"]}
    (repo / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"small": stage}}))
    (repo / ".gitignore").write_text("/data/small\n")
    images = np.uint8(load_digits().images[:64] * 15)
    np.savez(repo / "pictures.npz", images=images, labels=load_digits().target[:64])
    commits = []
    for seed in (1, 2):
        (repo / "params.yaml").write_text(f"seed: {seed}\n")
        with pytest.MonkeyPatch.context() as patch, Repo(str(repo)) as opened:
            for name, value in ENVIRONMENT.items():
                patch.setenv(name, value)
            patch.chdir(repo)
            opened.reproduce()
        prepare("uci-digits", repo / "own", seed=seed, limit_items=50, cache=repo / ".dvc" / "tmp", progress=False)
        with Repo(str(repo)) as opened:
            opened.add([str(repo / "own")])
            opened.push()
        commits.append(commit(repo, f"version {seed}"))
    return repo, commits[0], commits[1]


@pytest.fixture
def clone(origin: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh clone: nothing in DVC's cache."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the stage, as an installed package would be found
    place = tmp_path / "clone"
    sh(tmp_path, "git", "clone", "-q", str(origin[0]), str(place))
    return place


def test_dvc_alone_pulls_a_version_and_numpy_reads_it(clone: Path) -> None:
    """In a process without genwright."""
    program = """
import json, sys
import numpy as np
from dvc.cli import main

assert main(["pull", "-q", *sys.argv[1:]]) == 0 and main(["status", "-q"]) == 0
for folder in sys.argv[1:]:
    told = json.load(open(f"{folder}/dataset.json"))
    items, labels = (np.load(f"{folder}/train-00000{kind}.npy") for kind in ("", ".labels"))
    print(folder, told["splits"]["train"] == len(items) == len(labels), items.dtype, items.ndim)
"""
    assert run_elsewhere(program, "data/small", "own", folder=clone).splitlines() == [
        "data/small True uint8 4",
        "own True uint8 4",
    ]


def split_seed(dataset_path: str) -> int:
    import json

    return int(json.loads((Path(dataset_path) / MANIFEST).read_text())["seed"])


@pytest.mark.parametrize("path", ["data/small", "own"])
def test_head_comes_from_the_remote(clone: Path, origin: tuple[Path, str, str], tmp_path: Path, path: str) -> None:
    dataset = fetch(DataBrief(path=path), cache=tmp_path / "cache", base=clone)
    assert dataset.rev == origin[2]
    assert dataset.md5 == folder_md5(Path(dataset.path))
    assert dataset.md5.endswith(".dir")
    assert dataset.path == str(tmp_path / "cache" / "datasets" / dataset.md5)
    assert split_seed(dataset.path) == 2
    assert not (clone / path).exists()  # the work tree is left as it is
    assert sh(clone, "git", "status", "--porcelain") == ""


def test_our_md5_is_that_of_dvc(origin: tuple[Path, str, str]) -> None:
    from dvc.repo import Repo

    with Repo(str(origin[0])) as repo:
        outs = {Path(out.fs_path): out.hash_info.value for out in repo.index.outs}
    assert len(outs) == 2
    for folder, md5 in outs.items():
        found = recorded(origin[0], folder)
        assert found is not None
        assert found.md5 == md5 == folder_md5(folder)


def test_without_remote_the_stage_is_run_again(clone: Path, origin: tuple[Path, str, str], tmp_path: Path) -> None:
    empty_remote(clone)
    dataset = fetch(DataBrief(path="data/small"), cache=tmp_path / "cache", base=clone)
    assert (dataset.rev, split_seed(dataset.path)) == (origin[2], 2)
    with pytest.raises(DataError, match="neither DVC's cache nor its remote") as caught:
        fetch(DataBrief(path="own"), cache=tmp_path / "cache", base=clone)
    assert "\n" not in str(caught.value)
    assert not (clone / "own").exists()


def test_a_stage_that_fails_is_one_line(clone: Path, tmp_path: Path) -> None:
    empty_remote(clone)
    (clone / "dvc.yaml").write_text((clone / "dvc.yaml").read_text().replace("prepare pictures", "prepare picturez"))
    with pytest.raises(RunError, match=r"picturez\.npz: no such source") as caught:
        fetch(DataBrief(path="data/small"), cache=tmp_path / "cache", base=clone)
    assert "\n" not in str(caught.value)
    assert not (clone / "data" / "small").exists()


@pytest.mark.parametrize("path", ["data/small", "own"])
def test_an_older_revision_is_read_into_the_cache(clone: Path, origin: tuple[Path, str, str], tmp_path: Path, path: str) -> None:
    older = fetch(DataBrief(path=path, rev="HEAD~1"), cache=tmp_path / "cache", base=clone)
    assert (older.rev, split_seed(older.path)) == (origin[1], 1)
    assert older.path == str(tmp_path / "cache" / "datasets" / older.md5)
    assert folder_md5(Path(older.path)) == older.md5
    assert fetch(DataBrief(path=path, rev=origin[1]), cache=tmp_path / "cache", base=clone) == older
    assert not (clone / path).exists()
    assert describe(DataBrief(path=path, rev=origin[1]), cache=tmp_path / "cache", base=clone) == older


@pytest.mark.parametrize("as_url", [False, True])
def test_another_repository(origin: tuple[Path, str, str], tmp_path: Path, as_url: bool) -> None:
    repo = origin[0].as_uri() if as_url else str(origin[0])
    head = fetch(DataBrief(path="own", repo=repo), cache=tmp_path / "cache", base=tmp_path)
    older = fetch(DataBrief(path="own", repo=repo, rev=origin[1]), cache=tmp_path / "cache", base=tmp_path)
    assert (head.rev, split_seed(head.path)) == (origin[2], 2)
    assert (older.rev, split_seed(older.path)) == (origin[1], 1)
    assert Path(head.path).is_relative_to(tmp_path / "cache")
    assert len(open_split(Path(older.path), "train")) == older.splits["train"]


@pytest.mark.parametrize("damage", ["a flipped byte", "a missing shard", "no dataset.json", "one file more"])
def test_a_damaged_copy_is_fetched_anew(clone: Path, tmp_path: Path, damage: str) -> None:
    first = fetch(DataBrief(path="own"), cache=tmp_path / "cache", base=clone)
    shard, manifest = Path(first.path) / "train-00000.npy", Path(first.path) / MANIFEST
    if damage == "a flipped byte":
        flip(shard)
    elif damage == "one file more":
        (shard.parent / "notes.txt").touch()
    else:
        (shard if damage == "a missing shard" else manifest).unlink()
    assert fetch(DataBrief(path="own"), cache=tmp_path / "cache", base=clone) == first
    assert folder_md5(Path(first.path)) == first.md5


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()  # a link to DVC's cache, perhaps
    path.write_bytes(data)


def test_a_damaged_file_in_dvcs_cache_is_pulled_anew(clone: Path, tmp_path: Path) -> None:
    first = fetch(DataBrief(path="own"), cache=tmp_path / "one", base=clone)
    for stored in (clone / ".dvc" / "cache" / "files" / "md5").glob("*/*"):
        if stored.stat().st_size > 1000 and stored.suffix != ".dir":
            flip(stored)
    assert fetch(DataBrief(path="own"), cache=tmp_path / "two", base=clone).md5 == first.md5
    assert folder_md5(tmp_path / "two" / "datasets" / first.md5) == first.md5


@pytest.mark.parametrize("how", ["pulled by git", "checked out by git"])
def test_what_git_names_is_fetched_though_an_older_folder_lies_there(
    clone: Path, origin: tuple[Path, str, str], tmp_path: Path, how: str
) -> None:
    """A worker has the folder of the first version and pulls the second: only a .dvc file changes."""
    sh(clone, "git", "reset", "-q", "--hard", origin[1])
    pull(clone, "own")
    old = fetch(DataBrief(path="own"), cache=tmp_path / "cache", base=clone)
    assert (old.rev, split_seed(old.path), split_seed(str(clone / "own"))) == (origin[1], 1, 1)
    sh(clone, "git", *(("pull", "-q", "--ff-only") if how == "pulled by git" else ("checkout", "-q", origin[2])))
    shutil.rmtree(clone / ".dvc" / "cache")  # that the old version was recorded once, git knows too
    described = describe(DataBrief(path="own"), cache=tmp_path / "cache", base=clone)
    new = fetch(DataBrief(path="own"), cache=tmp_path / "cache", base=clone)
    assert (new.rev, split_seed(new.path)) == (origin[2], 2)
    assert described is not None
    assert (described.rev, described.md5) == (new.rev, new.md5)
    assert split_seed(str(clone / "own")) == 1  # the folder is left as it is


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_dvcs_cache_holds_is_described_before_it_is_fetched(
    clone: Path, origin: tuple[Path, str, str], tmp_path: Path, elsewhere: bool
) -> None:
    if elsewhere:
        (clone / ".dvc" / "config.local").write_text("[cache]\n    dir = ../../a-cache\n")
    data = DataBrief(path="own", rev=origin[1])
    assert describe(data, cache=tmp_path / "new", base=clone) is None
    known = fetch(data, cache=tmp_path / "cache", base=clone)
    assert (tmp_path / "a-cache").exists() == elsewhere
    described = describe(data, cache=tmp_path / "new", base=clone)
    assert described == known.model_copy(update={"path": str(tmp_path / "new" / "datasets" / known.md5)})


def test_a_branch_a_tag_and_a_short_commit_name_a_version(clone: Path, origin: tuple[Path, str, str], tmp_path: Path) -> None:
    sh(clone, "git", "tag", "first", origin[1])
    sh(clone, "git", "branch", "old", origin[1])
    sh(clone, "git", "branch", "odd/name", origin[1])
    for rev in ("first", "old", "odd/name", origin[1][:9], "main~1", "HEAD^"):
        dataset = fetch(DataBrief(path="own", rev=rev), cache=tmp_path / "cache", base=clone)
        assert (dataset.rev, split_seed(dataset.path)) == (origin[1], 1), rev


def test_a_changed_folder_is_refused_until_it_is_a_version(clone: Path, origin: tuple[Path, str, str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = fetch(DataBrief(path="own"), cache=cache, base=clone)
    prepare("uci-digits", clone / "own", seed=7, limit_items=40, cache=cache, progress=False)
    with pytest.raises(DataError, match=r"own: changed since .* own\.dvc records .*; `dvc add own` .*rev: workspace") as caught:
        fetch(DataBrief(path="own"), cache=cache, base=clone)
    assert "\n" not in str(caught.value)
    assert fetch(DataBrief(path="own", rev=origin[1]), cache=cache, base=clone).rev == origin[1]  # which is not the folder

    as_it_lies = fetch(DataBrief(path="own", rev=WORKSPACE), cache=cache, base=clone)
    assert (as_it_lies.rev, as_it_lies.count, as_it_lies.path) == (WORKSPACE, 40, str(clone / "own"))
    assert as_it_lies.md5 == folder_md5(clone / "own") != first.md5

    track(clone / "own")
    added = fetch(DataBrief(path="own"), cache=cache, base=clone)
    assert (added.rev, added.md5, added.path) == (WORKSPACE, as_it_lies.md5, str(cache / "datasets" / as_it_lies.md5))
    sh(clone, "git", "config", "user.email", "t@example.org")
    sh(clone, "git", "config", "user.name", "t")
    sha = commit(clone, "third")
    assert fetch(DataBrief(path="own"), cache=cache, base=clone) == added.model_copy(update={"rev": sha})


def test_a_changed_folder_that_a_stage_makes_is_refused(clone: Path, tmp_path: Path) -> None:
    (clone / "data" / "small").mkdir(parents=True)
    fetch(DataBrief(path="data/small"), cache=tmp_path / "cache", base=clone)  # an empty one holds nothing that could be lost
    prepare("uci-digits", clone / "data" / "small", seed=7, limit_items=40, cache=tmp_path, progress=False)
    with pytest.raises(DataError, match=r"small: changed since .* dvc\.lock records .*; `dvc commit small` .*rev: workspace"):
        fetch(DataBrief(path="data/small"), cache=tmp_path / "cache", base=clone)
    assert split_seed(str(clone / "data" / "small")) == 7


def test_one_flipped_byte_is_damage_and_not_a_version(clone: Path, tmp_path: Path) -> None:
    pull(clone, "own")
    flip(clone / "own" / "train-00000.npy")
    for rev in ("HEAD", WORKSPACE):
        with pytest.raises(DataError, match=r"train-00000\.npy: corrupt"):
            fetch(DataBrief(path="own", rev=rev), cache=tmp_path / "cache", base=clone)


def test_a_part_of_a_tracked_folder_is_a_version(clone: Path, origin: tuple[Path, str, str], tmp_path: Path) -> None:
    from dvc.repo import Repo

    for name, seed in (("a", 3), ("b", 4)):
        prepare("uci-digits", clone / "all" / name, seed=seed, limit_items=40, cache=tmp_path, progress=False)
    with Repo(str(clone)) as repo:
        repo.add([str(clone / "all")])
    md5 = folder_md5(clone / "all" / "b")
    shutil.rmtree(clone / "all")
    dataset = fetch(DataBrief(path="all/b"), cache=tmp_path / "cache", base=clone)
    assert (dataset.md5, split_seed(dataset.path), Path(dataset.path).name) == (md5, 4, md5)
    assert fetch(DataBrief(path="all/b"), cache=tmp_path / "cache", base=clone) == dataset
    with pytest.raises(DataError, match="has no c"):
        fetch(DataBrief(path="all/c"), cache=tmp_path / "cache", base=clone)


def test_a_shallow_clone_has_the_version_of_its_commit(origin: tuple[Path, str, str], tmp_path: Path) -> None:
    sh(tmp_path, "git", "clone", "-q", "--depth", "1", origin[0].as_uri(), "shallow")
    dataset = fetch(DataBrief(path="own"), cache=tmp_path / "cache", base=tmp_path / "shallow")
    assert (dataset.rev, split_seed(dataset.path)) == (origin[2], 2)
    with pytest.raises(DataError, match="no revision"):
        fetch(DataBrief(path="own", rev=origin[1]), cache=tmp_path / "cache", base=tmp_path / "shallow")


def test_a_pointer_in_the_middle_of_a_merge_is_named(clone: Path, tmp_path: Path) -> None:
    text = (clone / "own.dvc").read_text()
    (clone / "own.dvc").write_text(f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> other\n")
    with pytest.raises(DataError, match=r"own\.dvc: not YAML, or in the middle of a merge") as caught:
        fetch(DataBrief(path="own"), cache=tmp_path / "cache", base=clone)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_stage_that_makes_another_version_is_not_taken_for_the_recorded_one(clone: Path, tmp_path: Path) -> None:
    empty_remote(clone)
    (clone / "params.yaml").write_text("seed: 5\n")
    lock = (clone / "dvc.lock").read_text()
    for _ in range(2):
        with pytest.raises(DataError, match=r"the stage small makes .*records|changed since") as caught:
            fetch(DataBrief(path="data/small"), cache=tmp_path / "cache", base=clone)
        assert "\n" not in str(caught.value)
        assert (clone / "dvc.lock").read_text() == lock


FETCH = (
    "import sys; from pathlib import Path\n"
    "from components.core.brief import DataBrief; from components.data.versions import fetch\n"
    "print(fetch(DataBrief(path=sys.argv[3]), cache=Path(sys.argv[1]), base=Path(sys.argv[2])).md5)"
)


def test_a_fetch_that_is_killed_leaves_the_version_whole_or_not_at_all(
    clone: Path, origin: tuple[Path, str, str], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    hang = FETCH.replace("import sys;", "import sys, shutil, time; copy = shutil.copyfile; ").replace(
        "print(", "shutil.copyfile = lambda a, b: (copy(a, b), print('copied', flush=True), time.sleep(60))\nprint("
    )
    command = [sys.executable, "-c", hang, str(cache), str(clone), "own"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "copied\n"
        running.kill()
    assert [path for path in (cache / "datasets").iterdir() if path.name.endswith(".dir")] == []
    dataset = fetch(DataBrief(path="own"), cache=cache, base=clone)
    assert (dataset.rev, folder_md5(Path(dataset.path))) == (origin[2], dataset.md5)
    assert list((cache / "datasets").glob(".incoming.partial-*")) == []


@pytest.mark.parametrize(
    ("remote", "homes"), [(False, 1), *(pytest.param(True, homes, marks=pytest.mark.slow) for homes in (1, 2))]
)
def test_two_at_once_do_not_collide(clone: Path, tmp_path: Path, remote: bool, homes: int) -> None:
    if not remote:
        empty_remote(clone)

    def run(home: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", FETCH, str(tmp_path / f"cache{home % homes}"), str(clone), "data/small"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run, range(2)))
    assert [(each.returncode, each.stderr) for each in done] == [(0, ""), (0, "")]
    stored = tmp_path / "cache0" / "datasets"
    assert {each.stdout.strip() for each in done} == {path.name for path in stored.glob("*.dir")}  # and nothing else is printed


def test_a_version_that_is_stored_nowhere_is_one_line(clone: Path, origin: tuple[Path, str, str], tmp_path: Path) -> None:
    empty_remote(clone)
    with pytest.raises(DataError, match="neither DVC's cache nor its remote holds") as caught:
        fetch(DataBrief(path="own", rev=origin[1]), cache=tmp_path / "cache", base=clone)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "cache" / "datasets").iterdir()] == [".lock"]


def test_a_dvc_folder_inside_git_with_a_relative_remote(clone: Path, tmp_path: Path) -> None:
    from dvc.repo import Repo

    inner = clone / "inner"
    inner.mkdir()
    with Repo.init(str(inner), subdir=True):
        (inner / ".dvc" / "config").write_text("[core]\n    remote = local\n['remote \"local\"']\n    url = ../store\n")
    md5s = []
    for seed in (1, 2):
        prepare("uci-digits", inner / "own", seed=seed, limit_items=40, cache=tmp_path, progress=False)
        md5s.append(folder_md5(inner / "own"))
        with Repo(str(inner)) as opened:
            opened.add([str(inner / "own")])
            opened.push()
        sh(clone, "git", "add", "inner/own.dvc", "inner/.dvc")
        sh(clone, "git", "-c", "user.email=t@example.org", "-c", "user.name=t", "commit", "-qm", f"{seed}")
    shutil.rmtree(inner / ".dvc" / "cache")
    shutil.rmtree(inner / "own")
    older = fetch(DataBrief(path="own", repo="inner", rev="HEAD~1"), cache=tmp_path / "cache", base=clone)
    assert (older.md5, split_seed(older.path)) == (md5s[0], 1)
    newer = fetch(DataBrief(path="inner/own"), cache=tmp_path / "cache", base=clone)
    assert (newer.md5, split_seed(newer.path)) == (md5s[1], 2)


def test_wrong_names_are_one_line(clone: Path, tmp_path: Path) -> None:
    (clone / "file.bin.dvc").write_text("outs:\n- {md5: d41d8cd98f00b204e9800998ecf8427e, path: file.bin, hash: md5}\n")
    for data, text in (
        (DataBrief(path="data/none"), "not a prepared dataset"),
        (DataBrief(path="own", rev="nowhere"), "no revision 'nowhere'"),
        (DataBrief(path="other", rev="HEAD~1"), "not tracked by DVC"),
        (DataBrief(path="own", rev="--all"), "no revision '--all'"),
        (DataBrief(path="."), "so it is no version"),
        (DataBrief(path="file.bin"), "DVC tracks a file there"),
        (DataBrief(path="own", repo="nowhere"), "no such repository"),
        (DataBrief(path="own", repo=(tmp_path / "none").as_uri()), "none"),
        (DataBrief(path="own", repo=clone.as_uri(), rev="nowhere"), "nowhere"),
    ):
        with pytest.raises(DataError, match=text) as caught:
            fetch(data, cache=tmp_path / "cache", base=clone)
        assert "\n" not in str(caught.value)
    assert describe(DataBrief(path="data/none"), cache=tmp_path / "cache", base=clone) is None


def test_describe_reads_what_lies_there_and_imports_no_dvc(origin: tuple[Path, str, str], tmp_path: Path) -> None:
    known = describe(DataBrief(path="own"), cache=tmp_path, base=origin[0])
    assert known is not None
    assert (known.rev, known.item.text, known.classes) == (origin[2], "8x8x1", tuple("0123456789"))
    assert known == fetch(DataBrief(path="own"), cache=tmp_path, base=origin[0])
    assert known == describe(DataBrief(path="own"), cache=tmp_path, base=origin[0])
    code = (
        "import sys; from pathlib import Path\n"
        "from components.core.brief import DataBrief; from components.data.versions import describe\n"
        "assert describe(DataBrief(path='own'), cache=Path('x'), base=Path(sys.argv[1]))\n"
        "print(sorted({'dvc', 'torch', 'sklearn', 'httpx', 'PIL'} & set(sys.modules)))"
    )
    assert sh(ROOT, sys.executable, "-c", code, str(origin[0])) == "[]"


def test_track_outside_any_repository(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    prepare("uci-digits", folder, limit_items=64, cache=tmp_path / "cache", progress=False)
    track(folder)
    track(folder)
    assert (tmp_path / "mine.dvc").is_file()
    assert "../.genwright/dvc-remote" in (tmp_path / ".dvc" / "config").read_text()
    dataset = fetch(DataBrief(path="mine"), cache=tmp_path / "cache", base=tmp_path)
    assert dataset.md5 == folder_md5(folder) == recorded(tmp_path, folder).md5  # type: ignore[union-attr]
    assert dataset.rev == WORKSPACE
    shutil.rmtree(folder)
    assert fetch(DataBrief(path="mine"), cache=tmp_path / "cache", base=tmp_path) == dataset
    assert capfd.readouterr() == ("", "")


def test_track_in_git_and_for_a_stage(clone: Path, tmp_path: Path) -> None:
    fetch(DataBrief(path="data/small"), cache=tmp_path / "cache", base=clone)
    prepare("uci-digits", clone / "data" / "small", seed=9, limit_items=40, cache=tmp_path / "cache", progress=False)
    track(clone / "data" / "small")
    found = recorded(clone, clone / "data" / "small")
    assert found is not None
    assert (found.md5, found.file) == (folder_md5(clone / "data" / "small"), "dvc.lock")
    prepare("uci-digits", clone / "new", limit_items=40, cache=tmp_path / "cache", progress=False)
    track(clone / "new")
    assert (clone / "new.dvc").is_file()
    with pytest.raises(DataError, match="not a prepared dataset"):
        track(clone / "nothing")


def test_an_untracked_folder_is_read_only_when_the_brief_says_so(clone: Path, tmp_path: Path) -> None:
    for place, why in ((tmp_path, "in no DVC repository"), (clone, "not tracked by DVC")):
        prepare("uci-digits", place / "mine", limit_items=64, cache=tmp_path / "cache", progress=False)
        with pytest.raises(DataError, match=rf"mine: {why}, so it is no version; .*`dvc add` it, or write rev: workspace"):
            fetch(DataBrief(path="mine"), cache=tmp_path / "cache", base=place)
        dataset = fetch(DataBrief(path="mine", rev=WORKSPACE), cache=tmp_path / "cache", base=place)
        assert (dataset.rev, dataset.md5, dataset.path) == (WORKSPACE, folder_md5(place / "mine"), str(place / "mine"))
        described = describe(DataBrief(path="mine", rev=WORKSPACE), cache=tmp_path / "cache", base=place)
        assert described == dataset.model_copy(update={"md5": ""})
        assert find(dataset.record, cache=tmp_path / "cache") == dataset  # whatever the current folder is
        with (place / "mine" / "quarantine.jsonl").open("a") as file:
            file.write("{}\n")
        assert find(dataset.record, cache=tmp_path / "cache") is None  # it is no longer this version


def test_a_version_that_was_fetched_is_found_again(clone: Path, tmp_path: Path) -> None:
    dataset = fetch(DataBrief(path="own"), cache=tmp_path / "cache", base=clone)
    assert find(dataset.record, cache=tmp_path / "cache") == dataset
    assert find(dataset.record, cache=tmp_path / "another") is None


def test_a_bare_repository_is_read_as_an_address(origin: tuple[Path, str, str], tmp_path: Path) -> None:
    sh(tmp_path, "git", "clone", "-q", "--bare", str(origin[0]), "bare.git")
    dataset = fetch(DataBrief(path="own", repo="bare.git", rev="main~1"), cache=tmp_path / "cache", base=tmp_path)
    assert (dataset.rev, split_seed(dataset.path), dataset.repo) == (origin[1], 1, "bare.git")


def test_an_address_is_read_once_a_commit(origin: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.data import repository

    data = DataBrief(path="own", repo=origin[0].as_uri())
    first = fetch(data, cache=tmp_path / "cache")
    monkeypatch.setattr(repository, "export", lambda *_, **__: pytest.fail("read again"))
    for rev in ("HEAD", "main", origin[2]):
        assert fetch(data.model_copy(update={"rev": rev}), cache=tmp_path / "cache") == first
    with pytest.raises(DataError, match="an address has no work tree"):
        fetch(data.model_copy(update={"rev": WORKSPACE}), cache=tmp_path / "cache")


def test_the_lock_of_this_project_is_what_the_code_makes(tmp_path: Path) -> None:
    from components.data.manifest import FORMAT

    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert params["format"] == FORMAT
    prepare("uci-digits", tmp_path / "digits", side=8, seed=params["seed"], cache=tmp_path, progress=False)
    found = recorded(ROOT, ROOT / "data" / "prepared" / "digits")
    assert found is not None
    assert folder_md5(tmp_path / "digits") == found.md5, "raise `format` in params.yaml and FORMAT, then run `dvc repro`"
    assert np.load(tmp_path / "digits" / "test-00000.npy").shape == (180, 8, 8, 1)
    assert sha256_of(tmp_path / "digits" / "quarantine.jsonl").startswith("e3b0c442")  # empty
