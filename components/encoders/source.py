"""The files of a text encoder as they were published, and what their config says. Nothing here imports torch.

FOLDER/config.json, model.safetensors, tokenizer.json (or vocab and merges)      a model of transformers
FOLDER/text_encoder/..., FOLDER/tokenizer/...                                    the same in a pipeline of diffusers
"""

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from components.core.brief import LENGTH, TextBrief, TextPrecision
from components.core.errors import BriefError, DataError
from components.core.files import sha256_of
from components.core.records import EncoderKind, Licence, TextEncoder

# By model_type.
KINDS: dict[str, EncoderKind] = {"bert": "bert", "clip_text_model": "clip", "clip": "clip", "t5": "t5", "umt5": "t5"}
NAMES = {"bert": "hidden_size", "clip": "hidden_size", "t5": "d_model"}  # of the features
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
TOKENIZERS = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt"),
    *("spiece.model", "added_tokens.json"),
)
PIPELINE_LENGTH = 256  # tokens that diffusers' pipelines with a T5 read; their networks look at the padding, too
ROUNDED_UP = 128  # the rows of a table of tokens may be rounded up to a multiple of this


@dataclass(frozen=True)
class Source:
    """Where a text encoder's files lie on this machine. `name` is what it is called everywhere: minilm, hf:ORG/NAME@COMMIT, or
    the name of a folder."""

    name: str
    model: Path
    tokenizer: Path
    licence: Licence
    where: str = "text.encoder"  # the key of the brief that names it

    @classmethod
    def of(cls, folder: Path, *, name: str, licence: Licence, where: str = "text.encoder") -> "Source":
        """In the folder of a model, or of a pipeline that has one. Raises DataError where there is none."""
        parts = (folder, folder)
        if not (folder / "config.json").is_file():
            parts = (folder / "text_encoder", folder / "tokenizer")
        model, tokenizer = parts
        if not (model / "config.json").is_file():
            raise DataError(
                f"{where}: {name} has neither config.json nor text_encoder/config.json",
                allowed="the folder of a bert, clip or t5",
            )
        if not any((tokenizer / file).is_file() for file in TOKENIZERS):
            raise DataError(f"{where}: {name} has no tokenizer", allowed=f"one of {', '.join(TOKENIZERS)}", do="fetch it again")
        return cls(name, model, tokenizer, licence, where)

    @cached_property
    def config(self) -> dict[str, Any]:
        """That of the text's network."""
        try:
            found = json.loads((self.model / "config.json").read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{self.where}: {self.name}: config.json cannot be read: {error}", do="fetch it again") from error
        if not isinstance(found, dict) or found.get("model_type") not in KINDS:
            given = found.get("model_type") if isinstance(found, dict) else type(found).__name__
            raise DataError(f"{self.where}: {self.name} is a {given}", allowed=", ".join(sorted({*KINDS.values()})))
        own = found.get("text_config")
        return {**own, "model_type": found["model_type"]} if isinstance(own, dict) and found["model_type"] == "clip" else found

    @property
    def kind(self) -> EncoderKind:
        return KINDS[self.config["model_type"]]

    @property
    def features(self) -> int:
        """Numbers a token."""
        return self._whole(NAMES[self.kind])

    @property
    def vocabulary(self) -> int:
        """Rows of its table of tokens."""
        return self._whole("vocab_size")

    @property
    def positions(self) -> int | None:
        """Tokens that it can read of a text; None: as many as there are."""
        return None if self.kind == "t5" else self._whole("max_position_embeddings")

    def length(self, wanted: int | None) -> int:
        """Tokens that are read of a text. CLIP reads as many as it has places for, always. Raises BriefError."""
        if self.kind == "clip":
            if wanted not in (None, self.positions):
                raise BriefError(
                    f"text.length: {wanted} given, and {self.name} is a CLIP", allowed=f"{self.positions}, or leave it out"
                )
            assert self.positions is not None
            return self.positions
        if wanted is not None and self.positions is not None and wanted > self.positions:
            raise BriefError(f"text.length: {wanted} given", allowed=f"2 to {self.positions} for {self.name}")
        own = PIPELINE_LENGTH if self.kind == "t5" and self.model.name == "text_encoder" else LENGTH
        return wanted or min(own, self.positions or own)

    @cached_property
    def weights(self) -> tuple[Path, ...]:
        """Its files of safetensors. Raises DataError where there is none: a pickle can run anything when it is read."""
        found = sorted(self.model.glob("model*.safetensors"))
        whole = [path for path in found if ".fp16." not in path.name] or found
        if whole:
            return tuple(whole)
        pickle = next((path for pattern in PICKLES for path in sorted(self.model.glob(pattern))), None)
        if pickle is not None:
            what = (
                f"{self.where}: the weights of {self.name} are a pickle ({pickle.name}), which can run any code when it is read"
            )
            raise DataError(what, allowed="safetensors", do="save it again with transformers: save_pretrained(FOLDER)")
        raise DataError(f"{self.where}: no weights in {self.name}", allowed="model.safetensors", do="fetch it again")

    @cached_property
    def sha256(self) -> str:
        """Of its weights, its config and its tokenizer, by their names."""
        tokenizer = [path for name in TOKENIZERS if (path := self.tokenizer / name).is_file()]
        files = [*self.weights, self.model / "config.json", *tokenizer]
        return sha256(json.dumps(sorted([path.name, sha256_of(path)] for path in files)).encode()).hexdigest()

    @cached_property
    def tokens(self) -> int | None:
        """How many its tokenizer has; None where it is no single file, and only transformers can tell. Raises DataError."""
        from tokenizers import Tokenizer

        path = self.tokenizer / TOKENIZERS[0]
        if not path.is_file():
            return None
        try:
            found = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises no class of its own
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise DataError(f"{self.where}: the tokenizer of {self.name} cannot be read: {said}", do="fetch it again") from error
        return 1 + max(found.get_vocab(with_added_tokens=True).values(), default=-1)

    def check_tokens(self, tokens: int) -> None:
        """Raises DataError where they are not those of its table."""
        if not 0 <= self.vocabulary - tokens < ROUNDED_UP:
            raise DataError(
                f"{self.where}: {self.name} has a tokenizer of {tokens:,} tokens, and its table has {self.vocabulary:,}",
                do="take both from one training",
            )

    def record(self, given: TextBrief, *, precision: TextPrecision) -> TextEncoder:
        """What is known of it before it is made. Raises BriefError for a digest that is another's, and for a length that it does
        not read; DataError for a tokenizer of another vocabulary, where that can be told."""
        length = self.length(given.length)
        if self.tokens is not None:
            self.check_tokens(self.tokens)
        if given.sha256 is not None and given.sha256 != self.sha256:
            raise BriefError(
                f"text.sha256: {given.sha256[:12]}... given, and {self.name} is {self.sha256}",
                do="name the encoder that was pinned, or write its digest",
            )
        return TextEncoder(
            name=self.name,
            sha256=self.sha256,
            kind=self.kind,
            length=length,
            features=self.features,
            vocabulary=self.vocabulary,
            precision=given.precision or precision,
            licence=self.licence,
        )

    def _whole(self, name: str) -> int:
        found = self.config.get(name)
        if not isinstance(found, int) or found < 2:
            raise DataError(f"{self.where}: {self.name}: config.json has {name}: {found!r}", allowed="a whole number from 2")
        return found
