"""The brief of a model that is released as it is: what `genwright import` is told, and nothing that a brief could not say."""

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.core.brief import HUB, RELEASE, UNCHANGED, Brief, explain
from components.core.errors import BriefError, DataError
from components.pipeline.backends import Backends
from components.pipeline.pretrained import read_foreign


def brief_of_import(
    model: str, backends: Backends, *, name: str, data: str, use: str | None, device: str, here: Path, base: Path
) -> Brief:
    """A brief with `override: {mode: unchanged}`. Paths are given relative to `here`, and stand in it relative to `base`.

    What it is asked for by is the model's own. Raises BriefError, and what reading the model does.
    """
    named = model if model.startswith((RELEASE, HUB)) else _way(model, here, base)
    told: dict[str, Any] = {
        "name": name,
        "modality": "image",
        "conditioning": _conditioning(named, backends, base),
        "data": {"path": _way(data, here, base)},
        "pretrained": {"model": named, "in_domain": True},
        "compute": {"device": device},
        "override": {"mode": UNCHANGED},
        "use": use,
    }
    try:
        return Brief.model_validate(told)
    except ValidationError as error:
        raise BriefError(f"import: {explain(error)}") from error


def _conditioning(model: str, backends: Backends, base: Path) -> str:
    if model.startswith(RELEASE):
        from components.pipeline.pretrained import read_bundle_of

        condition = read_bundle_of(model.removeprefix(RELEASE), backends).spec.condition
        return condition.asked if condition else "none"
    found = read_foreign(model, backends, base=base, fetch=True)
    if found is None:
        raise DataError(f"{model}: is not here", do="name a folder, or hf:ORG/NAME")
    return "text" if found.text else "class" if found.classes else "none"


def _way(path: str, here: Path, base: Path) -> str:
    return Path(os.path.relpath(here / path, base)).as_posix() if not Path(path).is_absolute() else path
