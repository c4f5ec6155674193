"""What the pretrained model of a brief is, where the brief leaves it out: read from the release or the folder, else assumed.

Most models of the hub that images, sounds and videos are made with are diffusion models, so that is what a hub id is taken for.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.core.brief import HUB, RELEASE, FamilyName, PretrainedBrief
from components.core.errors import BriefError, DataError, NotBuilt, UnknownModel
from components.core.records import Foreign, Pretrained, Reason

# NAME@ALIAS or NAME/VERSION -> NAME/VERSION, family, variant, and how it draws: its steps and solver, where they are known
ReadRelease = Callable[[str], tuple[str, FamilyName, str, dict[str, Any]]]
ReadForeign = Callable[[str], Foreign | None]  # hf:ORG/NAME or a folder -> what it holds; None: it is not here
ALLOWED = "models:/NAME@ALIAS, hf:ORG/NAME, or a diffusers folder"
SOURCE = "DESIGN, The brief: pretrained"
ASSUMED: FamilyName = "diffusion"  # where nothing says the family
# What the names of diffusers' classes hold, in the order in which they are asked.
DRAWN_BY = ("steps", "solver")
CLASSES: dict[str, FamilyName] = {
    "AutoencoderKL": "vae", "VQModel": "vae", "AutoencoderTiny": "autoencoder", "AutoencoderDC": "autoencoder",
    "Diffusion": "diffusion", "DDPM": "diffusion", "DDIM": "diffusion", "DiT": "diffusion", "Flux": "diffusion",
    "Pix2Pix": "diffusion", "UNet": "diffusion", "Transformer2DModel": "diffusion", "Consistency": "diffusion",
    "LDM": "diffusion", "Kandinsky": "diffusion", "PixArt": "diffusion", "Karras": "diffusion", "ScoreSdeVe": "diffusion",
}  # fmt: skip


def pretrained(
    given: PretrainedBrief, *, base: Path, read_release: ReadRelease | None = None, read_foreign: ReadForeign | None = None
) -> Pretrained:
    """The pretrained model with its family and domain. `base`: what a folder is relative to; `read_release` raises UnknownModel
    for a release that is not here, which a brief that says its family can be planned without; `read_foreign` raises NotBuilt for
    what nothing here begins with, and DataError for what is damaged.

    Raises DataError for a folder whose family would have to be read, and cannot be, and BriefError for a family that is another.
    """
    notes: list[str] = []
    family, release, variant, drawn_by = given.family, None, None, dict[str, Any]()
    if given.model.startswith(RELEASE) and read_release is not None:
        try:
            release, family, variant, drawn_by = read_release(given.model.removeprefix(RELEASE))
        except UnknownModel:
            if given.family is None:
                raise
        else:
            if given.family not in (None, family):
                raise BriefError(
                    f"pretrained.family: {given.family} given, and {given.model} is a {family} model", allowed=family
                )
            notes.append(f"{given.model} is {release}, a {family}/{variant} model, as its release says")
    foreign, unfit = None, ""
    if not given.model.startswith(RELEASE) and read_foreign is not None:
        try:
            foreign = read_foreign(given.model)
        except NotBuilt as error:
            unfit = str(error)
    if foreign is not None:
        if family not in (None, foreign.family):
            raise BriefError(
                f"pretrained.family: {family} given, and {given.model} is a {foreign.family} model", allowed=foreign.family
            )
        family, variant, drawn_by = foreign.family, foreign.variant, foreign.config
        notes.append(_said(given.model, foreign))
    if family is None:
        family, how = _family(given.model, base)
        notes.append(how)
    if given.in_domain is None:
        notes.append("whether it knows data like this is not stated: a general model is assumed (pretrained.in_domain)")
    drawn_by = {name: drawn_by[name] for name in DRAWN_BY if name in drawn_by}
    own = {"drawn_by": drawn_by, "release": release, "variant": variant, "foreign": foreign, "unfit": unfit}
    return Pretrained(model=given.model, family=family, in_domain=bool(given.in_domain), notes=tuple(notes), **own)


def reasons(facts_pretrained: Pretrained | None) -> tuple[Reason, ...]:
    """What was read or assumed of the pretrained model, for the decision to say."""
    notes = facts_pretrained.notes if facts_pretrained else ()
    return tuple(Reason(rule=f"pretrained.note-{at}", text=note, source=SOURCE) for at, note in enumerate(notes))


def _said(model: str, foreign: Foreign) -> str:
    """What was read of a model made elsewhere."""
    licence = foreign.licence
    terms = f"licence {licence.name} by its {licence.said_by}" if licence.name else "no licence in it"
    terms += f", against {licence.against}" if licence.against else ""
    terms += f"; {foreign.revision_text}" if foreign.unverified else ""
    asked = f", {foreign.classes} classes" if foreign.classes else ""
    what = f"a {foreign.made_as} of {foreign.item.text}{asked}, here {foreign.family}/{foreign.variant}; {terms}"
    given = Path(model).name if Path(model).is_absolute() else model  # a record names no place on this machine
    return f"{given} is {foreign.name}: {what}"


def _family(model: str, base: Path) -> tuple[FamilyName, str]:
    for scheme, what in ((HUB, "hub id"), (RELEASE, "release")):
        if model.startswith(scheme):
            return ASSUMED, f"{model} is a {what} of no stated family: {ASSUMED} is assumed (pretrained.family)"
    name = _class_name(model, base / model)
    for part, family in CLASSES.items():
        if part in name:
            return family, f"{model} is a {family} model, as its class {name} says"
    return ASSUMED, f"{model} has the class {name or 'none'}, which says no family: {ASSUMED} is assumed (pretrained.family)"


def _class_name(model: str, folder: Path) -> str:
    """What `_class_name` says in the model_index.json of a pipeline or the config.json of a network."""
    if not folder.is_dir():
        raise DataError(f"pretrained.model: {model} given, and there is no folder {folder}", allowed=ALLOWED)
    for name in ("model_index.json", "config.json"):
        try:
            document = json.loads((folder / name).read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"pretrained.model: {folder / name} cannot be read: {error}", do="write pretrained.family") from error
        named = document.get("_class_name", "") if isinstance(document, dict) else ""
        return str(named[-1] if isinstance(named, list) and named else named)
    raise DataError(
        f"pretrained.model: {folder} holds neither model_index.json nor config.json",
        allowed=ALLOWED,
        do="write pretrained.family",
    )
