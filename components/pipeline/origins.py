"""Where other machines get what lies in a folder here: the address that its git repository came from."""

from pathlib import Path

from components.core.addresses import has_password
from components.core.brief import Brief, DataBrief
from components.core.errors import BriefError, InputError
from components.data.lockfiles import git
from components.data.revisions import HEAD, WORKSPACE, is_address


def origin_of(root: Path, *, otherwise: str = "") -> tuple[str, str]:
    """The address that others clone, and the branch there, or the commit where none is checked out.

    `otherwise`: what a person may do instead. Raises InputError where there is none, or one with a password in it.
    """
    branch = (git(root, "symbolic-ref", "--short", "--quiet", "HEAD") or "").strip()
    remote = (git(root, "config", f"branch.{branch}.remote") or "").strip() if branch else ""
    merge = (git(root, "config", f"branch.{branch}.merge") or "").strip() if branch else ""
    rev = merge.removeprefix("refs/heads/") or branch or (git(root, "rev-parse", "HEAD") or "").strip()
    address = (git(root, "remote", "get-url", remote or "origin") or "").strip()
    if not address or not rev:
        what = f"{root}: has no git remote{'' if rev else ' and no commit'}, so no worker can clone it"
        raise InputError(what, do=f"`git remote add origin ADDRESS` and push{otherwise}")
    if has_password(address):
        what = f"{root}: the address of its git remote has a password in it, which others would read"
        raise InputError(what, do=f"`git remote set-url` one without; git asks its credential helper{otherwise}")
    return (address if is_address(address) else str((root / address).resolve())), rev


def for_pods(brief: Brief, base: Path) -> Brief:
    """The brief as machines can follow it that see nothing of this one: data from an address, and a device that is named: `auto`
    means a GPU there.

    Raises BriefError and InputError where the data is not to be had from an address.
    """
    data = brief.data
    if data.rev == WORKSPACE:
        raise BriefError("data.rev: workspace is a folder as it lies here, which no pod sees", allowed="HEAD, a tag or a commit")
    if not is_address(data.repo):
        address, rev = origin_of(base / data.repo)
        if not is_address(address):
            raise BriefError(f"data.repo: {data.repo} came from {address}, a folder that no pod sees", allowed="an address")
        data = data.model_copy(update={"repo": address, "rev": rev if data.rev == HEAD else data.rev})
    return on_gpus(brief.model_copy(update={"data": data}))


def on_gpus(brief: Brief) -> Brief:
    """The brief for an engine that places its stages on other machines: there `auto` means a GPU."""
    device = "cuda" if brief.compute.device == "auto" else brief.compute.device
    return brief.model_copy(update={"compute": brief.compute.model_copy(update={"device": device})})


def reachable(data: DataBrief, base: Path) -> DataBrief:
    """Data of a folder by the address that its git repository was cloned from, so that any machine finds it there at its commit.

    As it is where there is no such address: then only who shares the home has it. `base`: what data.repo is relative to.
    """
    if is_address(data.repo) or data.rev == WORKSPACE:
        return data
    place = (base / data.repo).resolve()
    top = git(place, "rev-parse", "--show-toplevel") if place.is_dir() else None
    if top is None:
        return data
    root, inside = Path(top.strip()).resolve(), place / data.path
    if not inside.is_relative_to(root):
        return data
    try:
        address, _ = origin_of(root)
    except InputError:
        return data
    repo = address if is_address(address) else Path(address).as_uri()
    return data.model_copy(update={"repo": repo, "path": inside.relative_to(root).as_posix()})
