"""The DVC remotes of the repository here: whether they may be read."""

from collections.abc import Iterator

from components.data.remotes import remotes
from components.operations.finding import Finding, Installation, fail, ok, warn


def check(installation: Installation) -> Iterator[Finding]:
    """One line a remote."""
    found = remotes(installation.folder)
    if found is None:
        yield ok("no DVC repository in this folder")
        return
    if not found:
        yield warn("the DVC repository here has no remote: no other machine gets its data", "dvc remote add --default NAME URL")
    for remote in found:
        if remote.is_new:
            yield warn(f"{remote.name} ({remote.url}): {remote.refusal}", "`dvc push`, before other machines need the data")
        elif remote.refusal:
            told = fail if remote.is_default else warn  # data comes from the default one
            yield told(f"{remote.name} ({remote.url}): {remote.refusal}", "correct its address or credentials, then `dvc push`")
        else:
            yield ok(f"{remote.name} ({remote.url}) may be read")
