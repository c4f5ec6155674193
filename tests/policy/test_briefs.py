"""Every brief in briefs/ is planned with no data there, and together they reach every family, mode, delivery and modality."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from components.core.brief import Brief, Delivery, Mode, read_brief
from components.core.card import Card
from components.core.records import Decision
from components.policy.decide import decide
from components.policy.facts import facts
from components.policy.tables import load_tables

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "briefs").glob("*.yaml"))


def planned(brief: Brief, cards: dict[tuple[str, str], Card]) -> Decision:
    device: Any = brief.compute.device if brief.compute.device != "auto" else "cpu"
    return decide(facts(brief, dataset=None, device=device), cards=cards, override=brief.override)


def test_there_are_ten() -> None:
    assert len(PATHS) == 10


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_brief_is_planned_and_named_as_its_file(path: Path, cards: dict[tuple[str, str], Card]) -> None:
    brief = read_brief(path)
    assert brief.name == path.stem
    assert path.read_text().startswith("# "), "a brief says in a comment what it shows"
    assert planned(brief, cards).reasons


def test_together_they_reach_everything(cards: dict[tuple[str, str], Card]) -> None:
    decisions = [planned(read_brief(path), cards) for path in PATHS]
    assert {decision.family for decision in decisions} == set(load_tables().known_families)
    assert {decision.mode for decision in decisions} == set(get_args(Mode))
    assert {decision.delivery for decision in decisions} == set(get_args(Delivery))
    assert {read_brief(path).modality for path in PATHS} == set(load_tables().known_modalities)


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("digits", ("vae", "gaussian", "scratch", "one_pass")),
        ("digits-quality", ("diffusion", "edm", "scratch", "many_step")),
        ("mnist", ("diffusion", "edm", "scratch", "many_step")),
        ("cifar10", ("diffusion", "edm", "scratch", "few_step")),
        ("parts-denoise", ("autoencoder", "plain", "scratch", "one_pass")),
        ("product-photos-lora", ("diffusion", "ldm", "lora", "many_step")),
        ("scans-likelihood", ("flow", "glow", "scratch", "one_pass")),
        ("support-replies-text", ("autoregressive", "gpt", "lora", "many_step")),
        ("sounds-audio", ("gan", "wavegan", "scratch", "one_pass")),
        ("clips-video", ("diffusion", "video-diffusion", "finetune", "many_step")),
    ],
)
def test_what_each_brief_becomes(name: str, choice: tuple[str, ...], cards: dict[tuple[str, str], Card]) -> None:
    decision = planned(read_brief(ROOT / "briefs" / f"{name}.yaml"), cards)
    assert (decision.family, decision.variant, decision.mode, decision.delivery) == choice
    assert decision.overridden is None


def test_planning_imports_nothing_heavy() -> None:
    code = """
import sys
from pathlib import Path
from components.core.brief import read_brief
from components.families import cards
from components.policy.decide import decide
from components.policy.facts import facts
from components.policy.view import view
brief = read_brief(Path("briefs/digits.yaml"))
made = facts(brief, dataset=None, device="cpu")
view(made, decide(made, cards={key: entry[0] for key, entry in cards().items()}))
heavy = {"numpy", "torch", "mlflow", "prefect", "sklearn", "scipy", "diffusers", "lightning"}
heavy |= {"dvc", "boto3", "onnxruntime", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
