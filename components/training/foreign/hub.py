"""Where the folder of a model made elsewhere is on this machine: as it is named, in a mirror of the hub, or fetched from the hub.

`hf:ORG/NAME@REVISION` names a commit, a tag or a branch; a branch, by default the main one, is resolved to its commit, which
is what is recorded. huggingface_hub fetches, so its variables are those of its own documentation: HF_ENDPOINT, HF_TOKEN, HF_HOME,
HF_HUB_OFFLINE. For places without a hub there are mirrors (mirror.py).
"""

import re
from collections.abc import Sequence
from pathlib import Path

from components.core.brief import HUB
from components.core.errors import DataError
from components.training.foreign.mirror import place_in_mirror
from components.training.foreign.place import SMALL, WEIGHTS, Place

ALLOWED = "models:/NAME@ALIAS, hf:ORG/NAME, or a diffusers folder"
OTHER = "hf:ORG/NAME, or a folder"
ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def place_of(
    model: str,
    *,
    base: Path,
    mirror: str | None,
    weights: bool,
    fetch: bool,
    key: str = "pretrained.model",
    patterns: Sequence[str] = (),
) -> Place | None:
    """The folder of a model, with its weights where they are asked for. None for one of the hub that is not here, where nothing
    may be fetched. `key`: what names it in a brief; `patterns`: the files to fetch, where it is no pipeline.

    Raises DataError for a name that is none, and for what is neither here nor to be had.
    """
    if not model.startswith(HUB):
        folder = base / model
        if not folder.is_dir():
            raise DataError(f"{key}: {model} given, and there is no folder {folder}", allowed=ALLOWED if not patterns else OTHER)
        return Place(folder, None)
    name, revision = id_of(model, key=key)
    wanted = [*patterns] or SMALL + (WEIGHTS if weights else [])
    if mirror:
        return place_in_mirror(f"{key}: {model}", name, revision, mirror=Path(mirror), patterns=[*patterns] or SMALL + WEIGHTS)
    return _snapshot(f"{key}: {model}", name, revision, patterns=wanted, fetch=fetch)


def id_of(model: str, *, key: str = "pretrained.model") -> tuple[str, str | None]:
    """ORG/NAME and the revision of a hub id. Raises DataError for what is none.

    >>> id_of("hf:google/ddpm-cifar10-32@main")
    ('google/ddpm-cifar10-32', 'main')
    """
    found = ID.fullmatch(model.removeprefix(HUB))
    if found is None or ".." in model:
        raise DataError(f"{key}: {model} is no hub id", allowed="hf:ORG/NAME or hf:ORG/NAME@REVISION")
    return found[1], found[2]


def _snapshot(where: str, name: str, revision: str | None, *, patterns: list[str], fetch: bool) -> Place | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=not fetch))
    except GatedRepoError as error:
        raise DataError(
            f"{where}: its hub asks for a token that may read it", do="accept its terms there, and set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise DataError(f"{where}: its hub knows no such model, or hides it", do="mend the name, or set HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise DataError(f"{where}: no revision {revision} of it", allowed="a commit, a tag or a branch") from error
    except LocalEntryNotFoundError as error:  # what the client says where it cannot reach its hub
        if not fetch:
            return None
        raise DataError(
            f"{where}: the hub cannot be reached, and it was not fetched before: {_first_line(error.__cause__ or error)}",
            do="name another one in HF_ENDPOINT, or a folder laid out as ORG/NAME in GENWRIGHT_HUB_MIRROR",
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise DataError(
            f"{where}: cannot be fetched: {_first_line(error)}", do="run it again, or set GENWRIGHT_HUB_MIRROR"
        ) from error
    return Place(folder, folder.name)


def _first_line(error: BaseException) -> str:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return said[:200]
