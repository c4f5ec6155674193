"""Do items show what they were asked for? Items and captions look for each other among the captions of one proof.

G captions (the gallery), n items, E features, R resamples. The gallery are the first captions of held-out items, each once, in
the order in which samples are asked for them. An item finds its caption in the first k where fewer than k others of the gallery
are as near to it; by chance k of G do. Captions are resampled, each with all of its items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from components.core.protocols import CaptionedSplit
from components.core.records.condition import items_asked
from components.evaluation.bootstrap import Bootstrap, Floats
from components.evaluation.judge import Judge
from components.evaluation.yardstick import Yardstick

GALLERY = 500  # captions at most: their number decides what chance is
GALLERY_LEAST = 16  # below it finding one tells nothing
Indices = npt.NDArray[np.int64]
Hits = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Gallery:
    """The captions of a proof."""

    captions: tuple[str, ...]  # G
    texts_GE: npt.NDArray[np.float32]
    first_G: Indices  # the first sample that is asked for each
    items_G: Indices  # the held-out item that it is of
    own_n: Indices  # of each sample its place in the gallery; -1: it is asked for a caption beyond it

    @classmethod
    def of(cls, reference: CaptionedSplit, judge: Judge, *, samples: int, seed: int) -> "Gallery | None":
        """None where the data has no captions, or too few kinds of them."""
        if reference.captions is None:
            return None
        asked = items_asked(reference, samples, seed=seed)
        places: dict[str, int] = {}
        first: list[int] = []
        for sample, item in enumerate(asked):
            said = reference.captions[item][0]
            if said not in places and len(places) < GALLERY:
                places[said] = len(places)
                first.append(sample)
        if len(places) < GALLERY_LEAST:
            return None
        own = np.array([places.get(reference.captions[item][0], -1) for item in asked], np.int64)
        at = np.array(first, np.int64)
        texts = judge.of_texts(reference.take_condition(asked[at]))
        return cls(tuple(places), texts, at, asked[at], own)

    @cached_property
    def others_G(self) -> Indices:  # noqa: N802 (the suffix is the shape)
        """Of each caption another one, each once: what shuffled captions are."""
        return np.roll(np.arange(len(self.captions)), len(self.captions) // 2)


@dataclass(frozen=True, eq=False)
class Found:
    """How often the items of each caption found it, and the other way round: hits of k."""

    hits_G: Floats  # of the items of each caption
    count_G: Floats

    def share(self, counts_RG: npt.NDArray[np.floating]) -> Floats:
        """Of all items, and in every resample: [1 + R]."""
        every = np.vstack([np.ones(len(self.hits_G)), counts_RG])
        shares: Floats = (every @ self.hits_G) / np.maximum(every @ self.count_G, 1e-9)
        return shares


def items_find(items_nE: npt.NDArray[np.float32], own_n: Indices, gallery: Gallery, *, k: int) -> Found:
    """Items look for their captions (`own_n`: the places of these in the gallery)."""
    at = np.flatnonzero(own_n >= 0)
    hits = near(items_nE[at] @ gallery.texts_GE.T, own_n[at], k=k)
    size = len(gallery.captions)
    return Found(np.bincount(own_n[at], hits, size).astype(np.float64), np.bincount(own_n[at], minlength=size).astype(np.float64))


def captions_find(items_GE: npt.NDArray[np.float32], gallery: Gallery, *, k: int) -> Found:
    """Captions look for their items, one a caption."""
    size = len(gallery.captions)
    hits = near(gallery.texts_GE @ items_GE.T, np.arange(size), k=k)
    return Found(hits.astype(np.float64), np.ones(size))


def near(similarity_nG: npt.NDArray[np.floating], own_n: Indices, *, k: int) -> Hits:
    """Whether fewer than k others are as near as the own one: what is equal does not count as found."""
    own = similarity_nG[np.arange(len(own_n)), own_n]
    hits: Hits = (similarity_nG >= own[:, None]).sum(axis=1) <= k
    return hits


def resampled(gallery: Gallery, boot: Bootstrap) -> npt.NDArray[np.floating]:
    """How often each caption was drawn in each resample: [R, G]."""
    return boot.counts(len(gallery.captions), stream="captions").astype(np.float64)


def kinds_of(captions: Sequence[str], *, least: int, most: int) -> dict[str, npt.NDArray[np.bool_]]:
    """The words by which captions may be told apart, the most frequent first: each with the captions that have it.

    A word of at least `least` captions and at most half of them; at most `most` words.
    """
    words = [set(_words(caption)) for caption in captions]
    counts: dict[str, int] = {}
    for of_caption in words:
        for word in of_caption:
            counts[word] = counts.get(word, 0) + 1
    usable = [word for word, count in counts.items() if least <= count <= len(captions) / 2]
    order = sorted(usable, key=lambda word: (-counts[word], word))[:most]
    return {word: np.array([word in of_caption for of_caption in words], bool) for word in order}


SMALL_WORDS = frozenset(("the", "and", "with", "for", "from", "that", "this", "its", "are", "has", "was", "not", "into", "over"))


def _words(caption: str) -> list[str]:
    split = "".join(each if each.isalnum() else " " for each in caption.casefold()).split()
    return [word for word in split if len(word) > 2 and word not in SMALL_WORDS]


def gallery_of(yardstick: Yardstick) -> Gallery | None:
    """The one of a proof; None without a judge, or where the captions cannot be told apart."""
    if yardstick.judge is None:
        return None
    protocol = yardstick.protocol
    reference: CaptionedSplit = yardstick.reference  # type: ignore[assignment]  # a judge is given with captioned splits alone
    return Gallery.of(reference, yardstick.judge, samples=protocol.samples, seed=protocol.seed)
