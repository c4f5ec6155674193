"""Families are found by their cards, read from the source without running it."""

import subprocess
import sys
from pathlib import Path

import pytest

from components import families
from components.core.errors import NotBuilt

CARD = """
from components.core.card import Card
raise RuntimeError("nobody runs this")

class Toy:
    card{annotation} = Card(family="flow", variant="{variant}", title="toy", modalities=("image",), likelihood="exact",
        latent=False, steps={steps}, side_max=64, data_appetite=1000, references=("none",))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(families, "HERE", tmp_path)
    return tmp_path


def test_a_file_with_a_card_is_a_family(folder: Path) -> None:
    (folder / "toy.py").write_text(CARD.format(annotation=": ClassVar[Card]", variant="a", steps=1))
    (folder / "more").mkdir()
    (folder / "more" / "toy.py").write_text(CARD.format(annotation="", variant="b", steps=2))
    (folder / "blocks.py").write_text("card = 1\nclass Plain:\n    card: int\n    other = dict(card=1)\n")
    found = families.cards.__wrapped__()
    assert {key: (card.steps, module, name) for key, (card, module, name) in found.items()} == {
        ("flow", "a"): (1, "components.families.toy", "Toy"),
        ("flow", "b"): (2, "components.families.more.toy", "Toy"),
    }


@pytest.mark.parametrize("steps", ["STEPS", "int('3')", "[n for n in (1,)][0]"])
def test_a_card_that_is_not_a_literal_is_refused(folder: Path, steps: str) -> None:
    (folder / "toy.py").write_text(CARD.format(annotation="", variant="a", steps=steps))
    with pytest.raises(TypeError, match=r"toy.py:6: a card must be a literal, readable without running the file"):
        families.cards.__wrapped__()


def test_what_is_not_built_is_told_with_what_is() -> None:
    with pytest.raises(NotBuilt, match=r"flow/never is not built yet; allowed: .*/.*; choose one of them") as caught:
        families.find("flow", "never")
    assert caught.value.exit_code == 2  # what the brief asks for is not to be had here


def test_reading_cards_needs_no_torch() -> None:
    script = "import sys; from components.families import cards; cards(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
