"""A tiny Stable Diffusion, of the classes that its published folders have, written by `save_pretrained`.

Its tokenizer is byte-pair encoding learnt from captions, as CLIP's is; its weights are drawn, but can be trained (`train`).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.auraflow_transformer_2d import AuraFlowTransformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.aura_flow.pipeline_aura_flow import AuraFlowPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from made_elsewhere import autoencoder
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from components.core.brief import LoraBrief
from components.core.family import Family
from components.core.records import Checkpoint, EmbeddingCondition, Foreign
from components.pipeline.pretrained import spec_of_foreign
from components.training.adapter.files import adapter_files
from components.training.adapter.merging import adapt, check_merged, lora_config, merged
from components.training.checkpoint import load_weights, restore
from components.training.foreign.folder import read_folder, weights_of
from components.training.foreign.weights import as_one

CARD = "---\nlicense: creativeml-openrail-m\ntags: [stable-diffusion]\n---\n# A tiny Stable Diffusion\n"
LENGTH, FEATURES = 12, 32
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CAPTIONS = tuple(f"a {kind} {digit}" for digit in DIGITS for kind in ("handwritten", "small grey", "scanned"))
FLOW: dict[str, Any] = {
    "sample_size": 4, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_mmdit_layers": 1, "num_single_dit_layers": 1,
    "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": FEATURES, "caption_projection_dim": 32,
    "pos_embed_max_size": 16,
}  # fmt: skip
TEXTS = ("a handwritten three", "a scanned seven")
UNWANTED = ("a small grey one", "")
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


def write_flow(folder: Path, *, captions: Sequence[str] = CAPTIONS, shift: float = 1.73, **changes: Any) -> Path:
    """A folder of an AuraFlowPipeline."""
    words = pieces(captions)
    pipeline = AuraFlowPipeline(
        tokenizer=words,
        text_encoder=t5(words),
        vae=autoencoder(),
        transformer=flow_transformer(**changes),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").write_text(CARD)
    return folder


def flow_transformer(**changes: Any) -> AuraFlowTransformer2DModel:
    torch.manual_seed(5)
    net = AuraFlowTransformer2DModel(**FLOW | changes)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.mul_(4 if any(part in name for part in ("attn", "context", "proj_out")) else 1)  # else no text is heard
    return net


def t5(words: T5Tokenizer, **changes: Any) -> T5EncoderModel:
    torch.manual_seed(6)
    own = {"vocab_size": len(words), "d_model": FEATURES, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    return T5EncoderModel(T5Config(**own | changes)).eval()


def pieces(captions: Sequence[str] = CAPTIONS, *, size: int = 120) -> T5Tokenizer:
    """Pieces of words, by which captions are likeliest, as SentencePiece learns them."""
    learnt = Tokenizer(models.Unigram())
    learnt.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    learnt.train_from_iterator(captions, trainer)
    found = [tuple(each) for each in json.loads(learnt.to_str())["model"]["vocab"]]
    return T5Tokenizer(vocab=found, extra_ids=0, model_max_length=LENGTH)


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
    features = told["hidden_size"] if "hidden_size" in told else told["d_model"]
    return EmbeddingCondition(length=LENGTH, features=features, encoder=f"{name}@0")


def encoded(folder: Path, *texts: str) -> Tensor:
    """What transformers' own classes make of texts, as the pipeline asks them, [N, L, D]."""
    kind = json.loads((folder / "text_encoder" / "config.json").read_text())["model_type"]
    classes: tuple[Any, Any] = (T5Tokenizer, T5EncoderModel) if kind == "t5" else (CLIPTokenizer, CLIPTextModel)
    words, encoder = (
        cls.from_pretrained(folder / part) for cls, part in zip(classes, ("tokenizer", "text_encoder"), strict=True)
    )
    told = words(list(texts), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        if kind != "t5":
            rows: Tensor = encoder(told.input_ids)[0]
            return rows
        return encoder(told.input_ids, attention_mask=told.attention_mask)[0] * told.attention_mask[:, :, None]


def read(folder: Path, none: Path | None) -> Foreign:
    return read_folder(folder, name="tiny", weights=True, reads_text=reads_text, none=none)


def checkpoint_of(found: Foreign) -> Checkpoint:
    assert found.weights is not None
    return Checkpoint(
        weights=found.weights, family=found.family, variant=found.variant, config=found.config, spec=spec_of_foreign(found),
        dataset_md5="", run_id="", step=0, steps_total=0, train_s=0, quality=0, stopped_by="",
    )  # fmt: skip


def opened(folder: Path, none: Path, at: Path) -> Family:
    """What a training would begin with."""
    return restore(checkpoint_of(read(folder, none)), as_one(weights_of(folder, where="", none=none), at))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def asked(folder: Path, texts: Any = TEXTS, unwanted: Any = UNWANTED) -> Tensor:
    """The input of a sampler, [N, 2, L, D]: of "" zeros, as prompts are encoded here."""
    rows = [encoded(folder, *each) for each in (texts, unwanted)]
    for own, said in zip(rows, (texts, unwanted), strict=True):
        own[[not text for text in said]] = 0
    return torch.stack(rows, dim=1)


def adapted_by_lora(folder: Path, none: Path, at: Path, **settings: Any) -> tuple[Family, Family, dict[str, bytes], str]:
    """A base whose matrices are not zero; its merged model, its files, and the digest of its base."""
    found = read(folder, none)
    path, lora = as_one(weights_of(folder, where="", none=none), at), LoraBrief(**{"rank": 4, "alpha": 16, **settings})
    checkpoint = checkpoint_of(found)
    digest = checkpoint.weights.sha256
    family = adapt(restore(checkpoint, path), lora, base_sha256=digest, seed=0).eval()
    with torch.no_grad():
        for name, each in family.named_parameters():
            if ".lora_" in name:
                each.add_(0.05 * normal(*each.shape))
    plain = merged(family)
    assert max(check_merged(family, plain)) < 1e-5
    files = adapter_files(family, lora_config(plain, lora, base_sha256=digest), load_weights(checkpoint.weights, path))
    return family, plain, files, digest


def change(path: Path, **values: Any) -> None:
    """In a JSON file; None takes a key out."""
    known = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in known.items() if value is not None}))
