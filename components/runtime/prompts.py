"""Texts as embeddings: a tokenizer and an ONNX graph, the same in training, in proof and where it is served.

    tokens [N, L] --text_encoder.onnx--> embedding [N, L, D]

Each text is run alone, by one thread, and no longer than it is where the graph takes any length: so its bytes depend neither on
what it is asked beside nor on the machine's cores, and a short prompt takes a short time. A graph of one length alone (CLIP) sees
what a text is filled up with, too.

N texts, L tokens, D features. Imports neither torch nor transformers.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from components.core.bundles import TEXT_ENCODER_ONNX, TOKENIZER_JSON
from components.core.errors import BundleError, InputError
from components.runtime.cpus import usable_cpus
from components.runtime.session import opened

Tokens = npt.NDArray[np.int64]  # [N, L]
Embeddings = npt.NDArray[np.float32]  # [N, L, D]
TOKENIZER_BYTES = 64 << 20


class Prompts:
    """What reads and encodes texts. `tokenizer` cuts and fills up to L; `session` runs the graph. Safe to use from several
    threads."""

    def __init__(self, tokenizer: Any, session: Any) -> None:
        self._tokenizer, self._session = tokenizer, session
        self.pad = int(tokenizer.padding["pad_id"])
        self.length = int(tokenizer.padding["length"])
        self.features = int(session.get_outputs()[0].shape[2])
        self.vocabulary = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
        self.any_length = not isinstance(session.get_inputs()[0].shape[1], int)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Those of an encoder's folder, or of a bundle's. Raises BundleError where the two files are none, or do not fit."""
        return cls(read_tokenizer(folder / TOKENIZER_JSON), opened(folder / TEXT_ENCODER_ONNX, threads=1))

    def __call__(self, texts: Sequence[str]) -> Embeddings:
        """What the encoder makes of each text, float32 [N, L, D]; zeros of one that says nothing."""
        return self.encode(self.tokens(texts))

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Of each text, int64 [N, L]; padding alone of one that says nothing."""
        rows = np.full((len(texts), self.length), self.pad, np.int64)
        for row, text in zip(rows, texts, strict=True):
            if text.strip():
                row[:] = self._tokenizer.encode(text).ids
        return rows

    def encode(self, tokens: Tokens) -> Embeddings:
        """What the encoder makes of tokens [N, L], float32 [N, L, D]; zeros of padding alone.

        Raises InputError for tokens that do not exist, and BundleError where the graph cannot run.
        """
        if tokens.shape[1:] != (self.length,):
            raise InputError(f"tokens of {list(tokens.shape)}", allowed=f"{self.length} a text")
        if not ((tokens >= 0) & (tokens < self.vocabulary)).all():
            raise InputError("a token that does not exist", allowed=f"0 to {self.vocabulary - 1}")
        made = np.zeros((*tokens.shape, self.features), np.float32)
        if len(tokens) == 1:
            self._encode_one(tokens[0], made[0])
        else:
            with ThreadPoolExecutor(usable_cpus()) as pool:
                for _ in pool.map(self._encode_one, tokens, made):
                    pass
        return made

    def nothing(self) -> npt.NDArray[np.float32]:
        """What the encoder itself makes of the empty text, float32 [L, D]: what a Stable Diffusion base was trained to draw
        unconditionally."""
        made = np.zeros((self.length, self.features), np.float32)
        self._run(np.array(self._tokenizer.encode("").ids, np.int64), made)
        return made

    def count(self, text: str) -> int:
        """How many tokens a text has, without those that the tokenizer puts at the ends."""
        return len(self._whole(text))

    def cut(self, text: str) -> tuple[str, str]:
        """What is read of a text, and what is not."""
        encoding = self._tokenizer.encode(text)
        if not encoding.overflowing:
            return text, ""
        end = max((end for _, end in encoding.offsets), default=0)
        return text[:end], text[end:]

    def _whole(self, text: str) -> list[int]:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        parts = [encoding, *encoding.overflowing]
        return [token for part in parts for token, told in zip(part.ids, part.attention_mask, strict=True) if told]

    def _encode_one(self, tokens_L: npt.NDArray[np.int64], into_LD: npt.NDArray[np.float32]) -> None:
        told = np.flatnonzero(tokens_L != self.pad)
        if len(told):
            self._run(tokens_L[: told[-1] + 1] if self.any_length else tokens_L, into_LD)

    def _run(self, tokens: npt.NDArray[np.int64], into_LD: npt.NDArray[np.float32]) -> None:
        try:
            (made,) = self._session.run(["embedding"], {"tokens": tokens[None]})
        except Exception as error:
            raise BundleError(f"{TEXT_ENCODER_ONNX}: ONNX Runtime cannot run it: {str(error).splitlines()[0]}") from error
        into_LD[: made.shape[1]] = made[0]


def read_tokenizer(path: Path) -> Any:
    """The tokenizer in a file, which cuts and fills up texts to one length. Raises BundleError for what is none."""
    from tokenizers import Tokenizer

    try:
        if (size_bytes := path.stat().st_size) > TOKENIZER_BYTES:
            raise BundleError(f"{path}: {size_bytes} bytes", allowed=f"at most {TOKENIZER_BYTES}")
        found = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except BundleError:
        raise
    except Exception as error:  # tokenizers raises Exception itself
        raise BundleError(f"{path}: not a tokenizer: {(str(error).splitlines() or [type(error).__name__])[0][:200]}") from error
    reads = [(found.truncation or {}).get("max_length"), (found.padding or {}).get("length")]
    if reads[0] is None or reads[0] != reads[1]:
        raise BundleError(
            f"{path}: cuts texts at {reads[0]} tokens and fills them up to {reads[1]}", allowed="one length for both"
        )
    return found
