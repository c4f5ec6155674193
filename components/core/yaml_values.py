"""What an unquoted word of YAML means: a number, true, false, null or text; refused where YAML 1.1 and 1.2 take it differently.

YAML 1.1, which PyYAML reads, takes `010` for 8, `1:30` for 90, `0x1F` for 31, `1_000` for 1000, `no` for false and `1e3` for
text; YAML 1.2 (2009, section 10.3, the core schema) takes them otherwise. Numbers here are decimal, `1e3` among them.
"""

import json
import re

Plain = dict[str, "Plain"] | list["Plain"] | str | int | float | bool | None
Place = tuple[str | int, ...]

NUMBER_MAX = 40  # characters
WORDS = {"null": None, "Null": None, "NULL": None, "~": None, "": None, "true": True, "True": True, "TRUE": True}
WORDS |= {"false": False, "False": False, "FALSE": False}
WORDS_1_1 = re.compile(r"yes|no|on|off", re.IGNORECASE)
WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(?:inf|nan)", re.IGNORECASE)
BASED = re.compile(r"[-+]?0(?:x[0-9a-f_]*[0-9a-f][0-9a-f_]*|o[0-7_]*[0-7][0-7_]*|b[01_]*[01][01_]*)", re.IGNORECASE)
ZEROS = re.compile(r"[-+]?0[0-9_]+(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?")
GROUPED = re.compile(r"[-+]?[1-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|[-+]?0?\.[0-9][0-9_]*")  # asked after DECIMAL
SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-9]{1,2})+(?:\.[0-9_]*)?")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")  # a path, an address or a name holds none
PAIR = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")


class NotPlain(ValueError):
    """What cannot be read, in one line."""


def value_of(word: str, place: Place) -> Plain:
    """The value of an unquoted word; `place` is its field. Raises NotPlain where it is not what it looks like."""
    if word in WORDS:
        return WORDS[word]
    if WORDS_1_1.fullmatch(word):
        raise NotPlain(f"{named(place)}: {word} given; write true or false, or {json.dumps(word)} for the word")
    if NOT_FINITE.fullmatch(word):
        raise NotPlain(f"{named(place)}: Input should be a finite number (given: {word})")
    if DECIMAL.fullmatch(word):
        return _number(word, place)
    how = _how_to_write(word)
    if how:
        raise NotPlain(f"{named(place)}: {shown(word)} given; {how}, or {json.dumps(word[:NUMBER_MAX])} for text")
    return text_of(word, place)


def text_of(word: str, place: Place) -> str:
    """Text, as it is. Raises NotPlain for one with characters that no field takes."""
    if PAIR.search(word):  # two escapes for one character, as JSON has them
        word = PAIR.sub(lambda pair: pair.group().encode("utf-16", "surrogatepass").decode("utf-16"), word)
    found = CONTROL.search(word)
    if found:
        raise NotPlain(f"{named(place)}: the character {found.group()!a} in {shown(word)}; leave it out")
    return word


def _number(word: str, place: Place) -> int | float:
    if len(word) > NUMBER_MAX:
        raise NotPlain(f"{named(place)}: a number of {len(word)} characters given; allowed: {NUMBER_MAX}")
    number = int(word) if WHOLE.fullmatch(word) else float(word)
    if abs(number) == float("inf"):
        raise NotPlain(f"{named(place)}: Input should be a finite number (given: {word}); write {json.dumps(word)} for text")
    return number


def _how_to_write(word: str) -> str | None:
    """How YAML 1.1 reads a number that is not decimal, and how to write it; None for a word that is no number."""
    plain = word[:NUMBER_MAX].replace("_", "")
    digits = plain.lstrip("+-")
    sign = "-" if plain.startswith("-") else ""
    if BASED.fullmatch(word):
        base = {"x": 16, "o": 8, "b": 2}[digits[1].lower()]
        return f"YAML reads it in base {base}; write {sign}{int(digits, 0)}"
    if SIXTIES.fullmatch(word):
        return f"YAML reads it in base 60; write {_of_sixties(sign, plain)}"
    if ZEROS.fullmatch(word):
        whole = digits.lstrip("0")
        decimal = f"{sign}{whole if whole[:1].isdecimal() else f'0{whole}'}"
        if digits.isdecimal() and not set(digits) & set("89") and len(whole) > 1:
            octal = f"{sign}{int(digits, 8)}"
            return f"YAML reads it as octal, {octal}; write {octal} or {decimal}"
        return f"a number begins with no zeros; write {decimal}"
    return f"write {sign}{digits}" if GROUPED.fullmatch(word) else None


def _of_sixties(sign: str, plain: str) -> str:
    """1:30 is 90, or 1.5 of what its first number counts."""
    total, parts = 0.0, plain.rstrip(":").lstrip("+-").split(":")
    for part in parts:
        total = total * 60 + float(part)
    return f"{sign}{total:.10g} or {sign}{total / 60 ** (len(parts) - 1):.10g}"


def named(place: Place) -> str:
    """A field as people write it: compute.minutes, require.0."""
    return shown(".".join(map(str, place)) or "the document")


def shown(word: str) -> str:
    """What was given, cut where it is long, and escaped where it cannot be printed."""
    short = word if len(word) <= NUMBER_MAX * 2 else f"{word[: NUMBER_MAX * 2]}..."
    return short if short.isprintable() else ascii(short)
