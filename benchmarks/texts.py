"""Emoji with captions as splits in memory, parted by code point, and what MiniLM makes of the captions: the data of text.py.

Pictures of 32 x 32 on white in two styles (benchmarks/captioned.py), without the variants of skin. A code point is of one part in
both styles:

    four in five    learnt by the generators, and by the judge
    one in five     judged by, each in one of the styles by turns, less those that look like a learnt one to the last bit, or
                    are called as one

Rules are chosen before that on the learnt ones alone, which `aside` parts in the same way once more.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.captioned import bare, read_captions
from benchmarks.emoji import STYLES, dataset_of, read_style

SIDE, LENGTH, PARTS = 32, 24, 5
TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")


@dataclass(eq=False)
class Captioned:
    """A core.protocols.CaptionedSplit in memory. `codes`: the code points of each item."""

    name: str
    images: Any  # uint8 [N, SIDE, SIDE, 3]
    labels: Any  # of the category
    captions: tuple[tuple[str, ...], ...]
    codes: tuple[str, ...]
    embeddings: Any = None  # components.data.embeddings.Embeddings
    train: bool = False

    def __len__(self) -> int:
        return len(self.images)

    @property
    def item(self) -> Any:
        from components.modalities.image.spec import ImageSpec

        return ImageSpec(channels=3, height=SIDE, width=SIDE)

    def take(self, indices: Any) -> Any:
        return self.images[indices]

    def take_condition(self, indices: Any, *, epoch: int = 0) -> Any:
        from components.data.embeddings import caption_in

        said = [caption_in(self.captions[at], item=int(at), epoch=epoch, train=self.train) for at in indices]
        return self.embeddings.of(said)

    @cached_property
    def md5(self) -> str:
        return hashlib.md5(self.images.tobytes() + repr(self.captions).encode()).hexdigest()

    @property
    def dataset(self) -> Any:
        return dataset_of(self)


def parts(cache: Path, *, aside: bool = False) -> dict[str, Captioned]:
    """What is learnt and what is judged by; `aside`: of what is learnt alone."""
    said = read_captions(cache / "emojibase-data-17.0.0.tgz")
    found = {style: read_style(cache / f"emoji-datasource-{style}-16.0.0.tgz", style, side=SIDE, skins=True) for style in STYLES}
    known = {code for code in found[STYLES[0]].keys() & found[STYLES[1]].keys() if bare(code) in said}
    plain = sorted((code for code in known if not tone(code)), key=lambda code: hashlib.sha256(code.encode()).digest())
    kinds = sorted({kind for _, kind in found[STYLES[0]].values()})
    part = {code: place * PARTS // len(plain) for place, code in enumerate(plain)}
    last = PARTS - 1 - aside
    learnt = [code for code in plain if part[code] < last]
    toned = {bare(code) for code in learnt}

    def looks(code: str) -> set[bytes]:
        return {found[style][code][0].tobytes() for style in STYLES}

    every = learnt + sorted(code for code in known if tone(code) and untoned(code) in toned)
    seen = set().union(*(looks(code) for code in every))
    named = {said[bare(code)][0] for code in every}
    judged = [code for code in plain if part[code] == last and not looks(code) & seen and said[bare(code)][0] not in named]

    def split(name: str, items: list[tuple[str, str]], *, train: bool = False) -> Captioned:
        rows = [(*found[style][code], said[bare(code)], code) for style, code in items]
        images, of, captions, own = zip(*rows, strict=True)
        return Captioned(name, np.stack(images), np.array([*map(kinds.index, of)]), captions, own, train=train)

    def both(codes: list[str]) -> list[tuple[str, str]]:
        return [(style, code) for style in STYLES for code in codes]

    return {
        "learnt": split("learnt", both(learnt), train=True),
        "of the judge": split("of the judge", both(every), train=True),
        "judged": split("judged", [(STYLES[place % 2], code) for place, code in enumerate(judged)]),
        "of both styles": split("of both styles", both(judged)),
    }


def tone(code: str) -> bool:
    return any(part in TONES for part in code.split("-"))


def untoned(code: str) -> str:
    """The code points without tones, nor the mark that asks for a picture.

    >>> untoned("270b-1f3fc")
    '270b'
    """
    return "-".join(part for part in bare(code).split("-") if part not in TONES)


Once = Callable[[str, Path, Callable[[], Any]], Any]  # name, folder, what makes it -> that


def minilm(cache: Path, once: Once) -> tuple[Path, Any]:
    """MiniLM as an encoder makes it, once in CACHE; its folder and record."""
    from components.core.brief import TextBrief
    from components.core.records import Licence
    from components.encoders.make import make_encoder
    from components.encoders.minilm import MINILM, minilm_folder
    from components.encoders.source import Source

    source = Source.of(minilm_folder(), name=MINILM, licence=Licence(name="apache-2.0", terms="free"))
    record = source.record(TextBrief(length=LENGTH), precision="int8")
    folder = cache / f"encoder-{record.sha256[:12]}-{LENGTH}"
    return once("the text encoder", folder, lambda: make_encoder(source, record, folder)), record


def embedded(encoder: Path, cache: Path, found: dict[str, Captioned], once: Once) -> None:
    """What an encoder makes of all captions, once in CACHE, for each split."""
    from components.core.files import sha256_of
    from components.data.embeddings import Embeddings, embed
    from components.runtime.prompts import Prompts

    captions = sorted({caption for split in found.values() for said in split.captions for caption in said})
    made_of = sha256_of(encoder / "text_encoder.onnx") + sha256_of(encoder / "tokenizer.json") + repr(captions)
    folder = cache / f"captions-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    once(
        "the embeddings of captions", folder, lambda: None if folder.exists() else embed(captions, Prompts.open(encoder), folder)
    )
    for split in found.values():
        split.embeddings = Embeddings.open(folder)
