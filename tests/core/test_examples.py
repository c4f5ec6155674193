"""The examples in docstrings do what they say."""

import doctest
import importlib
import warnings
from pathlib import Path

import pytest

import components

ROOT = Path(components.__file__).parents[1]
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for folder in ("components", "flows")
    for path in (ROOT / folder).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_there_are_some() -> None:
    assert len(WITH_EXAMPLES) >= 12


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_an_example_gives_what_it_shows(module: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted
    assert not found.failed
