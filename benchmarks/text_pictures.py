"""The picture of prompts and what came of them: a line a caption, a column a way."""

from pathlib import Path
from typing import Any

TIMES, GAP, TEXT_WIDTH, HEAD, SIZE = 2, 8, 250, 56, 13  # pixels, but for the first: how much larger each is shown


def write_picture(told: dict[str, Any], to: Path) -> None:
    """`told`: the captions, and the pictures of each column, uint8 [N, side, side, 3]."""
    from PIL import Image, ImageDraw, ImageFont

    font, columns, captions = ImageFont.load_default(SIZE), told["pictures"], told["captions"]
    side = TIMES * next(iter(columns.values())).shape[1]
    wide = max(side, *(int(font.getlength(word)) for name in columns for word in name.split())) + GAP
    sheet = Image.new("RGB", (TEXT_WIDTH + wide * len(columns), HEAD + (side + GAP) * len(captions)), "white")
    pen = ImageDraw.Draw(sheet)
    for line, caption in enumerate(captions):
        pen.multiline_text((GAP, HEAD + line * (side + GAP) + side // 3), _folded(caption, font), font=font, fill="black")
    for column, (name, pictures) in enumerate(columns.items()):
        left = TEXT_WIDTH + column * wide
        pen.multiline_text((left, 2), _folded(name, font, width=wide - GAP), font=font, fill="black", spacing=1)
        for line, picture in enumerate(pictures):
            large = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(large, (left, HEAD + line * (side + GAP)))
    to.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(to, optimize=True)


def _folded(text: str, font: Any, *, width: int = TEXT_WIDTH - 2 * GAP) -> str:
    """In lines of so many pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)
