"""A tiny Stable Diffusion, of the classes that its published folders have, written by `save_pretrained`.

Its tokenizer is byte-pair encoding learnt from captions, as CLIP's is; its weights are drawn, but can be trained (`train`).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from made_elsewhere import autoencoder
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from components.core.records import EmbeddingCondition

CARD = "---\nlicense: creativeml-openrail-m\ntags: [stable-diffusion]\n---\n# A tiny Stable Diffusion\n"
LENGTH, FEATURES = 12, 32
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CAPTIONS = tuple(f"a {kind} {digit}" for digit in DIGITS for kind in ("handwritten", "small grey", "scanned"))
READERS: tuple[tuple[Any, str], ...] = ((CLIPTokenizer, "tokenizer"), (CLIPTextModel, "text_encoder"))
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
NETWORK: dict[str, Any] = {
    "sample_size": 4, "in_channels": 4, "out_channels": 4, "block_out_channels": (16, 32), "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": FEATURES, "attention_head_dim": 4, "norm_num_groups": 8,
}  # fmt: skip
SCHEDULER: dict[str, Any] = {  # that of Stable Diffusion 1
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": True, "steps_offset": 1,
}  # fmt: skip


def write_stable_diffusion(
    folder: Path, *, net: Any = None, codec: Any = None, captions: Sequence[str] = CAPTIONS, scheduler: Any = None,
    text_encoder: Any = None, card: str = CARD, **changes: Any,
) -> Path:  # fmt: skip
    """A folder of a StableDiffusionPipeline, as published ones are; `changes` to its network."""
    words = tokenizer(captions)
    pipeline = StableDiffusionPipeline(
        vae=codec or autoencoder(),
        text_encoder=text_encoder or clip(words),
        tokenizer=words,
        unet=net or unet(**changes),
        scheduler=scheduler or PNDMScheduler(**SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    if card:
        (folder / "README.md").write_text(card)
    return folder


def unet(**changes: Any) -> UNet2DConditionModel:
    torch.manual_seed(3)
    return UNet2DConditionModel(**NETWORK | changes)


def clip(words: CLIPTokenizer, **changes: Any) -> CLIPTextModel:
    """Of as many words as the tokenizer has."""
    torch.manual_seed(4)
    own = {
        "vocab_size": len(words), "hidden_size": FEATURES, "intermediate_size": 2 * FEATURES, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": LENGTH, "projection_dim": FEATURES,
        "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id,
    }  # fmt: skip
    return CLIPTextModel(CLIPTextConfig(**own | changes)).eval()


def tokenizer(captions: Sequence[str] = CAPTIONS, *, size: int = 320) -> CLIPTokenizer:
    """Bytes and the pairs that captions have most of."""
    learnt = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    learnt.normalizer = normalizers.Lowercase()
    learnt.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=letters, end_of_word_suffix="</w>", special_tokens=[], show_progress=False
    )
    learnt.train_from_iterator(captions, trainer)
    told = json.loads(learnt.to_str())["model"]
    vocabulary = {word: at for at, word in enumerate(sorted({*told["vocab"], *letters, *(f"{each}</w>" for each in letters)}))}
    vocabulary |= {BEGIN: len(vocabulary), END: len(vocabulary) + 1}
    merges = [tuple(each) if isinstance(each, list) else tuple(each.split(" ")) for each in told["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def reads_text(folder: Path, name: str) -> EmbeddingCondition:
    """What the text encoder in a folder makes of a text, as its config says."""
    told = json.loads((folder / "text_encoder" / "config.json").read_text())
    return EmbeddingCondition(length=told["max_position_embeddings"], features=told["hidden_size"], encoder=f"{name}@0")


def encoded(folder: Path, *texts: str) -> torch.Tensor:
    """What transformers' own classes make of texts, as the pipeline asks them, [N, L, D]."""
    words, encoder = (cls.from_pretrained(folder / part) for cls, part in READERS)
    tokens = words(list(texts), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids
    with torch.no_grad():
        rows: torch.Tensor = encoder(tokens)[0]
    return rows
