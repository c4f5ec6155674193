"""An exported graph as a sampler: seeds in, images out. Used to prove a bundle and to serve it, so both see the same bytes.

N items, C channels, H height, W width. Imports onnxruntime, and neither torch nor a family.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.core.errors import BundleError
from components.core.files import sha256_of
from components.core.noise import NoiseInput, draw
from components.core.protocols import Images

LEVEL = 1.01 / 127.5  # one of the 256 levels in data units, and a little for rounding


def to_units(x_NCHW: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """What a graph makes in data units [-1, 1]: levels of 8 bits are brought there."""
    if x_NCHW.dtype != np.uint8:
        return x_NCHW.astype(np.float32, copy=False)
    units: npt.NDArray[np.float32] = x_NCHW.astype(np.float32) / 127.5 - 1
    return units


def to_uint8(x_NCHW: npt.NDArray[Any]) -> Images:
    """Data units [-1, 1], NCHW, to uint8 [N, H, W, C], rounding half to even; levels of 8 bits as they are."""
    if x_NCHW.dtype == np.uint8:
        return np.ascontiguousarray(x_NCHW.transpose(0, 2, 3, 1))
    scaled = np.clip(np.rint((x_NCHW + 1.0) * 127.5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(scaled.transpose(0, 2, 3, 1))


class GraphSampler:
    """Runs a sampler graph with ONNX Runtime on one device ('cpu' or 'cuda').

    `batch` is the size of every run: inputs are padded to it, so an item's bytes do not depend on what it is batched with.
    `profile` is the beginning of the file that `session.end_profiling()` then names: which operator ran where, and for how long.
    Raises BundleError when ONNX Runtime cannot load or run the graph.
    """

    def __init__(
        self,
        path: Path,
        *,
        noise: Sequence[NoiseInput],
        condition: str | None,
        output: str,
        device: str = "cpu",
        batch: int = 16,
        threads: int = 0,
        profile: Path | None = None,
    ) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        if device == "cuda":
            ort.preload_dlls()
            providers.insert(0, "CUDAExecutionProvider")
        try:
            self.session = ort.InferenceSession(path, options, providers=providers)
        except Exception as error:
            raise BundleError(f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from error
        self.subject = f"onnx:{sha256_of(path)}"
        self.noise = tuple(noise)
        self.condition = condition
        self.output = output
        self.batch = batch

    def run(self, feeds: dict[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
        """The raw graph: named inputs to x_NCHW, float32 in data units or levels of 8 bits, as it was exported."""
        try:
            x_NCHW: npt.NDArray[np.generic] = self.session.run([self.output], feeds)[0]
        except Exception as error:
            raise BundleError(f"{self.subject[:17]}: ONNX Runtime cannot run it: {str(error).splitlines()[0]}") from error
        return x_NCHW

    def __call__(self, seeds: Sequence[int], labels: Sequence[int] | None = None) -> Images:
        """One image a seed, uint8 [N, H, W, C]; image k depends on seeds[k] and labels[k] alone."""
        images = [
            self._chunk(seeds[at : at + self.batch], labels and labels[at : at + self.batch])
            for at in range(0, len(seeds), self.batch)
        ]
        return np.concatenate(images)

    def _chunk(self, seeds: Sequence[int], labels: Sequence[int] | None) -> Images:
        n = len(seeds)
        feeds: dict[str, npt.NDArray[np.generic]] = dict(draw(self.noise, [*seeds, *[0] * (self.batch - n)]))
        if self.condition is not None:
            feeds[self.condition] = np.array([*(labels or [0] * n), *[0] * (self.batch - n)], np.int64)
        return to_uint8(self.run(feeds)[:n])
