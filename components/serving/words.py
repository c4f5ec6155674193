"""The words of a request: for people `prompt` and `negative`, each a text for all items or a list with one an item; for programs
inputs in place of the condition, texts or their tokens, one an item.

N items, L tokens, D features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.core.errors import InputError
from components.runtime.contract import TensorSpec
from components.serving.refusal import Refusal
from components.serving.tensors import BYTES
from components.serving.texts import Embeddings, Read, Texts

if TYPE_CHECKING:
    from components.serving.served import Served

NOTHING = ""  # asks for nothing in particular
KINDS = {
    bool: "true or false", int: "a number", float: "a number", dict: "an object", list: "a list", type(None): "null"
}  # fmt: skip
READING = 128  # bytes that could be copied while one letter is read
IN_TEXTS, IN_TOKENS = ("prompt", "negative"), ("tokens", "negative_tokens")  # what is wanted, what is not


@dataclass(frozen=True)
class Words:
    """What a request asks for, and what its items shall be unlike, as a model reads them."""

    texts: Texts
    given: Mapping[str, str | Sequence[str]]  # prompt, and negative where the request has one
    read: Mapping[str, Read]  # the same, each of one text or of one an item

    @property
    def count(self) -> int:
        """How many items they are for, where they are one an item."""
        return max(len(each.tokens) for each in self.read.values())

    async def rows(self, n: int, *, within_s: float = 0.0) -> Embeddings:
        """What n items are asked for by, [N, *shape of the condition]. Raises Refusal: 429 and 503 as a full queue does."""
        every = [*self.read.values()]
        made = await self.texts.embeddings(np.concatenate([each.tokens for each in every]), within_s=within_s)
        parts = np.split(made, np.cumsum([len(each.tokens) for each in every])[:-1])
        wanted, *unwanted = (np.broadcast_to(part, (n, *part.shape[1:])) for part in parts)
        return self.texts.condition.asked_for(wanted, *unwanted)

    def headers(self) -> dict[str, str]:
        """How many tokens of which text were not read."""
        return {f"X-{name.title()}-Cut": read.header for name, read in self.read.items() if read.header}

    def told(self, k: int) -> dict[str, Any]:
        """What JSON says of item k."""
        said: dict[str, Any] = {}
        for name, given in self.given.items():
            at = 0 if isinstance(given, str) else k
            said[name] = given if isinstance(given, str) else given[at]
            if (cut := self.read[name].cut[at]) is not None:
                said[f"{name}_cut"] = {"tokens": cut.tokens, "text": cut.text}
        return said


def words_of(served: "Served", given: Mapping[str, str | Sequence[str]], *, embedded: bool) -> Words | None:
    """The words `given` for people as prompt and negative, read; None where there are none and the model needs none. `embedded`:
    the request has an embedding.

    Raises Refusal 422 for words that the model does not take, or that are none.
    """
    texts, bundle = served.texts, served.engine.bundle
    if texts is None:
        if given:
            asked_by = bundle.spec.condition
            instead = "leave it out" if asked_by is None else f"send condition: {asked_by.text}"
            raise Refusal(422, f"{next(iter(given))}: this model reads no words; {instead}")
        return None
    if embedded:
        if given:
            raise Refusal(422, f"both condition and {next(iter(given))} given; send the embedding or the words")
        return None
    if "negative" in given and not texts.condition.negative:
        raise Refusal(422, "negative: this model is not steered away from anything; leave it out")
    given = {"prompt": NOTHING, **given}
    return Words(texts, given, {name: _read(texts, name, text) for name, text in given.items()})


def _read(texts: Texts, name: str, given: str | Sequence[str]) -> Read:
    try:
        return texts.read([given] if isinstance(given, str) else given)
    except InputError as error:
        raise Refusal(422, f"{name}: {error}") from None


def word_inputs(served: "Served") -> list[TensorSpec]:
    """The inputs that a program may send in place of the condition."""
    return [*dict.fromkeys(spec for way in _word_ways(served) for spec in way)]


def ways_of(served: "Served") -> list[Sequence[TensorSpec]]:
    """The inputs that make a request of a program: noise and condition, or noise and words in its place."""
    if served.texts is None:
        return [served.engine.inputs]
    noise = [spec for spec in served.engine.inputs if spec.name != served.engine.bundle.condition]
    return [served.engine.inputs, *([*noise, *way] for way in _word_ways(served))]


def _word_ways(served: "Served") -> list[Sequence[TensorSpec]]:
    if served.texts is None:
        return []
    condition = served.texts.condition
    texts = [TensorSpec(name, BYTES, (1,)) for name in IN_TEXTS]
    tokens = [TensorSpec(name, "INT64", (condition.length,)) for name in IN_TOKENS]
    return [texts[:1], texts, tokens[:1], tokens] if condition.negative else [texts[:1], tokens[:1]]


def words_in(served: "Served", given: Mapping[str, Any]) -> Words:
    """Those that a program's inputs are, one an item. Raises Refusal 400 for what cannot be read."""
    assert served.texts is not None, "without a text encoder no input is words"
    read: dict[str, Read] = {}
    for name, rows in given.items():
        try:
            if name in IN_TEXTS:
                read[name] = served.texts.read(rows[:, 0].tolist())
            else:
                served.texts.check(rows)
                read[IN_TEXTS[IN_TOKENS.index(name)]] = Read(rows, (None,) * len(rows))
        except InputError as error:
            raise Refusal(400, f"input {name!r}: {error}") from None
    return Words(served.texts, {}, {name: read[name] for name in IN_TEXTS if name in read})


def effort(given: Mapping[str, Any]) -> int:
    """How many bytes could be copied in about the time that it takes to read these words, a person's or a program's."""
    lists = ([value] if isinstance(value, str) else np.ravel(np.asarray(value, object)) for value in given.values())
    return READING * sum(len(each) for texts in lists for each in texts if isinstance(each, str))


def text_or_list(given: Any) -> Any:
    """Raises ValueError unless it is a text, or a list of them."""
    if isinstance(given, str) or (isinstance(given, list | tuple) and given and all(isinstance(each, str) for each in given)):
        return given
    odd = next((each for each in given if not isinstance(each, str)), None) if isinstance(given, list) else given
    what = KINDS[type(odd)] if odd is given else f"a list with {KINDS[type(odd)]}" if given else "an empty list"
    raise ValueError(f"{what} given; allowed: a text, or a list with one an item")
