"""Lossy compression: codes rounded to a grid, and the places on it in as many bits as their frequencies in training ask for.

    k = round((z - mean) / step),   z^ = mean + step k         uniform scalar quantisation; the entries of a codebook as they are
    p_u(k) = (n_u(k) + A q(k)) / (n + A)                       the histogram of unit u, smoothed by q, that of all units together
    rate = 8 bytes / (N C H W),   distortion = mean (x^ - x)^2,   PSNR = 10 log10(255^2 / distortion)

(smoothing after MacKay & Peto 1995, 'A hierarchical Dirichlet language model'). A place that no training image took is told by an
escape symbol and 32 bits, so every image can be compressed. The entropy coder is a range coder (constriction), unit after unit.
The tables and the model are the codec's, not part of the bytes; a checksum over both tells when they do not belong together.

N images, U units of a code, K places of a unit; H, W, C of an image.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import constriction
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.core.errors import DataError, InputError
from components.core.protocols import Stored
from components.core.record import Record
from components.latent.space import Items, Labels, LatentSpace, told_class

PLACES_MAX = 4096
SMOOTHING = 32.0  # A: the images that the histogram of all units counts as
MAGIC = b"GWL1"
HEADER = struct.Struct("<4sII")  # magic, images, checksum
LABELS = np.dtype("<u2")
WORDS = np.dtype("<u4")  # of the range coder
WIDE = 1 << 31  # an escaped place lies in [-WIDE, WIDE)
HALF = 1 << 16  # and is written as two halves

Places = npt.NDArray[np.int64]
queue, chances = constriction.stream.queue, constriction.stream.model


class Point(Record):
    """What one step reaches on a set of images. `step` is None for the entries of a codebook; PSNR is None without any error."""

    step: float | None
    size_bytes: int
    bits_per_dim: float
    bits_per_dim_ideal: float  # the tables' code length, without headers and the coder's own waste
    mse: float
    psnr_db: float | None


@dataclass(frozen=True)
class Codec:
    """Stored to bytes and back with one model at one step.

    mean_U is None for integer codes; `step` is in the codes' deviations, `width` in their own units; `low` is the first place
    that the tables know, and the last entry of each of them is the escape symbol's.
    """

    space: LatentSpace
    shape: tuple[int, ...]  # of a code
    mean_U: Tensor | None
    step: float
    width: float
    low: int
    tables_UK: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, space: LatentSpace, z_NU: Tensor, *, step: float) -> "Codec":
        """The codec for codes like z_NU, those of training images. `step` is in units of the codes' root mean square deviation
        and plays no part where codes are integers. Raises InputError for a step with more than PLACES_MAX places."""
        mean_U, width = None, 1.0
        if z_NU.is_floating_point():
            mean_U = z_NU.mean(0)
            width = step * max(float((z_NU - mean_U).square().mean().sqrt()), 1e-6)
        k_NU = _places(z_NU, mean_U, width)
        low, high = int(k_NU.min()), int(k_NU.max())
        if high - low >= PLACES_MAX:
            raise InputError(f"step {step:g} divides the codes into {high - low + 1:,} places", allowed=f"{PLACES_MAX:,}")
        tables_UK = _probabilities(k_NU - low, places=high - low + 1)
        return cls(space, tuple(z_NU.shape[1:]), mean_U, step, width, low, tables_UK)

    def compress(self, items: Items) -> bytes:
        """All images as one stream: a header, their classes where the model is told them, and their codes."""
        k_NU = _places(self.space.encode(items), self.mean_U, self.width)
        labels = items.labels.astype(LABELS).tobytes() if self._told and items.labels is not None else b""
        body = labels + self._written(k_NU)
        return HEADER.pack(MAGIC, len(items), self._checksum(len(items), body)) + body

    def decompress(self, data: bytes) -> Stored:
        """The images of a stream, uint8 [N, H, W, C]. Raises DataError for bytes that this codec did not write."""
        if len(data) < HEADER.size or data[:4] != MAGIC:
            raise DataError("these bytes are no compressed images", allowed=f"a stream that begins with {MAGIC.decode()}")
        (_, n, checksum), body = HEADER.unpack_from(data), data[HEADER.size :]
        if self._checksum(n, body) != checksum:
            raise DataError(
                "these bytes are damaged, or another model, step or genwright wrote them", do="compress the images again"
            )
        start = n * LABELS.itemsize if self._told else 0
        labels = np.frombuffer(body[:start], LABELS).astype(np.int64) if self._told else None
        return self._images(self._read(body[start:], n), labels)

    def bits(self, items: Items) -> float:
        """The ideal length of the codes under the tables, in bits."""
        symbols_NU, outside_NU = self._symbols(_places(self.space.encode(items), self.mean_U, self.width))
        chances_UN = np.take_along_axis(self.tables_UK, symbols_NU.T, axis=1)
        return float(-np.log2(chances_UN).sum() + 32 * outside_NU.sum())

    @property
    def _told(self) -> bool:
        return told_class(self.space.family)

    def _checksum(self, n: int, body: bytes) -> int:
        """Of the number of images, their bytes and what these mean: CRC-32."""
        return zlib.crc32(body, zlib.crc32(struct.pack("<dqq", self.width, self.low, n) + self.tables_UK.tobytes()))

    def _symbols(self, k_NU: Places) -> tuple[Places, npt.NDArray[np.bool_]]:
        """Each place's number in its table, and whether it is in none and that number the escape symbol's."""
        escape = self.tables_UK.shape[1] - 1
        symbols_NU = k_NU - self.low
        outside_NU = (symbols_NU < 0) | (symbols_NU >= escape)
        return np.where(outside_NU, escape, symbols_NU), outside_NU

    def _written(self, k_NU: Places) -> bytes:
        encoder = queue.RangeEncoder()
        symbols_NU, outside_NU = self._symbols(k_NU)
        for unit, p_K in enumerate(self.tables_UK):
            halves_2E = np.stack(np.divmod(k_NU[outside_NU[:, unit], unit] + WIDE, HALF))
            encoder.encode(np.ascontiguousarray(symbols_NU[:, unit], np.int32), chances.Categorical(p_K, perfect=False))
            encoder.encode(halves_2E.ravel().astype(np.int32), chances.Uniform(HALF))
        words: npt.NDArray[np.uint32] = encoder.get_compressed()
        return words.astype(WORDS).tobytes()

    def _read(self, data: bytes, n: int) -> Places:
        decoder = queue.RangeDecoder(np.frombuffer(data, WORDS).astype(np.uint32))
        k_NU = np.empty((n, len(self.tables_UK)), np.int64)
        for unit, p_K in enumerate(self.tables_UK):
            symbols_N = decoder.decode(chances.Categorical(p_K, perfect=False), n)
            outside_N = symbols_N == len(p_K) - 1
            high_E, low_E = decoder.decode(chances.Uniform(HALF), 2 * int(outside_N.sum())).astype(np.int64).reshape(2, -1)
            k_NU[:, unit] = symbols_N + self.low
            k_NU[outside_N, unit] = high_E * HALF + low_E - WIDE
        return k_NU

    def _images(self, k_NU: Places, labels: Labels | None) -> Stored:
        k = torch.from_numpy(k_NU).view(-1, *self.shape)
        return self.space.decode(k if self.mean_U is None else self.mean_U + self.width * k, labels)


def curve(space: LatentSpace, z_NU: Tensor, items: Items, *, steps: Sequence[float]) -> list[tuple[Stored, Point]]:
    """`measure` at each step, with codecs fitted to the training codes z_NU; once where codes are integers.

    Raises InputError for a step that is not positive.
    """
    if min(steps) <= 0:
        raise InputError(f"a step of {min(steps):g}", allowed="numbers above 0")
    chosen = steps if z_NU.is_floating_point() else steps[:1]
    return [measure(Codec.fit(space, z_NU, step=step), items) for step in chosen]


def measure(codec: Codec, items: Items) -> tuple[Stored, Point]:
    """Compress, decompress, and say what it cost: the images that came back, uint8 [N, H, W, C], and the rate and distortion."""
    data = codec.compress(items)
    back = codec.decompress(data)
    mse = distortion(back, items.images)
    point = Point(
        step=None if codec.mean_U is None else codec.step,
        size_bytes=len(data),
        bits_per_dim=8 * len(data) / items.images.size,
        bits_per_dim_ideal=codec.bits(items) / items.images.size,
        mse=mse,
        psnr_db=psnr_db(mse),
    )
    return back, point


def distortion(images: Stored, originals: Stored) -> float:
    """The mean squared error in grey levels."""
    return float(np.square(images.astype(np.float64) - originals).mean())


def psnr_db(mse: float) -> float | None:
    """The peak signal-to-noise ratio of 8-bit images; None where there is no error."""
    return 10 * math.log10(255**2 / mse) if mse else None


def _places(z_NU: Tensor, mean_U: Tensor | None, width: float) -> Places:
    """k_NU, each code flattened."""
    k = z_NU if mean_U is None else ((z_NU - mean_U).double() / width).round().clamp(-WIDE, WIDE - 1)
    return k.long().flatten(1).numpy()


def _probabilities(k_NU: Places, *, places: int) -> npt.NDArray[np.float64]:
    """p_u of every place and of the escape symbol, float64 [U, K + 1]; q starts with half an image everywhere."""
    n, units = k_NU.shape
    flat = (k_NU + np.arange(units) * (places + 1)).ravel()
    counts_UK = np.bincount(flat, minlength=units * (places + 1)).reshape(units, places + 1)
    q_K = counts_UK.sum(0) + 0.5
    p_UK: npt.NDArray[np.float64] = (counts_UK + SMOOTHING * q_K / q_K.sum()) / (n + SMOOTHING)
    return p_UK
