"""YAML that means what it looks like: a text becomes mappings, lists, text, numbers, true, false and null, or is refused.

Refused are, besides words that are not what they look like (yaml_values.py): keys that are lists, keys given twice, tags, aliases
that hold themselves or multiply, brackets without end, and a second document.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from components.core.yaml_values import NotPlain, Place, Plain, named, shown, text_of, value_of

DEPTH_MAX = 20
VALUES_MAX = 10_000  # an alias counts with all that it stands for
KEY_MAX = 100  # characters
ODD_MAX = 3  # words that are refused in one line
QUOTES = "put text with * & ! % @ ` { [ : or a tab in quotes"


@dataclass
class _Reading:
    """The events that are left, what anchors stand for, how many values were made, and the words that are refused."""

    events: Iterator[yaml.Event]
    anchors: dict[str, Plain] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    values: int = 0
    odd: list[str] = field(default_factory=list)

    def value(self, event: yaml.Event, place: Place) -> Plain:
        """The value that begins with `event`. Raises NotPlain."""
        self._count(1, place)
        self._check_depth(len(place), event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place)
        assert isinstance(event, yaml.NodeEvent)
        tag, anchor = getattr(event, "tag", None), event.anchor
        if tag not in (None, "!"):
            raise NotPlain(f"{_line(event)}: the tag {shown(tag)}; a brief has none: leave it out")
        if anchor:
            self.open.add(anchor)
        made = self._made(event, place)
        if anchor:
            self.open.discard(anchor)
            self.anchors[anchor] = made
        return made

    def _made(self, event: yaml.NodeEvent, place: Place) -> Plain:
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(place)
        if isinstance(event, yaml.SequenceStartEvent):
            made: list[Plain] = []
            while not isinstance(first := self._next(), yaml.SequenceEndEvent):
                made.append(self.value(first, (*place, len(made))))
            return made
        assert isinstance(event, yaml.ScalarEvent)
        try:
            return (value_of if event.style is None and event.implicit[0] else text_of)(event.value, place)
        except NotPlain as error:
            self.odd.append(str(error))
            return None

    def _next(self) -> yaml.Event:
        return next(self.events)

    def _mapping(self, place: Place) -> dict[str, Plain]:
        own: dict[str, Plain] = {}
        merged: dict[str, Plain] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event)
            if key in own or (key == "<<" and merged):
                raise NotPlain(f"not YAML {_line(event)}: {shown(key)} is given twice")
            value = self.value(self._next(), (*place, key))
            if key == "<<":
                merged = _merged(value, event)
            else:
                own[key] = value
        return merged | own

    def _key(self, event: yaml.Event) -> str:
        """A key as it is written, without what YAML makes of it: `on` and `1` are words here."""
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > KEY_MAX:
            raise NotPlain(f"{_line(event)}: a key of {len(event.value):,} characters; allowed: {KEY_MAX}")
        if isinstance(event, yaml.ScalarEvent) and not event.anchor and event.tag in (None, "!"):
            return text_of(event.value, ())
        kinds = {yaml.SequenceStartEvent: "a list", yaml.MappingStartEvent: "a mapping", yaml.AliasEvent: "an alias"}
        given = kinds.get(type(event), "a word with a tag or an anchor")
        raise NotPlain(f"{_line(event)}: a key must be one word, {given} given; write KEY: VALUE")

    def _alias(self, event: yaml.AliasEvent, place: Place) -> Plain:
        if event.anchor in self.open:
            raise NotPlain(f"{_line(event)}: *{shown(str(event.anchor))} holds itself; write the value out")
        if event.anchor not in self.anchors:
            raise NotPlain(
                f"{_line(event)}: *{shown(str(event.anchor))} stands for nothing; write the value, or put it in quotes"
            )
        value = self.anchors[event.anchor]
        size, depth = _size(value)
        self._count(size, place)
        self._check_depth(len(place) + depth, event)
        return value

    def _check_depth(self, depth: int, event: yaml.Event) -> None:
        if depth > DEPTH_MAX:
            raise NotPlain(f"{_line(event)}: more than {DEPTH_MAX} levels of lists and mappings")

    def _count(self, more: int, place: Place) -> None:
        self.values += more
        if self.values > VALUES_MAX:
            raise NotPlain(f"{named(place)}: more than {VALUES_MAX:,} values in all; write fewer, and no aliases of aliases")


def read_plain(text: str) -> Plain:
    """The one document in `text`; null where it is empty.

    Raises NotPlain with one line: the field or line, and what is wrong; of words that are not what they look like, the first few.

    >>> read_plain("compute: {minutes: 5}")
    {'compute': {'minutes': 5}}
    """
    try:
        events = yaml.parse(text, Loader=yaml.SafeLoader)  # in Python: it has no recursion, and its lines are good
        reading = _Reading(events)
        found: list[Plain] = []
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if found:
                    raise NotPlain(f"{_line(event)}: a second document; one brief a file")
                found.append(reading.value(next(events), ()))
    except yaml.reader.ReaderError as error:
        raise NotPlain(f"not YAML: the character #x{error.character:04x} at {error.position}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        hint = f"; {QUOTES}" if isinstance(error, yaml.scanner.ScannerError) else ""
        at = f" at line {mark.line + 1}" if mark else ""
        raise NotPlain(f"not YAML{at}: {getattr(error, 'problem', error)}{hint}") from error
    if reading.odd:
        raise NotPlain("; also ".join(reading.odd[:ODD_MAX]))
    return found[0] if found else None


def load_yaml(text: str) -> Any:
    """YAML that tools write, or teams for us, by the fast loader where it is there. Raises NotPlain.

    That loader is recursive in C: thousands of brackets would end the process, so the levels are counted first.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    level = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if level > DEPTH_MAX:
                raise NotPlain(f"{_line(event)}: more than {DEPTH_MAX} levels of lists and mappings")
        return yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader either way
    except NotPlain:
        raise
    except yaml.YAMLError as error:
        raise NotPlain(f"not YAML: {getattr(error, 'problem', error)}") from error
    except (ValueError, TypeError, OverflowError) as error:  # dates and numbers that are none
        raise NotPlain(f"not YAML: {error}") from error


def _merged(value: Plain, event: yaml.Event) -> dict[str, Plain]:
    """What `<<` lays under a mapping: the first of several outranks the next."""
    parts = value if isinstance(value, list) else [value]
    merged: dict[str, Plain] = {}
    for part in reversed(parts):
        if not isinstance(part, dict):
            raise NotPlain(f"{_line(event)}: << takes a mapping; write the keys out")
        merged |= part
    return merged


def _size(value: Plain) -> tuple[int, int]:
    """How many values there are in one, itself included, and on how many levels below it."""
    inner = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    sizes = [_size(each) for each in inner]
    return 1 + sum(size for size, _ in sizes), 1 + max((depth for _, depth in sizes), default=-1)


def _line(event: yaml.Event) -> str:
    return f"at line {event.start_mark.line + 1}" if event.start_mark else "the document"
