"""Small bundles that are asked in words: a tokenizer of WordPiece, an encoder with a masked self-attention, a sampler that turns
what the encoder makes into an image. tests/conftest.py's `build_text` seals them.

L tokens, D features.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

LENGTH, FEATURES, NOISE, SIDE = 8, 12, 16, 8
WORDS = ("a", "red", "blue", "green", "cat", "dog", "bird", "house", "on", "the", "moon", "two", "small", "##s", "##ish")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS)
CONDITION = {"kind": "embedding", "length": LENGTH, "features": FEATURES, "encoder": f"tiny@{'0' * 64}"}
DECLARED = {
    "name": "text_encoder",
    "file": "text_encoder.onnx",
    "inputs": [{"name": "tokens", "datatype": "INT64", "shape": [LENGTH]}],
    "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [LENGTH, FEATURES]}],
    "opset": 21,
}


def drawn(*shape: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) / np.float32(np.sqrt(shape[0]))


def tokenizer(*, length: int = LENGTH, words: tuple[str, ...] = VOCABULARY) -> Tokenizer:
    """Lower case, words and their ends, [CLS] before and [SEP] behind, cut and filled up to `length`."""
    made = Tokenizer(models.WordPiece({word: k for k, word in enumerate(words)}, unk_token="[UNK]"))  # type: ignore[call-arg]
    made.normalizer = normalizers.BertNormalizer(lowercase=True)  # type: ignore[assignment]
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    made.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", words.index("[CLS]")), ("[SEP]", words.index("[SEP]"))]
    )
    made.enable_truncation(length)
    made.enable_padding(length=length, pad_id=0, pad_token="[PAD]")
    return made


def encoder() -> onnx.ModelProto:
    """tokens [N, up to L] -> embedding [N, up to L, D]: words and places, masked self-attention, a norm; zeros behind it."""
    weights = {
        "words": drawn(len(VOCABULARY), FEATURES, seed=1) * 4,
        "places": drawn(LENGTH, FEATURES, seed=2),
        "Q": drawn(FEATURES, FEATURES, seed=3),
        "K": drawn(FEATURES, FEATURES, seed=4),
        "V": drawn(FEATURES, FEATURES, seed=5),
        "scale": np.ones(FEATURES, np.float32),
        "far": np.float32(-1e9),
        "pad": np.int64(0),
        "nought": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "last": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["words", "tokens"], ["worded"]),
        helper.make_node("Shape", ["tokens"], ["length"], start=1),
        helper.make_node("Slice", ["places", "nought", "length"], ["placed"]),
        helper.make_node("Add", ["worded", "placed"], ["h"]),
        helper.make_node("Equal", ["tokens", "pad"], ["padded"]),
        helper.make_node("Cast", ["padded"], ["padding"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["padding", "one"], ["padding_row"]),
        helper.make_node("Mul", ["padding_row", "far"], ["mask"]),
        *(helper.make_node("MatMul", ["h", name], [name.lower()]) for name in "QKV"),
        helper.make_node("Transpose", ["k"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "turned"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["attention"], axis=-1),
        helper.make_node("MatMul", ["attention", "v"], ["seen"]),
        helper.make_node("Add", ["h", "seen"], ["both"]),
        helper.make_node("LayerNormalization", ["both", "scale"], ["normed"], axis=-1),
        helper.make_node("Not", ["padded"], ["told"]),
        helper.make_node("Cast", ["told"], ["telling"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["telling", "last"], ["telling_column"]),
        helper.make_node("Mul", ["normed", "telling_column"], ["embedding"]),
    ]
    return model(
        "text_encoder",
        nodes,
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n", "l"])],
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", "l", FEATURES]),
        weights,
    )


def sampler(*, negative: bool = False, length: int = LENGTH, features: int = FEATURES) -> onnx.ModelProto:
    """z [N, 16], condition [N, L, D] -> x [N, 1, 8, 8] in (-1, 1). Of [N, 2, L, D] away from the second by half of it."""
    shape = (2, length, features) if negative else (length, features)
    wanted = drawn(length * features, SIDE * SIDE, seed=6) * 3
    weights = {
        "W": drawn(NOISE, SIDE * SIDE, seed=7),
        "C": np.concatenate([wanted, -0.5 * wanted]) if negative else wanted,
        "to": np.array([-1, 1, SIDE, SIDE], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["z", "W"], ["noise"]),
        helper.make_node("Flatten", ["condition"], ["said"]),
        helper.make_node("MatMul", ["said", "C"], ["asked"]),
        helper.make_node("Add", ["noise", "asked"], ["flat"]),
        helper.make_node("Reshape", ["flat", "to"], ["image"]),
        helper.make_node("Tanh", ["image"], ["x"]),
    ]
    inputs = [
        helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", NOISE]),
        helper.make_tensor_value_info("condition", TensorProto.FLOAT, ["n", *shape]),
    ]
    return model("sampler", nodes, inputs, helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, SIDE, SIDE]), weights)


def model(name: str, nodes: list[Any], inputs: list[Any], output: Any, weights: dict[str, Any]) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(value), each) for each, value in weights.items()]
    graph = helper.make_graph(nodes, name, inputs, [output], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def write_encoder(folder: Path, *, length: int = LENGTH) -> None:
    """text_encoder.onnx and tokenizer.json."""
    onnx.save(encoder(), folder / "text_encoder.onnx")
    tokenizer(length=length).save(str(folder / "tokenizer.json"))
