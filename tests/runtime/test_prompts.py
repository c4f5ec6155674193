"""Texts as embeddings: what a text becomes depends on that text alone."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from components.core.errors import BundleError, InputError
from components.core.records import Licence, TextEncoder
from components.runtime.prompts import Prompts

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "green", "three", "handwritten")
LENGTH, FEATURES = 6, 4
TEXTS = ("a red three", "a", "a handwritten green three", "", " \n", "a three a three a three")


def write(folder: Path, *, length: int | None = None, words: tuple[str, ...] = WORDS, cut: int = LENGTH) -> Path:
    """An encoder whose row t is the mean of all words' vectors before t + 1, and of the vector of t, zero where nothing is said.
    `length`: of a graph that takes no other."""
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.enable_truncation(cut)
    tokenizer.enable_padding(length=LENGTH, pad_id=0, pad_token="[PAD]")
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.random.default_rng(0).normal(size=(len(WORDS), FEATURES)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["rows"]),
        helper.make_node("ReduceMean", ["rows", "axis"], ["mean"], keepdims=1),
        helper.make_node("Add", ["rows", "mean"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n", length or "l"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", length or "l", FEATURES])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), folder / "text_encoder.onnx")
    return folder


def test_what_a_text_becomes_depends_on_it_alone(tmp_path: Path) -> None:
    prompts = Prompts.open(write(tmp_path))
    together = prompts(TEXTS)
    assert (together.shape, together.dtype) == ((len(TEXTS), LENGTH, FEATURES), np.float32)
    for k, text in enumerate(TEXTS):
        assert np.array_equal(prompts([text])[0], together[k])
    # The mean in every row would be another one, were the text filled up before the graph sees it.
    assert together[0, :5].any(axis=1).all()
    assert not together[0, 5:].any()
    assert not np.array_equal(together[0, 1], together[2, 1])
    assert not together[3].any()
    assert not together[4].any()


def test_tokens_and_their_text_become_the_same(tmp_path: Path) -> None:
    prompts = Prompts.open(write(tmp_path))
    tokens = prompts.tokens(TEXTS)
    assert tokens[0].tolist() == [2, 4, 5, 7, 3, 0]
    assert not tokens[3].any()
    assert np.array_equal(prompts.encode(tokens), prompts(TEXTS))
    with pytest.raises(InputError, match="a token that does not exist; allowed: 0 to 8"):
        prompts.encode(np.full((1, LENGTH), 9))
    with pytest.raises(InputError, match=r"tokens of \[1, 3\]; allowed: 6 a text"):
        prompts.encode(np.zeros((1, 3), np.int64))


def test_a_graph_of_one_length_sees_the_text_filled_up(tmp_path: Path) -> None:
    prompts = Prompts.open(write(tmp_path, length=LENGTH))
    assert prompts(["a"])[0].any(axis=1).all()
    assert not prompts([""]).any()
    assert prompts.nothing().any()


def test_nothing_is_what_the_encoder_makes_of_the_empty_text(tmp_path: Path) -> None:
    prompts = Prompts.open(write(tmp_path))
    nothing = prompts.nothing()
    assert nothing.shape == (LENGTH, FEATURES)
    assert nothing.any()


def test_a_long_text_is_cut_where_the_encoder_cuts(tmp_path: Path) -> None:
    prompts = Prompts.open(write(tmp_path))
    assert prompts.cut("a red three") == ("a red three", "")
    read, rest = prompts.cut("a three a three  a red green")
    assert (read, rest) == ("a three a three", "  a red green")
    assert np.array_equal(prompts([read]), prompts([read + rest]))
    assert (prompts.count("a three a three  a red green"), prompts.count(rest), prompts.count("")) == (7, 3, 0)


def test_files_that_are_none_or_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, cut=LENGTH - 1)
    with pytest.raises(BundleError, match="cuts texts at 5 tokens and fills them up to 6; allowed: one length for both"):
        Prompts.open(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match="not a tokenizer"):
        Prompts.open(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match="not a tokenizer"):
        Prompts.open(folder)
    prompts = Prompts.open(write(tmp_path, words=(*WORDS, "blue")))
    with pytest.raises(BundleError, match="ONNX Runtime cannot run it"):
        prompts(["a blue three"])


def test_the_record_names_the_encoder_in_the_condition() -> None:
    encoder = TextEncoder(
        name="tiny", sha256="0" * 64, kind="bert", length=6, features=4, vocabulary=9, licence=Licence(name="mit", terms="free")
    )
    condition = encoder.condition(negative=True)
    assert condition.shape == (2, 6, 4)
    assert condition.encoder == f"tiny@{'0' * 64}"
    assert encoder.text == "tiny (bert, 000000000000, 6 tokens of 4, fp32, mit)"
