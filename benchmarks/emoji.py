"""Emoji in two styles, real pictures read from the packages `emoji-datasource-STYLE` and split by code point."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

STYLES = ("twitter", "google")
SIDE, NEW, HELD = 16, 200, 50


class Pictures:
    """A core.protocols.ItemSplit in memory."""

    def __init__(self, name: str, images: Any, labels: Any) -> None:
        from components.modalities.image.spec import ImageSpec

        self.name, self.images, self.labels = name, images, labels
        self.item = ImageSpec(channels=3, height=SIDE, width=SIDE)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Any) -> Any:
        return self.images[indices]

    @property
    def md5(self) -> str:
        return hashlib.md5(self.images.tobytes()).hexdigest()

    @property
    def dataset(self) -> Any:
        return dataset_of(self)


def dataset_of(split: Any) -> Any:
    """The record of pictures in memory: of `name`, `images`, `item` and `md5`."""
    from components.core.records import LocalDataset

    images = split.images
    return LocalDataset(
        name=split.name, path="", repo=".", rev="", md5=split.md5, item=split.item, count=len(images), classes=(),
        splits={"train": len(images)}, mean=tuple(images.mean((0, 1, 2))), std=tuple(images.std((0, 1, 2))),
    )  # fmt: skip


def read_style(archive: Path, style: str, *, side: int = SIDE, skins: bool = False) -> dict[str, tuple[Any, str]]:
    """Each picture, uint8 [side, side, 3] on white, and its category, by its code points. `skins`: those of other tones, too."""
    from PIL import Image

    found = {}
    with tarfile.open(archive) as tar:
        told = json.load(tar.extractfile("package/emoji.json"))  # type: ignore[arg-type]
        tones = [(each, tone) for each in told for tone in each.get("skin_variations", {}).values() if skins]
        category = {each["image"]: each["category"] for each in told} | {tone["image"]: each["category"] for each, tone in tones}
        for member in tar:
            name = Path(member.name)
            if name.parent.as_posix() == f"package/img/{style}/64" and name.name in category:
                picture = Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGBA")  # type: ignore[union-attr]
                white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
                found[name.stem] = np.asarray(white.resize((side, side), Image.Resampling.BOX)), category[name.name]
    return found


def splits(cache: Path) -> dict[str, Pictures]:
    """The pictures of each part; a code point is of one part in both styles.

        A   1,024   the base learns them in its style, the judge in both
        B     200   to adapt to
        H      50   held out while adapting
        C     the rest, less the few that look like one of A, B or H to the last bit: to judge by

    The rules and rates of genwright were chosen when B and H were what is now the head of C. So B and H are new here, and of C
    the tail (some 390 of 630) had been judged by before, with other seeds.
    """
    found = {style: read_style(cache / f"emoji-datasource-{style}-16.0.0.tgz", style) for style in STYLES}
    both = sorted(found["twitter"].keys() & found["google"].keys(), key=lambda code: hashlib.sha256(code.encode()).digest())
    kinds = sorted({kind for _, kind in found["twitter"].values()})
    before = NEW + HELD  # the B and H that rules were chosen on
    first = 2 * (len(both) // 3) - before
    codes = {"A": both[:first], "B": both[first + before :][:NEW], "H": both[first + before :][NEW : NEW + HELD]}

    def looks(code: str) -> set[bytes]:
        return {found[style][code][0].tobytes() for style in STYLES}

    learnt = {code for some in codes.values() for code in some}
    known = set().union(*(looks(code) for code in learnt))
    codes["C"] = [code for code in both if code not in learnt and not looks(code) & known]

    def part(name: str, of: str, *styles: str) -> Pictures:
        rows = [found[style][code] for style in styles for code in codes[of]]
        return Pictures(name, np.stack([image for image, _ in rows]), np.array([kinds.index(kind) for _, kind in rows]))

    return {
        "base": part("base", "A", "twitter"),
        "other style": part("other style", "A", "google"),
        "judge": part("judge", "A", *STYLES),
        "new": part("new", "B", "google"),
        "held out": part("held out", "H", "google"),
        "of new": part("of new", "C", "google"),
        "of base": part("of base", "C", "twitter"),
    }
