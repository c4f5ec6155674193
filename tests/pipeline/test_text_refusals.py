"""What a person can get wrong with words, by the command line: one line, exit code 2, and nothing made. Parts have tests of their
own, which docs/testing.md lists; these are what the commands make of them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_text import WORDS, write_tokenizer

if TYPE_CHECKING:
    from roads import Command, Road

BRIEF: dict[str, Any] = {
    "name": "asked",
    "modality": "image",
    "conditioning": "text",
    "data": {"path": "nowhere", "items": 900, "side": 8},
    "compute": {"items_seen": 1000, "device": "cpu"},
    "text": {"encoder": "tiny"},
}


def written(**changes: Any) -> Path:
    path = Path("brief.yaml")
    path.write_text(yaml.safe_dump({name: value for name, value in (BRIEF | changes).items() if value is not None}))
    return path


@pytest.fixture
def tiny(cli: "Command") -> Path:
    """An encoder's folder whose weights nobody reads."""
    folder = Path("tiny")
    folder.mkdir()
    every = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS)
    write_tokenizer(folder, "bert", every)
    config = {"model_type": "bert", "hidden_size": 8, "vocab_size": len(every), "max_position_embeddings": 16}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def of_fewer_words(folder: Path) -> None:
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"vocab_size": told["vocab_size"] - 1}))


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def as_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("text", "damage", "names"),
    [
        ({"encoder": "tiny", "sha256": "0" * 64}, None, ("text.sha256: 000000000000... given, and tiny is ",)),
        ({"encoder": "other"}, None, ("text.encoder: other given, and there is no folder",)),
        ({"encoder": "tiny", "length": 17}, None, ("text.length: 17 given", "allowed: 2 to 16")),
        ({"encoder": "tiny"}, of_fewer_words, ("text.encoder: tiny has a tokenizer of 20 tokens, and its table has 19",)),
        ({"encoder": "tiny"}, without_tokenizer, ("text.encoder: tiny has no tokenizer", "tokenizer.json")),
        ({"encoder": "tiny"}, as_a_pickle, ("text.encoder: the weights of tiny are a pickle",)),
    ],
    ids=("digest", "unknown", "length", "vocabulary", "no-tokenizer", "pickle"),
)
def test_an_encoder_that_cannot_be_is_refused(
    cli: "Command", tiny: Path, text: dict[str, Any], damage: Any, names: tuple[str, ...]
) -> None:
    if damage is not None:
        damage(tiny)
    cli("produce", written(text=text)).refused(2, *names)
    assert [*Path(".genwright").rglob("*")] == []


def test_data_without_captions_is_refused(cli: "Command", raw_road: "Road", tiny: Path) -> None:
    data = {"path": "data/digits", "repo": str(raw_road.folder)}
    for command in ("plan", "produce"):
        said = cli(command, written(data=data))
        said.refused(2, "conditioning: text given, but data/digits has no captions", "prepare it with captions (docs/data.md)")


FEW = "is asked by a text: in few steps it would lose the guidance that it is steered by"


@pytest.mark.parametrize("command", ["plan", "produce"])
@pytest.mark.parametrize(
    ("asks", "told", "do"),
    [
        (
            {"serving": {"latency_ms": 100}}, "serving.latency_ms: 100 given, and",
            "leave serving.latency_ms out, produce, and `genwright distil asked --latency-ms 100`",
        ),
        ({"goal": "speed"}, "goal: speed given, and", "leave goal out, produce, and `genwright distil asked`"),
        ({"override": {"delivery": "few_step"}}, "override.delivery: few_step given, and", "leave override.delivery out"),
    ],
)  # fmt: skip
def test_few_steps_of_a_base_that_a_text_steers_are_left_to_distil(
    cli: "Command", command: str, asks: dict[str, Any], told: str, do: str
) -> None:
    base = {"model": "hf:org/base", "family": "diffusion"}
    data = {"path": "nowhere", "items": 900, "side": 512}
    cli(command, written(text=None, data=data, pretrained=base, **asks)).refused(2, told, FEW, do)


@pytest.mark.parametrize("command", ["plan", "produce"])
@pytest.mark.parametrize(
    ("named", "where"),
    [
        ({"text": {"encoder": "hf:org/none"}}, "text.encoder: hf:org/none: no org/none in GENWRIGHT_HUB_MIRROR=mirror"),
        (
            {"text": None, "pretrained": {"model": "hf:org/none", "family": "diffusion"}},
            "pretrained.model: hf:org/none: no org/none in GENWRIGHT_HUB_MIRROR=mirror",
        ),
    ],
    ids=["encoder", "base"],
)
def test_what_a_mirror_lacks_is_refused_alike(cli: "Command", command: str, named: dict[str, Any], where: str) -> None:
    Path("mirror").mkdir()
    cli(command, written(**named), GENWRIGHT_HUB_MIRROR="mirror").refused(2, where)


def test_a_plan_says_what_it_could_not_look_at(cli: "Command") -> None:
    """It fetches nothing, so it cannot know whether a hub has what is named."""
    said = cli("plan", written(text={"encoder": "hf:nobody/none"}), "--json").json()
    assert "hf:nobody/none, which reads its texts, is not fetched yet" in json.dumps(said)


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({}, ("20 of 20 items have no caption", "--captions-missing-max")),
        ({"000.png": " ", "001.png": "a thing"}, ("19 of 20 items have no caption", "first 000.png (it is empty)")),
    ],
)
def test_pictures_without_captions_are_not_prepared(cli: "Command", said: dict[str, str], names: tuple[str, ...]) -> None:
    folder = Path("photos")
    folder.mkdir()
    for at in range(20):
        Image.fromarray(np.full((8, 8), at, np.uint8)).save(folder / f"{at:03d}.png")
    for name, text in said.items():
        (folder / name).with_suffix(".txt").write_text(text)
    rule = "sidecar" if said else "folders"
    cli("data", "prepare", folder, "--to", "data/photos", "--captions", rule).refused(2, *names)
    assert not Path("data/photos").exists()
