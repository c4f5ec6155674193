"""The page for people at `/`: one file, no build step, nothing fetched from elsewhere."""

from functools import cache
from pathlib import Path


@cache
def page() -> str:
    return Path(__file__).with_name("page.html").read_text(encoding="utf-8")
