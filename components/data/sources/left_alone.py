"""Files of a source that are no items: counted by suffix or by rule, so that none is passed over in silence."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from components.data.sources.names import is_hidden, shown


class Tally(Counter[str]):
    """A suffix or a rule -> files; and of files that may say something of the pictures, the first bytes."""

    def __init__(self, given: Mapping[str, int] | Iterable[str] = ()) -> None:
        super().__init__(given)
        self.texts: dict[PurePosixPath, bytes] = {}
        self.held = 0
        self.beside = 0  # texts beside pictures, which may be captions: not counted yet

    def hold(self, inside: PurePosixPath, head: bytes) -> None:
        """Keep the first bytes of a file until all pictures are known, of what is no text fewer; of many large ones the first."""
        if b"\0" in head[:4096] and head[:2] not in UNLIKE_TEXT:
            head = head[: SMALL - 1] + b"\0"
        if len(head) <= SMALL or self.held + len(head) <= HELD:
            self.texts[inside] = head
            self.held += len(head)


UNLIKE_TEXT = (b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff")  # gz and UTF-16 hold text all the same
SMALL, HELD = 512, 64 << 20  # bytes: of a file that is always held; of all together
SIDECAR = ".txt"  # of a text beside a picture
HIDDEN = "hidden files"
LINKS = "links inside the archive"
FOLDER_LINKS = "links to folders that are read already"
BROKEN_LINKS = "broken links"
NO_SUFFIX = "no suffix"
LABEL_SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".xml", ".parquet", ".mat", ".arrow"})
OTHER_PICTURES = (
    ".heic .heif .avif .jxl .jp2 .j2k .svg .psd .tga .ico .exr .hdr .dcm .dng .cr2 .nef .arw .raw .pdf .eps .wmf .emf .pcx .xcf "
    ".dds .npy .nii .mp4 .mov .webm"
)
REMEDIES = dict.fromkeys(OTHER_PICTURES.split(), "convert to PNG or JPEG first") | {
    NO_SUFFIX: "give pictures their suffix",
    LINKS: "pack with --dereference --hard-dereference",
    "pages or frames after the first": "write each as a picture of its own to use them",
}


def kind_of(path: PurePosixPath) -> str:
    """Under what a file that is no picture is counted: its suffix in small letters."""
    if is_hidden(path):
        return HIDDEN
    return shown(path.suffix.lower())[:20] or NO_SUFFIX


def words(left: dict[str, int], *, most: int = 8) -> str:
    """For a person: the largest first, each with what to do about it."""
    order = sorted(left, key=lambda kind: (-left[kind], kind))
    parts = [f"{left[kind]:,} {kind}" + (f": {REMEDIES[kind]}" if kind in REMEDIES else "") for kind in order[:most]]
    rest = order[most:]
    return "; ".join([*parts, *([f"{sum(left[kind] for kind in rest):,} of {len(rest)} other kinds"] if rest else [])])
