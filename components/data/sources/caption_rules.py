"""Where captions come from, and what of them is used.

`auto`: a metadata file that has texts, else texts beside the pictures, else none. `metadata`, `sidecar`, `folders` (the name of
the folder a picture lies in) ask for one of them; a template such as "a photo of a {class}" writes them from the classes.
"""

import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from components.core.errors import DataError
from components.data.sources.names import shown

CaptionRule = str  # one of CAPTION_RULES, or a template
CAPTION_RULES: tuple[CaptionRule, ...] = ("auto", "metadata", "sidecar", "folders", "none")
ALLOWED = f'{", ".join(CAPTION_RULES)}, or a template such as "a photo of a {{class}}"'
KEY = "class"  # what a template may name
LONGEST = 4096  # characters of a caption


@dataclass(frozen=True)
class Cleaned:
    """The captions of one item that can be used, each once, in the order in which they are written; and what was passed over."""

    captions: tuple[str, ...]
    empty: int = 0
    twice: int = 0
    unusable: str = ""  # what is wrong with the first of those that are not empty and cannot be used


def check_rule(rule: CaptionRule) -> None:
    """Raises DataError for what is neither a rule nor a template that names the class alone."""
    if rule in CAPTION_RULES:
        return
    try:
        keys = [key for _, key, _, _ in string.Formatter().parse(rule) if key is not None]
        plain = all(not form and not conversion for _, key, form, conversion in string.Formatter().parse(rule) if key is not None)
    except ValueError as error:
        raise DataError(f"captions {_short(rule)}: {error}", allowed=ALLOWED, do="write {{ for a brace") from None
    if other := next((key for key in keys if key != KEY), None):
        raise DataError(f"captions {_short(rule)}: a template knows no {{{shown(other)}}}", allowed="{class}")
    if not keys or not plain or other == "":
        raise DataError(f"captions {_short(rule)}", allowed=ALLOWED)
    if unusable := _fault(rule):
        raise DataError(f"captions {_short(rule)}: {unusable}", allowed=ALLOWED)


def is_template(rule: CaptionRule) -> bool:
    """Whether a rule writes captions from classes."""
    return rule not in CAPTION_RULES


def captions_by(rule: CaptionRule, written: Sequence[str], *, folder: str | None, class_name: str) -> Cleaned:
    """What is said of an item: `written` by the files of its source, or by its folder's or its class's name.

    >>> captions_by("a photo of a {class}", (), folder=None, class_name="golden_retriever").captions
    ('a photo of a golden retriever',)
    """
    if rule == "none":
        return Cleaned(())
    if is_template(rule):
        return cleaned([rule.format(**{KEY: _spaced(class_name)})] if class_name else [])
    if rule == "folders":
        return cleaned([_spaced(PurePosixPath(folder).name)] if folder else [])
    return cleaned(written)


def cleaned(written: Sequence[str]) -> Cleaned:
    r"""Captions in Unicode's composed form, without spaces around them and with one space for any space within.

    >>> cleaned(["a\ncat ", "", "a cat", "b\0"])
    Cleaned(captions=('a cat',), empty=1, twice=1, unusable='a control character')
    """
    texts = [" ".join(unicodedata.normalize("NFC", text).split()) for text in written]
    faults = [_fault(text) for text in texts]
    usable = [text for text, fault in zip(texts, faults, strict=True) if text and not fault]
    once = tuple(dict.fromkeys(usable))
    return Cleaned(once, texts.count(""), len(usable) - len(once), next(filter(None, faults), ""))


def _fault(text: str) -> str:
    """Why a text is no caption; empty where it is one."""
    if len(text) > LONGEST:
        return f"{len(text):,} characters, and a caption has {LONGEST:,} at most"
    kinds = {unicodedata.category(each) for each in text}
    return "not UTF-8" if "Cs" in kinds else "a control character" if "Cc" in kinds else ""


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _short(given: str) -> str:
    return repr(shown(given if len(given) <= 60 else f"{given[:60]}..."))
