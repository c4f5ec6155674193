"""What a server is given: a graph, its inputs and a port. Needs numpy and onnxruntime.

    python SERVER.py MODEL.onnx --port P --workers N --threads T --batch B --wait-ms W

N workers run the graph side by side, each with T threads.
A request asks for one image: the noise in, float32 images out, each as plain bytes where the server can.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


class Task:
    """The options of the command line."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("graph", type=Path)
        parser.add_argument("--port", type=int, required=True)
        parser.add_argument("--workers", type=int, default=1)
        parser.add_argument("--threads", type=int, default=0)
        parser.add_argument("--batch", type=int, default=16)
        parser.add_argument("--wait-ms", type=float, default=1.0)
        options = parser.parse_args()
        self.graph: Path = options.graph
        self.port: int = options.port
        self.workers: int = options.workers
        self.threads: int = options.threads
        self.batch: int = options.batch
        self.wait_ms: float = options.wait_ms


class Model:
    """One session. Every input is float32 noise; a request holds them one after another."""

    def __init__(self, graph: Path, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads  # spinning, by ONNX Runtime's default, where they are several
        self.session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs = {node.name: tuple(node.shape[1:]) for node in self.session.get_inputs()}
        self.output = self.session.get_outputs()[0].name
        self.sizes = [int(np.prod(shape)) for shape in self.inputs.values()]

    def parsed(self, body: bytes) -> "np.ndarray[Any, Any]":
        """One request's noise, [1, D]."""
        return np.frombuffer(body, "<f4").reshape(1, -1)

    def run(self, noise_ND: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """x_NCHW."""
        parts = np.split(noise_ND, np.cumsum(self.sizes)[:-1], axis=1)
        named = zip(self.inputs.items(), parts, strict=True)
        feeds = {name: np.ascontiguousarray(part.reshape(-1, *shape)) for (name, shape), part in named}
        made: np.ndarray[Any, Any] = self.session.run([self.output], feeds)[0]
        return made
