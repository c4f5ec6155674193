"""What is made of a published encoder equals what transformers makes of the same texts."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.core.brief import TextBrief
from components.core.records import TextEncoder
from components.encoders.graph import load
from components.encoders.make import make_encoder
from components.encoders.source import Source
from components.runtime.prompts import Prompts

TEXTS = ("a handwritten three", "a", "the photo of a small red three and four blue ones", "unknown")
OTHERS = [pytest.param(kind, marks=pytest.mark.nightly) for kind in ("clip", "t5")]


def by_transformers(source: Source, texts: tuple[str, ...], *, length: int) -> Any:
    """[N, L, D], of texts filled up together; the mask where the kind has one."""
    from transformers import AutoTokenizer

    read = AutoTokenizer.from_pretrained(source.tokenizer)
    told = read(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    mask = {} if source.kind == "clip" else {"attention_mask": told["attention_mask"]}
    with torch.no_grad():
        rows = load(source)(input_ids=told["input_ids"], **mask).last_hidden_state.numpy()
    return rows if source.kind == "clip" else rows * told["attention_mask"].numpy()[..., None]


def modules_to_read(folder: Path) -> str:
    """Which of those that only its making needs are imported where it is read."""
    code = (
        "import sys; from pathlib import Path; from components.runtime.prompts import Prompts; "
        f"made = Prompts.open(Path({str(folder)!r}))(['a red three']); "
        "assert made.any(); print(sorted({'torch', 'transformers', 'diffusers'} & {*sys.modules}))"
    )
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", *OTHERS])
def test_it_equals_transformers(kind: str, source_of: Callable[..., Source], folder_of: Path) -> None:
    source = source_of(kind)
    encoder = source.record(TextBrief(length=None if kind == "clip" else 9), precision="fp32")
    folder = make_encoder(source, encoder, folder_of)
    assert sorted(path.name for path in folder.iterdir()) == ["encoder.json", "text_encoder.onnx", "tokenizer.json"]
    assert TextEncoder.read(folder / "encoder.json") == encoder
    prompts = Prompts.open(folder)
    assert (prompts.length, prompts.features, prompts.any_length) == (encoder.length, encoder.features, kind != "clip")
    wanted = by_transformers(source, TEXTS, length=encoder.length)
    assert np.abs(prompts(TEXTS) - wanted).max() <= 1e-5
    assert np.abs(wanted).max() > 0.1
    assert prompts([TEXTS[0]])[0, -1].any() == (kind == "clip")
    assert np.array_equal(prompts(TEXTS)[1], prompts([TEXTS[1]])[0])
    before = (folder / "text_encoder.onnx").stat().st_mtime_ns
    assert make_encoder(source, encoder, folder_of) == folder
    assert (folder / "text_encoder.onnx").stat().st_mtime_ns == before
    assert modules_to_read(folder) == "[]\n"


@pytest.mark.nightly
def test_minilm_of_eight_bits_stays_near_and_is_small(tmp_path: Path) -> None:
    from components.core.records import Licence
    from components.encoders.minilm import minilm_folder

    source = Source.of(minilm_folder(), name="minilm", licence=Licence(name="apache-2.0", terms="free"))
    encoder = source.record(TextBrief(), precision="int8")
    assert (encoder.kind, encoder.length, encoder.features) == ("bert", 32, 384)
    prompts = Prompts.open(make_encoder(source, encoder, tmp_path / "minilm"))
    assert (tmp_path / "minilm" / "text_encoder.onnx").stat().st_size < 25_000_000
    texts = ("a handwritten three", "a photo of a red mug", "grinning face with big eyes", "three, written by hand")
    made, wanted = prompts(texts), by_transformers(source, texts, length=32)
    cosine = (made * wanted).sum(-1) / np.maximum(np.linalg.norm(made, axis=-1) * np.linalg.norm(wanted, axis=-1), 1e-9)
    told = np.abs(wanted).any(axis=-1)
    assert cosine[told].min() > 0.98
    means = np.stack([rows[rows.any(axis=1)].mean(axis=0) for rows in made])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    near = means @ means.T
    assert near[0, 3] > near[0, 1]
    assert near[0, 3] > near[0, 2]
    # What a text becomes does not depend on how far it is filled up, nor on what is run beside it.
    tokens = prompts.tokens(texts)
    together = prompts._session.run(["embedding"], {"tokens": tokens})[0]
    assert np.array_equal(together, made)
