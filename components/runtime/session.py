"""An exported graph as a sampler: seeds in, stored items out. Used to prove a bundle and to serve it, so both see the same bytes.

On a CPU one run takes one thread, and several go on at once, since threads that share a run wait for each other after every
operator (docs/decisions/0007-serving.md has what that costs).

N items. Imports onnxruntime, and neither torch nor a family.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from components.core.arrays import Asked, Stored
from components.core.bundles import MODEL_ONNX
from components.core.errors import BundleError
from components.core.files import sha256_of
from components.core.noise import NoiseInput, draw
from components.core.records import Bundle, DataSpec
from components.core.units import to_stored
from components.runtime.cpus import usable_cpus

LEVEL = 1.01 / 127.5  # one of the 256 levels in data units, and a little for rounding
GAIN = 1.1  # all threads must be this much faster for one run than one thread is
WEIGHED_S = 0.2  # for which the two are compared, and for REPEATS at least
REPEATS = 3


class GraphSampler:
    """Runs a sampler graph with ONNX Runtime on one device ('cpu' or 'cuda').

    `batch` is the size of every run: inputs are padded to it, so an item's bytes do not depend on what it is batched with.
    `threads` 0 means every processor this process may use. `run` may be called from several threads, at best from `lanes`.
    `profile` is the beginning of the file that `session.end_profiling()` then names: which operator ran where, and for how long.
    Raises BundleError when ONNX Runtime cannot load or run the graph.
    """

    def __init__(
        self,
        path: Path,
        *,
        spec: DataSpec,
        noise: Sequence[NoiseInput],
        condition: str | None,
        output: str,
        device: str = "cpu",
        batch: int = 16,
        threads: int = 0,
        profile: Path | None = None,
    ) -> None:
        import onnxruntime as ort

        threads = threads or usable_cpus()
        self.device = device
        self.lanes = 1 if device == "cuda" else threads
        self.threads = threads
        self.path = path
        if device == "cuda":
            ort.preload_dlls()
        self.session = opened(path, threads=threads // self.lanes, device=device, profile=profile)
        self.wide: ort.InferenceSession | None = None
        self.subject = f"onnx:{sha256_of(path)}"
        self.spec = spec
        self.noise = tuple(noise)
        self.condition = condition
        self.output = output
        self.batch = batch

    @classmethod
    def of(cls, folder: Path, bundle: Bundle, *, device: str = "cpu", batch: int | None = None, threads: int = 0) -> Self:
        """That of the bundle in `folder`, as many items at a time as it allows, or `batch`."""
        return cls(
            folder / MODEL_ONNX,
            spec=bundle.spec,
            noise=bundle.noise,
            condition=bundle.condition,
            output=bundle.output,
            device=device,
            batch=batch or bundle.max_batch,
            threads=threads,
        )

    def enable_parallel_session(self, sizes: Sequence[int] = (1,)) -> None:
        """Let a run that is `alone` take all threads, where that is faster and gives the same bytes at these sizes of batch: of
        graphs whose operators are large. Takes the memory of a second session where it is kept."""
        if self.lanes == 1 or self.wide is not None or not sizes:
            return
        wide = opened(self.path, threads=self.threads, spin=True)
        few = [self._feeds([*range(size)], None, size) for size in sizes]
        if all(np.array_equal(self.run(feeds), self._run(wide, feeds)) for feeds in few):
            spent_s: dict[bool, list[float]] = {False: [], True: []}
            until = time.perf_counter() + WEIGHED_S
            while len(spent_s[True]) < REPEATS or time.perf_counter() < until:
                for whether, session in ((False, self.session), (True, wide)):
                    began = time.perf_counter()
                    self._run(session, few[0])
                    spent_s[whether].append(time.perf_counter() - began)
            if min(spent_s[False]) > GAIN * min(spent_s[True]):
                self.wide = wide

    def run(self, feeds: dict[str, npt.NDArray[np.generic]], *, alone: bool = False) -> npt.NDArray[np.generic]:
        """The raw graph: named inputs to x [N, *shape], float32 in data units or the numbers of the storage, as it was exported.

        `alone`: nothing else runs, and this is one of the sizes that `enable_parallel_session` was told.
        """
        return self._run(self.wide if alone and self.wide is not None else self.session, feeds)

    def _run(self, session: Any, feeds: dict[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
        try:
            x: npt.NDArray[np.generic] = session.run([self.output], feeds)[0]
        except Exception as error:
            raise BundleError(f"{self.subject[:17]}: ONNX Runtime cannot run it: {str(error).splitlines()[0]}") from error
        return x

    def __call__(self, seeds: Sequence[int], asked: Asked | None = None) -> Stored:
        """One stored item a seed, [N, *stored_shape]; item k depends on seeds[k] and asked[k] alone. Without `asked`: the first
        class, or zeros."""
        starts = range(0, len(seeds), self.batch)
        alone = len(starts) == 1 and self.batch == 1

        def chunk(at: int) -> Stored:
            own = seeds[at : at + self.batch]
            feeds = self._feeds(own, None if asked is None else asked[at : at + self.batch], self.batch)
            return to_stored(self.run(feeds, alone=alone)[: len(own)], self.spec.item)

        if self.lanes == 1 or len(starts) == 1:
            return np.concatenate([chunk(at) for at in starts])
        with ThreadPoolExecutor(self.lanes) as pool:
            return np.concatenate([*pool.map(chunk, starts)])

    def _feeds(self, seeds: Sequence[int], asked: Asked | None, size: int) -> dict[str, npt.NDArray[np.generic]]:
        """The inputs of these items, and of others up to `size`."""
        feeds: dict[str, npt.NDArray[np.generic]] = dict(draw(self.noise, [*seeds, *[0] * (size - len(seeds))]))
        if self.condition is not None and self.spec.condition is not None:
            feeds[self.condition] = self.spec.condition.rows(size, asked)
        return feeds


def opened(path: Path, *, threads: int, device: str = "cpu", profile: Path | None = None, spin: bool = False) -> Any:
    """A session of ONNX Runtime, each of whose runs takes so many threads of the CPU; `spin`: they keep it between two operators
    of a run. Raises BundleError when there is none."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.add_session_config_entry("session.force_spinning_stop", "1")  # when no run is left
    providers = ["CPUExecutionProvider"]
    if device == "cuda":
        providers.insert(0, "CUDAExecutionProvider")
    try:
        return ort.InferenceSession(path, options, providers=providers)
    except Exception as error:
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from error
