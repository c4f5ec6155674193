"""The text encoder of a bundle with its tokenizer: two files that must belong together, and to what the sampler is asked by.

L tokens.
"""

from pathlib import Path
from typing import Any

import numpy as np

from components.core.bundles import TEXT_ENCODER_ONNX, TOKENIZER_JSON
from components.core.errors import BundleError, InputError
from components.core.records import EmbeddingCondition
from components.runtime.prompts import Prompts, read_tokenizer

TEXTS = ("", "a small red house", "0123456789 " * 200)  # that are read before anything is served: none, some, too much


def prompts_in(folder: Path, condition: EmbeddingCondition, session: Any) -> Prompts:
    """What reads and encodes texts for the bundle in `folder`, whose text encoder is loaded as `session`; both were tried.

    Raises BundleError where the tokenizer is none, reads to another length, or knows tokens that the encoder does not.
    """
    path = folder / TOKENIZER_JSON
    prompts = Prompts(read_tokenizer(path), session)
    if prompts.length != condition.length:
        raise BundleError(f"{path}: reads {prompts.length} tokens of a text", allowed=f"{condition.length}, as the sampler takes")
    highest = np.full((1, prompts.length), prompts.vocabulary - 1, np.int64)
    try:
        made = prompts.encode(np.concatenate([prompts.tokens(TEXTS), highest]))
    except (BundleError, InputError) as error:
        what = f"{path}: has {prompts.vocabulary} tokens, which {TEXT_ENCODER_ONNX} cannot encode"
        raise BundleError(f"{what}: {error}", do="seal the two of one encoder") from error
    if not np.isfinite(made).all():
        raise BundleError(f"{TEXT_ENCODER_ONNX}: makes values that are NaN or infinite of texts")
    return prompts
