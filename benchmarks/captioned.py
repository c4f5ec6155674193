"""Emoji in two styles with their captions, real pictures and texts: what `genwright data prepare` reads.

    (cd CACHE && npm pack emoji-datasource-twitter@16.0.0 emoji-datasource-google@16.0.0 emojibase-data@17.0.0)   # 140 MB

The pictures are CC-BY 4.0 (Twemoji) and SIL OFL (Noto), the texts MIT; none is kept here.
"""

import json
import tarfile
from pathlib import Path

from benchmarks.emoji import STYLES, read_style


def read_captions(archive: Path) -> dict[str, tuple[str, ...]]:
    """What `emojibase-data` says of each emoji, by its code points: its name, its tags, and both."""
    with tarfile.open(archive) as tar:
        told = json.load(tar.extractfile("package/en/compact.json"))  # type: ignore[arg-type]
    found = {}
    for emoji in told:
        for each in (emoji, *emoji.get("skins", ())):
            name, tags = each["label"], [str(tag) for tag in emoji.get("tags", ())]
            said = (name, ", ".join(tags[:4]), ", ".join([name, *tags[:3]])) if tags else (name,)
            found[bare(each["hexcode"])] = tuple(dict.fromkeys(said))
    return found


def bare(code: str) -> str:
    """Code points without the mark that asks for a picture, which some lists write and others do not."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def lay_captioned(cache: Path, folder: Path, *, styles: tuple[str, ...] = STYLES) -> int:
    """Write the pictures of these styles and their captions in a metadata.jsonl; returns their number."""
    from PIL import Image

    said, rows = read_captions(cache / "emojibase-data-17.0.0.tgz"), []
    folder.mkdir(parents=True, exist_ok=True)
    for style in styles:
        pictures = read_style(cache / f"emoji-datasource-{style}-16.0.0.tgz", style)
        for code, (pixels, _) in sorted(pictures.items()):
            if captions := said.get(bare(code)):
                name = f"{style}-{code}.png"
                Image.fromarray(pixels).save(folder / name)
                rows.append({"file_name": name, "captions": captions})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return len(rows)
