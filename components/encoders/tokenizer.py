"""The tokenizer of an encoder as one file of the tokenizers library, which cuts texts at L tokens and fills them up to L."""

from typing import Any

from components.core.errors import DataError
from components.encoders.source import Source


def tokenizer_of(source: Source, *, length: int) -> Any:
    """Raises DataError where it cannot be read, or its tokens are not those of the encoder's table."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(source.tokenizer, local_files_only=True)
        made, pad = found.backend_tokenizer, found.pad_token_id
    except Exception as error:  # whatever transformers, tokenizers or sentencepiece say of files that are none
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{source.where}: the tokenizer of {source.name} cannot be read: {said}", do="fetch it again") from error
    if pad is None:
        raise DataError(f"{source.where}: the tokenizer of {source.name} has no token to fill up with", allowed="a pad_token")
    source.check_tokens(1 + max(made.get_vocab(with_added_tokens=True).values(), default=-1))
    made.enable_truncation(length)
    made.enable_padding(length=length, pad_id=pad, pad_token=found.pad_token)
    return made
