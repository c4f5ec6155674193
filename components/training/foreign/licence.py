"""What a model may be used for, by its card: the YAML at the top of README.md, and the text of a LICENSE file.

No lawyer wrote this. It tells four kinds apart: a licence that is known to be free, one that forbids commercial use, one that
limits some uses (the RAIL licences and those of companies), and all others, which are said to be unknown.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from components.core.errors import BriefError
from components.core.records import Foreign, Licence
from components.core.records.foreign import Terms

CARD = "README.md"
FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "COPYING")
READ_MAX = 200_000  # characters
FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
# By the ids that the hub's cards have, in lower case; the first that matches.
NONCOMMERCIAL = re.compile(r"cc-by-nc|non-?commercial|research|^apple-a[ms]|^deepfloyd")
USE_BASED = re.compile(r"rail|^llama|^gemma|^deepseek|^tongyi|^intel-|^h-|acceptable-use|community")
FREE = re.compile(
    r"^(apache|mit|bsd|cc0|cc-by(-sa)?-\d|cc$|gpl|lgpl|agpl|mpl|unlicense|isc|wtfpl|zlib|afl|artistic|ecl|epl|osl|ms-pl|ncsa|pddl"
    r"|odbl|odc-by|cdla-permissive|postgresql|bsl|public-domain)"
)
# A line of a licence's text that a card with a freer licence contradicts. The GPL's own "noncommercial distribution" is none.
FORBIDDING = re.compile(
    r"\bcc[ -]by[ -]nc\b|attribution-non-?commercial|non-?commercial\W+(use|purpose|research|licen[cs]e|only)|research[ -]only"
    r"|research (use|purposes?) only|academic (use|purposes?|research) only|not\b.{0,40}\bfor (any )?commercial",
    re.IGNORECASE,
)
# Of the text of a licence.
WORDS: tuple[tuple[Terms, str], ...] = (
    ("noncommercial", r"non-?commercial|research purposes only|academic use only"),
    ("use-based", r"use-based restrictions"),
    (
        "free",
        r"apache license|mit license|permission is hereby granted, free of charge|redistribution and use in source and binary",
    ),
)


def read_licence(folder: Path) -> tuple[Licence, tuple[str, ...]]:
    """The licence of a model, and the tags of its card."""
    card = _front_matter(folder / CARD)
    tags = card.get("tags")
    shown = tuple(str(tag) for tag in tags[:50]) if isinstance(tags, list) else ()
    own = _of_files(folder)
    named = [name for key in ("license", "license_name") for name in _names(card.get(key))]
    if named:
        name = ", ".join(each for each in named if each != "other") or "other"
        terms = terms_of(" ".join(named))
        against = next((_forbidding(*each) for each in own.items() if terms != "noncommercial" and _forbidding(*each)), "")
        return Licence(name=name, terms="noncommercial" if against else terms, said_by=CARD, against=against), shown
    for file, text in own.items():
        found = next((terms for terms, words in WORDS if re.search(words, text, re.IGNORECASE)), "unknown")
        first = " ".join(next((line for line in text.splitlines() if line.strip()), file).split())
        return Licence(name=first[:80], terms=found, said_by=file), shown
    return Licence(name="", terms="unknown"), shown


def _of_files(folder: Path) -> dict[str, str]:
    """The texts of its licence files."""
    return {file: text for file in FILES if (text := _text(folder / file))}


def _forbidding(file: str, text: str) -> str:
    """The line of a text that forbids commercial use, and whose it is; empty where none does."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    line = next((line for line in lines if FORBIDDING.search(line)), "")
    return f"{line[:80]!r} in its {file}" if line else ""


def terms_of(name: str) -> Terms:
    """The kind of a licence by the name that a card has for it; of several names the strictest.

    >>> terms_of("mit cc-by-nc-sa-4.0"), terms_of("apache-2.0"), terms_of("creativeml-openrail-m"), terms_of("my-own")
    ('noncommercial', 'free', 'use-based', 'unknown')
    """
    kinds: tuple[tuple[Terms, re.Pattern[str]], ...] = (
        ("noncommercial", NONCOMMERCIAL), ("use-based", USE_BASED), ("free", FREE),
    )  # fmt: skip
    words = name.lower().split()
    return next((terms for terms, pattern in kinds if any(map(pattern.search, words))), "unknown")


def _names(said: object) -> list[str]:
    """Those of a field of a card, which may be a list."""
    each = said if isinstance(said, list) else [said]
    return [name for name in each[:20] if isinstance(name, str)]


def check_use(foreign: Foreign, use: str | None, *, where: str) -> None:
    """Raises BriefError for a licence that forbids what the brief's `use` declares."""
    licence = foreign.licence
    if use == "commercial" and licence.terms == "noncommercial":
        what = f"has {licence.against} against it, which forbids commercial use" if licence.against else "forbids commercial use"
        raise BriefError(
            f"{where}: its licence {licence.name} ({licence.said_by}) {what}, and use: commercial is given",
            allowed="use: research, or a base whose licence permits it",
        )


def _front_matter(path: Path) -> dict[str, Any]:
    found = FRONT.match(_text(path))
    if found is None:
        return {}
    try:
        document = yaml.safe_load(found[1])
    except (yaml.YAMLError, RecursionError):
        return {}  # then its licence is unknown, which is said
    return document if isinstance(document, dict) else {}


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(READ_MAX)
    except OSError:
        return ""
