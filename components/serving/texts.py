"""What a request says in words, as its sampler takes it: read by the bundle's tokenizer, encoded by its text encoder, and kept
for who asks for it again.

The encoder has a queue of its own before the sampler's, with the same limits. It runs on one text at a time, so that what it
makes of a text never depends on what is asked beside it. A text that says nothing asks for nothing in particular: its embedding
is zeros, and its tokens are padding alone (components/runtime/prompts.py).

N items, L tokens, D features.
"""

import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.core.bundles import TEXT_ENCODER_ONNX
from components.core.errors import BundleError, InputError
from components.core.records import EmbeddingCondition
from components.runtime.contract import Feeds
from components.runtime.prompts import Prompts
from components.serving.batcher import Batcher
from components.serving.limits import Limits
from components.serving.metrics import TextWatch

NOT_WRITTEN = {  # by the category of Unicode
    "Cc": ("a control character", "leave it out; several texts are a list"),
    "Cs": ("half of a character", "send whole characters"),
}
Tokens = npt.NDArray[np.int64]  # [N, L]
Embeddings = npt.NDArray[np.float32]  # [N, L, D]


@dataclass(frozen=True)
class Cut:
    """What of a text the encoder does not read."""

    tokens: int
    text: str


@dataclass(frozen=True)
class Read:
    """Texts as tokens, and what was cut off of each."""

    tokens: Tokens
    cut: tuple[Cut | None, ...]

    @property
    def header(self) -> str:
        """How many tokens were cut off of each text; empty where none was."""
        return ",".join(str(each.tokens if each else 0) for each in self.cut) if any(self.cut) else ""


class Texts:
    """The words of one model's requests. `condition` is what its sampler takes; `lanes` texts are encoded at once."""

    def __init__(self, prompts: Prompts, condition: EmbeddingCondition, *, lanes: int, limits: Limits, watch: TextWatch) -> None:
        self.prompts, self.condition = prompts, condition
        self._limits, self._watch = limits, watch
        self._known = Remembered(limits.embeddings_bytes)
        self.batcher = Batcher(self._run, sizes=(1,), lanes=lanes, limits=limits, on_batch=watch.ran, on_wait=watch.queue.observe)

    def read(self, texts: Sequence[str]) -> Read:
        """Their tokens. Raises InputError for a text that is none: far too long, or with characters that nobody writes."""
        for text in texts:
            check_text(text, self._limits.characters)
        distinct = [*dict.fromkeys(texts)]
        tokens = dict(zip(distinct, self.prompts.tokens(distinct), strict=True))
        cut = {text: self._cut(text) for text in distinct}
        return Read(np.stack([tokens[text] for text in texts]), tuple(cut[text] for text in texts))

    def check(self, tokens: Tokens) -> None:
        """Raise InputError for tokens [N, L] that the tokenizer does not know."""
        if not ((tokens >= 0) & (tokens < self.prompts.vocabulary)).all():
            raise InputError("a token that does not exist", allowed=f"0 to {self.prompts.vocabulary - 1}")

    async def embeddings(self, tokens: Tokens, *, within_s: float = 0.0) -> Embeddings:
        """What the encoder makes of tokens [N, L]. Raises Refusal: 429 when its queue is full, 503 when closing or too slow."""
        keys = [row.tobytes() for row in tokens]
        rows = dict(zip(keys, tokens, strict=True))
        found = {key: each for key in rows if (each := self._known.get(key)) is not None}
        if missing := [key for key in rows if key not in found]:
            asked = np.stack([rows[key] for key in missing])
            found |= zip(missing, await self.batcher.submit({"tokens": asked}, within_s=within_s), strict=True)
            for key in missing:
                self._known.put(key, found[key])
        self._watch.found(encoded=len(missing), remembered=len(rows) - len(missing))
        return np.stack([found[key] for key in keys])

    def _cut(self, text: str) -> Cut | None:
        rest = self.prompts.cut(text)[1]
        return Cut(self.prompts.count(rest), rest.strip()) if rest.strip() else None

    def _run(self, feeds: Feeds, *, alone: bool) -> Embeddings:
        """Of one text."""
        del alone
        made = self.prompts.encode(np.asarray(feeds["tokens"], np.int64))
        if not np.isfinite(made).all():
            raise BundleError(f"{TEXT_ENCODER_ONNX}: makes values that are NaN or infinite of this text")
        return made


class Remembered:
    """Embeddings by the bytes of their tokens, those asked for last, within so many bytes. The event loop's alone.

    >>> known = Remembered(most_bytes=2 * (1 + 8))
    >>> for key in (b"a", b"b", b"c"):
    ...     known.put(key, np.zeros(2, np.float32))
    >>> [known.get(key) is not None for key in (b"a", b"b", b"c")]
    [False, True, True]
    """

    def __init__(self, most_bytes: int) -> None:
        self._most, self._held = most_bytes, 0
        self._rows: OrderedDict[bytes, Embeddings] = OrderedDict()

    def get(self, key: bytes) -> Embeddings | None:
        if key in self._rows:
            self._rows.move_to_end(key)
        return self._rows.get(key)

    def put(self, key: bytes, row: Embeddings) -> None:
        """Keep a copy, which holds no more than itself."""
        size = len(key) + row.nbytes
        if key in self._rows or size > self._most:
            return
        self._rows[key], self._held = row.copy(), self._held + size
        while self._held > self._most:
            old, gone = self._rows.popitem(last=False)
            self._held -= len(old) + gone.nbytes


def check_text(text: str, most: int) -> None:
    """Raise InputError for what no person writes in a line: control characters, halves of characters, a book.

    >>> check_text("a red cat", 100)
    """
    if len(text) > most:
        raise InputError(f"{len(text)} characters given", allowed=f"at most {most}")
    for at, letter in enumerate(text):
        kind = unicodedata.category(letter)
        if kind in ("Cc", "Cs"):
            what, do = NOT_WRITTEN[kind]
            raise InputError(f"{text[max(0, at - 20) : at + 20]!a} has {what} at {at}", do=do)
