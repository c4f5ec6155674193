# /// script
# requires-python = ">=3.11"
# dependencies = ["litserve==0.2.19", "onnxruntime==1.31.1", "numpy"]
# ///
"""LitServe: POST /predict with base64 noise in JSON, which it parses itself; the image comes back as bytes."""

import base64
from typing import Any

import litserve
import numpy as np
from fastapi import Response
from task import Model, Task


class Generator(litserve.LitAPI):
    def __init__(self, task: Task) -> None:
        super().__init__(max_batch_size=task.batch, batch_timeout=task.wait_ms / 1000)
        self.task = task

    def setup(self, device: str) -> None:
        self.model = Model(self.task.graph, self.task.threads)

    def decode_request(self, request: dict[str, str]) -> Any:
        return self.model.parsed(base64.b64decode(request["noise"]))

    def batch(self, inputs: list[Any]) -> Any:
        return np.concatenate(inputs)

    def predict(self, noise_ND: Any) -> Any:
        return self.model.run(noise_ND)

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def encode_response(self, output: Any) -> Response:
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    task = Task()
    litserve.LitServer(Generator(task), accelerator="cpu", workers_per_device=task.workers, fast_queue=True).run(
        port=task.port, host="127.0.0.1", log_level="error", generate_client_file=False
    )
