"""docs/extending.md: its files are laid over a copy of the package, and its examples are run there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import components

PAGE = Path(components.__file__).parents[1] / "docs" / "extending.md"
FILE = re.compile(r"```python\n# (\S+\.py)\n(.*?)```", re.DOTALL)
KINDS = (
    "data/sources",
    "delivery/schemes",
    "evaluation/gates",
    "evaluation/metrics",
    "families",
    "modalities/series",
    "operations/checks",
    "operations/stack/services",
    "training/start",
)


def test_the_examples_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    text, root = PAGE.read_text(encoding="utf-8"), PAGE.parents[1]
    for name in ("components", "flows"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    files = dict(FILE.findall(text))
    assert {str(Path(name).parent) for name in files} == {*(f"components/{kind}" for kind in KINDS), "flows/engines"}
    for name, source in files.items():
        path = tmp_path / name
        assert not path.exists(), f"{name} is there already"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source, encoding="utf-8")
    examples = re.findall(r"```pycon\n(.*?)```", text, re.DOTALL)
    assert len(examples) == len(KINDS) + 1, "one to try for each kind"
    (tmp_path / "examples.txt").write_text("\n".join(examples), encoding="utf-8")
    command = [sys.executable, "-W", "error::SyntaxWarning", "-m", "doctest", "examples.txt"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
