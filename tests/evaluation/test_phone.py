"""The page in a real browser, as wide as a phone and as a desk: nothing is cut, nothing scrolls sideways."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOOK = """<script>
const wide = document.documentElement.clientWidth;
const cut = [...document.querySelectorAll('td, th, dt, dd, li, p, h1, img')].filter(each => each.offsetParent)
  .filter(each => each.getBoundingClientRect().right > wide + 1 || each.getBoundingClientRect().left < -1
    || each.scrollWidth > each.clientWidth + 2);
const scrolled = [...document.querySelectorAll('section')].filter(each => each.scrollWidth > each.clientWidth);
parent.postMessage(`${wide} ${document.documentElement.scrollWidth} ${cut.length} ${scrolled.length} `
  + cut.slice(0, 3).map(each => each.tagName + each.textContent.slice(0, 30).replace(/[<>&]/g, '')).join('|'), '*');
</script>"""
FRAME = """<iframe src="page.html" style="width: {width}px; height: 3000px; border: 0"></iframe><p id="seen"></p>
<script>onmessage = said => document.getElementById('seen').textContent = said.data</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 720, 1200])
@pytest.mark.parametrize("name", ["first", "pair"])
def test_the_card_fits_the_screen(pages: dict[str, Path], name: str, width: int, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(pages[name].read_text(encoding="utf-8").replace("</body>", f"{LOOK}</body>"), encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME.format(width=width), encoding="utf-8")
    assert CHROMIUM is not None
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000")
    done = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", (tmp_path / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = re.search(r'id="seen">(\d+) (\d+) (\d+) (\d+) (.*?)</p>', done.stdout)
    assert found, done.stdout[-300:]
    seen, whole, cut, scrolled = map(int, found.groups()[:4])
    assert width - 20 <= seen <= width
    assert (whole <= seen, cut, scrolled) == (True, 0, 0), found[5]
