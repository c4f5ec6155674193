"""Which encoder a brief is asked through, and what is refused before anything is trained."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_text import WORDS, write_tokenizer

from components.core.brief import Brief, parse_brief
from components.core.conditioning import condition_of
from components.core.errors import BriefError, DataError
from components.core.records import Artifact, ClassCondition, Dataset, EmbeddingCondition
from components.pipeline import encoders
from components.pipeline.backends import Backends
from components.pipeline.resolve import plan
from components.pipeline.run import Base, Encoder, Run
from components.policy.facts import facts
from flows.settings import Settings

MINIMAL = {"name": "digits", "modality": "image", "data": {"path": "digits", "items": 1797, "side": 8}}


def brief(**changes: Any) -> Brief:
    return Brief.model_validate(MINIMAL | {"conditioning": "text"} | changes)


@pytest.fixture
def backends(tmp_path: Path) -> Backends:
    return Backends(Settings(home=tmp_path / "home", actor="tester"))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """An encoder's folder whose weights nobody reads."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    every = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS)
    write_tokenizer(folder, "bert", every)
    config = {"model_type": "bert", "hidden_size": 8, "vocab_size": len(every), "max_position_embeddings": 16}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    return folder


@pytest.fixture
def told(backends: Backends, tiny: Path) -> Callable[..., Any]:
    return lambda **changes: encoders.told(brief(**changes), backends, None, folder=tiny.parent, fetch=False)


def test_a_folder_is_told_without_anything_made(told: Callable[..., Any], backends: Backends) -> None:
    found = told(text={"encoder": "tiny", "length": 9})
    assert (found.name, found.kind, found.length, found.features, found.precision) == ("tiny", "bert", 9, 8, "fp32")
    assert (found.licence.name, found.licence.terms) == ("cc-by-nc-4.0", "noncommercial")
    assert told(text={"encoder": "tiny"}).length == 16  # all that it has places for, below 32
    assert not backends.named_home.encoders.exists()


def test_without_a_name_it_is_minilm_in_eight_bits(told: Callable[..., Any]) -> None:
    found = told()
    assert (found.name, found.length, found.features, found.precision) == ("minilm", 32, 384, "int8")
    assert found.licence.terms == "free"
    assert told(text={"precision": "fp32"}).precision == "fp32"
    assert told(conditioning="none") is None


@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        (
            {"encoder": "another"},
            DataError,
            "text.encoder: another given, and there is no folder .*; allowed: hf:ORG/NAME, or a fol",
        ),
        ({"encoder": "hf:org"}, DataError, "text.encoder: hf:org is no hub id; allowed: hf:ORG/NAME"),
        ({"encoder": "tiny", "sha256": "0" * 64}, BriefError, "text.sha256: 000000000000... given, and tiny is [0-9a-f]{64}"),
        ({"encoder": "tiny", "length": 17}, BriefError, "text.length: 17 given; allowed: 2 to 16 for tiny"),
    ],
)
def test_what_is_wrong_with_it_is_one_line(
    text: dict[str, Any], error: type[Exception], line: str, told: Callable[..., Any]
) -> None:
    with pytest.raises(error, match=line) as caught:
        told(text=text)
    assert "\n" not in str(caught.value)


COMMIT = "1f2e" * 10


