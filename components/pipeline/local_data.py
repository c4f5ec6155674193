"""The data of a run on this machine."""

from pathlib import Path

from components.core.errors import DataError
from components.core.records import LocalDataset
from components.pipeline.backends import Backends
from components.pipeline.run import Run


def data_of(run: Run, backends: Backends) -> LocalDataset:
    """The version of the data that a run is of, fetched where it is not here yet: its repository, relative to the current folder,
    is asked for the commit that names it. Raises DataError where no way leads to this very version."""
    from components.data.revisions import WORKSPACE
    from components.data.versions import fetch, find

    dataset, cache = run.dataset, backends.home.data
    if (found := find(dataset, cache=cache)) is not None:
        return found
    brief = run.brief.data if dataset.rev == WORKSPACE else run.brief.data.model_copy(update={"rev": dataset.rev})
    what = f"{run.brief.data.path}: version {dataset.md5[:12]} at {dataset.rev[:12]} is not on this machine"
    try:
        fetched = fetch(brief, cache=cache, mirror=backends.settings.data_mirror, base=Path.cwd())
    except DataError as error:
        where = (
            ""
            if "://" in brief.repo
            else f"; a repository of this machine is looked for from the current folder, at {brief.repo}"
        )
        raise DataError(f"{what}: {error}{where}") from error
    if fetched.md5 != dataset.md5:
        raise DataError(f"{what}, and its repository has {fetched.md5[:12]}", do="check that version out again")
    return fetched
