"""The file that a brief names for its proofs (proof.network), pinned by its digest."""

from pathlib import Path

from components.core.brief import Brief
from components.core.errors import BriefError
from components.core.files import sha256_of
from components.core.records import Artifact
from components.pipeline.backends import Backends


def check_network(brief: Brief, *, folder: Path, digest: bool = True) -> None:
    """Raises BriefError where the file is not there, or with `digest` is another one; a plan does not read a gigabyte."""
    if brief.proof.network is None:
        return
    path = folder / brief.proof.network
    if not path.is_file():
        raise BriefError(f"proof.network: {brief.proof.network} given, and there is no file {path}", do="name one that is there")
    if digest and (found := sha256_of(path)) != brief.proof.sha256:
        what = f"proof.sha256: {str(brief.proof.sha256)[:12]}... given, and {brief.proof.network} is {found}"
        raise BriefError(what, do="name the file that was pinned, or write its digest")


def network_of(brief: Brief, backends: Backends, *, folder: Path) -> Artifact | None:
    """In the store, so that every machine that proves has the same bytes. It was checked."""
    return None if brief.proof.network is None else backends.workspace.put(folder / brief.proof.network)