def test_one_of_the_hub_is_read_from_a_mirror_at_its_revision(tmp_path: Path, tiny: Path, told: Callable[..., Any]) -> None:
    """From a cache of the hub's client, which knows what a branch is; it is the one of the folder that was published there."""
    snapshot = tmp_path / "mirror" / "models--org--tiny" / "snapshots" / COMMIT
    shutil.copytree(tiny, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(COMMIT)
    mirrored = Backends(Settings(home=tmp_path / "home", hub_mirror=str(tmp_path / "mirror")))
    here = told(text={"encoder": "tiny", "length": 9})
    for revision in ("", "@main", f"@{COMMIT}"):
        text = {"encoder": f"hf:org/tiny{revision}", "sha256": here.sha256, "length": 9}
        found = encoders.told(brief(text=text), mirrored, None, folder=tmp_path, fetch=False)
        assert found is not None
        assert found.name == f"hf:org/tiny@{COMMIT}"
        assert found.model_copy(update={"name": "tiny"}) == here
        _, decision = plan(brief(text=text), mirrored, base=tmp_path)
        assert not [line for line in decision.refusals if "text" in line]
        assert not [reason for reason in decision.reasons if reason.rule == "text.encoder-unseen"]


def test_a_licence_that_forbids_the_use_is_refused(told: Callable[..., Any]) -> None:
    with pytest.raises(BriefError, match=r"text.encoder: tiny: its licence cc-by-nc-4.0 \(README.md\) forbids commercial use"):
        told(text={"encoder": "tiny"}, use="commercial")
    assert told(text={"encoder": "tiny"}, use="research").name == "tiny"


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            "conditioning: class\ntext: {length: 8}",
            "text: given with conditioning: class; write conditioning: text, or leave it out",
        ),
        ("conditioning: text\ntext: {length: 1}", "text.length: Input should be greater than or equal to 2 (given: 1)"),
        ("conditioning: text\ntext: {length: 513}", "text.length: Input should be less than or equal to 512 (given: 513)"),
        ("conditioning: text\ntext: {encodes: minilm}", "text.encodes: unknown key; allowed: encoder, sha256, length, precision"),
    ],
)
def test_a_wrong_key_is_named(more: str, line: str) -> None:
    with pytest.raises(BriefError) as caught:
        parse_brief(f"name: digits\nmodality: image\ndata: {{path: digits}}\n{more}\n")
    assert line in str(caught.value)


def test_data_without_captions_is_refused(a_run: Run) -> None:
    def of(captions: int) -> Dataset:
        return a_run.dataset.model_copy(update={"captions": captions})

    with pytest.raises(BriefError, match="conditioning: text given, but digits has no captions; prepare it with captions"):
        facts(brief(), dataset=of(0), device="cpu")
    assert facts(brief(), dataset=of(12), device="cpu").captions == 12


def test_a_base_is_asked_through_its_own_encoder(backends: Backends, tiny: Path, told: Callable[..., Any]) -> None:
    own = Encoder(record=told(text={"encoder": "tiny"}), files=())
    begun = Base.model_construct(model="letters", version=1, foreign=None, encoder=own)
    same = encoders.told(brief(), backends, begun, folder=tiny.parent, fetch=False)
    assert same == own.record
    with pytest.raises(
        BriefError, match=r"text.encoder: given, and pretrained.model: models:/letters/1 learnt to be asked through"
    ):
        encoders.told(brief(text={"encoder": "minilm"}), backends, begun, folder=tiny.parent, fetch=False)


def test_the_key_of_a_training_is_that_of_the_published_encoder(a_run: Run, told: Callable[..., Any]) -> None:
    record = told(text={"encoder": "tiny"})

    def key(record: Any, digest: str = "0" * 64) -> str:
        files = (Artifact(name="text_encoder.onnx", sha256=digest, size_bytes=1),)
        return a_run.model_copy(update={"encoder": Encoder(record=record, files=files)}).key("train")

    assert key(record) != a_run.key("train")
    assert key(record) == key(record, "1" * 64)  # as another version of torch would write it
    assert len({key(record), *(key(record.model_copy(update=each)) for each in ({"sha256": "1" * 64}, {"length": 8}))}) == 3


def test_conditions_are_made_of_the_encoder(told: Callable[..., Any]) -> None:
    record = told(text={"encoder": "tiny"})
    condition = condition_of("text", encoder=record, negative=True)
    assert condition == EmbeddingCondition(length=16, features=8, encoder=record.address, negative=True)
    assert condition_of("class", classes=["a"]) == ClassCondition(classes=("a",))
    assert encoders.shares_embeddings(condition, Encoder(record=record, files=()))
    assert not encoders.shares_embeddings(condition, None)
    assert encoders.shares_embeddings(None, None)


def test_a_plan_by_text_imports_no_torch_and_is_built(tmp_path: Path) -> None:
    code = (
        "import sys, json; from pathlib import Path; from components.core.brief import Brief; "
        "from components.pipeline.backends import Backends; from components.pipeline.resolve import plan; "
        "from flows.settings import Settings; "
        f"facts, decision = plan(Brief.model_validate({brief().model_dump(exclude_unset=True)!r}), "
        f"Backends(Settings(home=Path({str(tmp_path)!r})))); "
        "assert not {'torch', 'transformers'} & {*sys.modules}; print(json.dumps([decision.family, list(decision.refusals)]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    family, refused = json.loads(ran.stdout)
    assert family == "diffusion"
    assert not any("not built" in each for each in refused), refused
