"""The label of one WebDataset sample: NAME.cls, else the one of NAME.x.cls, else what NAME.json says."""

import json
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from components.core.errors import DataError
from components.data.sources.label_like import labels_in
from components.data.sources.label_values import ALLOWED, GO_ON, label_of
from components.data.sources.left_alone import Tally, kind_of
from components.data.sources.names import shown
from components.data.sources.survey import LABEL_SUFFIXES

MAX_LABEL_BYTES = 256
LABEL_KEYS = ("label", "class", "cls")  # of a sample's .json
LABEL_PARTS = re.compile(r"(?:^|.*[._-])(?:cls|class|labels?|targets?)\d*(?:[._-].*|$)", re.IGNORECASE)  # of an extension
IN_JSON = re.compile(rb'"(?:label|class|cls)"\s*:(?!\s*null)')


@dataclass
class SampleLabels:
    """What lies beside the picture of a sample and may say its class. Raises DataError for labels that cannot be read."""

    where: str
    texts: dict[str, str] = field(default_factory=dict)  # the extension of a label file -> what it says
    doubtful: list[tuple[PurePosixPath, bytes]] = field(default_factory=list)  # .json, and what looks like labels

    def add(self, inside: PurePosixPath, extension: str, data: bytes | None) -> bool:
        """Take a member; False for one that is no label."""
        if data is not None and inside.suffix.lower() in LABEL_SUFFIXES:
            self.texts[extension] = self._text(data, inside)
        elif data is not None or LABEL_PARTS.fullmatch(extension):
            self.doubtful.append((inside, data or b""))
        else:
            return False
        return True

    def label(self, key: str) -> str | None:
        """The class of the sample `key`, None where nothing says it."""
        main = self._main()
        if len({self.texts[extension] for extension in main}) > 1:
            both = " and ".join(f".{shown(each)}" for each in main[:2])
            raise DataError(
                f"{self.where}: sample {shown(key)} has {len(main)} labels of equal right ({both})",
                allowed="one NAME.cls a sample",
                do=f"rename the one to learn from, or remove the others; {GO_ON}",
            )
        if main:
            return self.texts[main[0]]
        found = (self._in_json(data, inside) for inside, data in self.doubtful)
        return next((label for label in found if label is not None), None)

    def leave(self, left: Tally, label: str | None, *, suffixes: frozenset[str], beside_picture: bool) -> None:
        """Count what is not used, once the `label` of the sample is known: where there is none, what looks like labels is
        refused."""
        for extension in self.texts.keys() - self._main()[:1]:
            left[f".{shown(extension)}"[:20]] += 1
        for inside, data in self.doubtful:
            if label is not None and not self.texts and self._in_json(data, inside) == label:
                continue  # it was read
            if label is None:
                self._check(inside, data, suffixes, beside_picture)
                left.hold(inside, data)
            left[kind_of(inside)] += 1

    def _main(self) -> list[str]:
        return [extension for extension in self.texts if "." not in extension] or list(self.texts)

    def _text(self, data: bytes, inside: PurePosixPath) -> str:
        text = data.decode("utf-8", "surrogateescape").strip()
        if not text or len(data) > MAX_LABEL_BYTES:
            given = "empty" if not text else f"longer than {MAX_LABEL_BYTES} bytes"
            raise DataError(
                f"{self.where}: the label {shown(str(inside))} is {given}", do=f"write one whole number or name; {GO_ON}"
            )
        return text

    def _in_json(self, data: bytes, inside: PurePosixPath) -> str | None:
        """Of NAME.json; None for another file, or where it holds none, or a null."""
        if inside.suffix != ".json" or inside.name.count(".") != 1:
            return None
        at = f"{self.where}: {shown(str(inside))}"
        try:
            document: Any = json.loads(data)
        except (ValueError, RecursionError):
            if IN_JSON.search(data):
                raise DataError(f"{at}: a label in it cannot be read", allowed="JSON of less than 1 MiB", do=GO_ON) from None
            return None
        given = next((document[key] for key in LABEL_KEYS if key in document), None) if isinstance(document, dict) else None
        label = label_of(given)
        if label is None and given not in (None, ""):
            raise DataError(
                f"{at} has the label {shown(repr(given))[:60]}", allowed=ALLOWED, do=f"give one label a picture; {GO_ON}"
            )
        return label

    def _check(self, inside: PurePosixPath, data: bytes, suffixes: frozenset[str], beside_picture: bool) -> None:
        """Raises DataError for what looks like labels. A tar is read as a stream: those of a set may come after the pictures."""
        _, _, extension = inside.name.partition(".")
        found = labels_in(inside, data, suffixes=suffixes) or ("by its name" if LABEL_PARTS.fullmatch(extension) else "")
        if found and beside_picture:
            raise DataError(
                f"{self.where}: {shown(str(inside))}: holds labels ({found}) that cannot be read",
                allowed="NAME.cls with one whole number or name, or NAME.json with a label",
                do=f"write it so; {GO_ON}",
            )
        if found:
            raise DataError(
                f"{self.where}: the labels in {shown(str(inside))} are not read from a tar",
                do=f"unpack it, or pack it as a zip; {GO_ON}",
            )
