"""Tiny text encoders as they are published: folders of transformers, their weights drawn, with a tokenizer of few words."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = (
    "a",
    "an",
    "red",
    "blue",
    "handwritten",
    "small",
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "photo",
    "of",
    "the",
    "##s",
)
SPECIAL = {
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
    "t5": ("<pad>", "</s>", "<unk>"),
    "clip": ("<|begin|>", "<|end|>", "<unk>"),
}
FEATURES, LENGTH = 8, 16
CARD = "---\nlicense: apache-2.0\n---\n# Tiny\n"


def write_source(folder: Path, kind: str, *, words: tuple[str, ...] = WORDS, rows: int | None = None) -> Path:
    """One of a kind (bert, clip or t5); `rows` of its table of tokens, by default as many as it has tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    every = (*SPECIAL[kind], *words)
    write_tokenizer(folder, kind, every)
    network(kind, rows or len(every)).save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    return folder


def write_tokenizer(folder: Path, kind: str, every: tuple[str, ...]) -> None:
    unknown = next(word for word in every if "unk" in word.lower())
    ids = {word: k for k, word in enumerate(every)}
    begin, end = {"bert": (("[CLS]"), "[SEP]"), "t5": ("", "</s>"), "clip": ("<|begin|>", "<|end|>")}[kind]
    made: Any = Tokenizer(models.WordPiece(ids, unk_token=unknown))  # type: ignore[call-arg]
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}".strip(), special_tokens=[(each, ids[each]) for each in (begin, end) if each]
    )
    made.save(str(folder / "tokenizer.json"))
    pad = {"bert": "[PAD]", "t5": "<pad>", "clip": "<|end|>"}[kind]
    own = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad, "unk_token": unknown, "model_max_length": LENGTH}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))


def network(kind: str, rows: int) -> Any:
    from transformers import (
        BertConfig,
        BertModel,
        CLIPTextConfig,
        CLIPTextModel,
        T5Config,
        T5EncoderModel,
    )

    torch.manual_seed(0)
    own: dict[str, Any] = {"vocab_size": rows, "hidden_size": FEATURES, "num_hidden_layers": 2, "num_attention_heads": 2}
    own |= {"intermediate_size": 2 * FEATURES, "max_position_embeddings": LENGTH}
    if kind == "bert":
        return BertModel(BertConfig(**own))
    if kind == "clip":
        return CLIPTextModel(CLIPTextConfig(**own, projection_dim=FEATURES, bos_token_id=0, eos_token_id=1, pad_token_id=1))
    return T5EncoderModel(
        T5Config(vocab_size=rows, d_model=FEATURES, d_kv=4, d_ff=16, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu")
    )
