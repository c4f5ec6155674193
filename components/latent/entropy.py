"""An entropy coder: range asymmetric numeral systems (Duda 2013, arXiv:1311.2540, section 2.3) with static tables.

    C(s, x) = 2^n floor(x / f_s) + c_s + (x mod f_s)                                  puts a symbol of f_s / 2^n on the state x
    D(x)    = (s, f_s floor(x / 2^n) + (x mod 2^n) - c_s),  c_s <= x mod 2^n < c_s + f_s                      takes it off again

The state stays in [2^16, 2^32): 16-bit words leave it before a symbol that would overflow it, and come back after. The last
symbol put on is the first taken off, so the encoder goes through its symbols backwards.

K symbols, c their cumulated frequencies: K + 1 numbers from 0 to 2^n.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from components.core.errors import DataError

PRECISION_BITS = 16  # n
TOTAL = 1 << PRECISION_BITS
MASK = TOTAL - 1
START = 1 << 16  # of the state, and its least value
WORD = "H"

Interval = tuple[int, int]  # c_s and f_s


def cumulated(p_K: npt.NDArray[np.float64]) -> list[int]:
    """c of K symbols with about these probabilities; every symbol gets a frequency of at least 1. K is far below 2^16."""
    frequency_K = 1 + np.floor(p_K / p_K.sum() * (TOTAL - len(p_K))).astype(np.int64)
    frequency_K[p_K.argmax()] += TOTAL - frequency_K.sum()
    return [0, *np.cumsum(frequency_K).tolist()]


def interval(symbol: int, cumulative: Sequence[int]) -> Interval:
    """Where a symbol, 0 to K - 1, lies in its table."""
    return cumulative[symbol], cumulative[symbol + 1] - cumulative[symbol]


def raw(word: int) -> Interval:
    """A number from 0 to 65535 as it is: 16 bits."""
    return word, 1


def encode(intervals: Sequence[Interval]) -> bytes:
    """Symbols, each given by its interval, as bytes."""
    words, x = array(WORD), START
    for start, frequency in reversed(intervals):
        if x >= frequency << 16:
            words.append(x & MASK)
            x >>= 16
        x = (x // frequency << PRECISION_BITS) + start + x % frequency
    words.extend((x & MASK, x >> 16))
    words.reverse()
    return np.asarray(words, "<u2").tobytes()


class Decoder:
    """Takes symbols off what `encode` wrote, in the order they were given. Raises DataError for bytes that it did not write."""

    def __init__(self, data: bytes) -> None:
        if len(data) % 2 or len(data) < 4:
            raise _damaged()
        self.words: Iterator[int] = iter(np.frombuffer(data, "<u2").tolist())
        self.x: int = (next(self.words) << 16) + next(self.words)

    def symbol(self, cumulative: Sequence[int]) -> int:
        """The next symbol, by the table it was written with."""
        slot = self.x & MASK
        found = bisect_right(cumulative, slot) - 1
        self._advance(*interval(found, cumulative), slot)
        return found

    def raw(self) -> int:
        """The next number that was written as it is."""
        slot = self.x & MASK
        self._advance(slot, 1, slot)
        return slot

    def end(self) -> None:
        """Raises DataError unless every symbol has been taken: then the state is what it began with."""
        if self.x != START or next(self.words, None) is not None:
            raise _damaged()

    def _advance(self, start: int, frequency: int, slot: int) -> None:
        self.x = frequency * (self.x >> PRECISION_BITS) + slot - start
        if self.x < START:
            word = next(self.words, None)
            if word is None:
                raise _damaged()
            self.x = (self.x << 16) + word


def _damaged() -> DataError:
    return DataError("these bytes are damaged, or another model, step or genwright wrote them", do="compress the images again")
