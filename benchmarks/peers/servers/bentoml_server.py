# /// script
# requires-python = ">=3.11"
# dependencies = ["bentoml==1.4.39", "onnxruntime==1.31.1", "numpy", "setuptools<81"]
# ///
"""BentoML: POST /generate with base64 noise in JSON; the image comes back as bytes.

Its batches are made between services: the outer one parses and answers, the inner one runs the graph.
"""

import base64
import os
import sys
from pathlib import Path

import bentoml
import numpy as np
from task import Model, Task

OPTIONS = ("GRAPH", "PORT", "WORKERS", "THREADS", "BATCH", "WAIT_MS")
BATCH = int(os.environ.get("BENCH_BATCH", "16"))
WORKERS = int(os.environ.get("BENCH_WORKERS", "1"))


@bentoml.service(workers=WORKERS, traffic={"timeout": 60, "concurrency": 512}, logging={"access": {"enabled": False}})
class Runner:
    def __init__(self) -> None:
        self.model = Model(Path(os.environ["BENCH_GRAPH"]), int(os.environ["BENCH_THREADS"]))

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=60_000)
    def run(self, noise: np.ndarray) -> np.ndarray:
        return self.model.run(noise)


@bentoml.service(workers=1, traffic={"timeout": 60, "concurrency": 512}, logging={"access": {"enabled": False}})
class Generator:
    runner = bentoml.depends(Runner)

    @bentoml.api
    async def generate(self, noise: str) -> bytes:
        noise_1D = np.frombuffer(base64.b64decode(noise), "<f4").reshape(1, -1)
        made: np.ndarray = await self.runner.to_async.run(noise_1D)
        return made.tobytes()


def main() -> None:
    task = Task()
    values = (str(task.graph), task.port, task.workers, task.threads, task.batch, task.wait_ms)
    os.environ |= {f"BENCH_{name}": str(value) for name, value in zip(OPTIONS, values, strict=True)}
    os.execvp(
        "bentoml", ["bentoml", "serve", f"{Path(__file__).stem}:Generator", "--port", str(task.port), "--host", "127.0.0.1"]
    )


if __name__ == "__main__":
    sys.exit(main())
