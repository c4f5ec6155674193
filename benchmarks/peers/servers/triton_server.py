# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["nvidia-pytriton==0.7.0", "onnxruntime==1.22.1", "numpy<2"]
# ///
"""A real Triton, by pytriton: the Open Inference Protocol over HTTP, dynamic batching, the graph in its Python backend."""

import logging
from collections.abc import Callable

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from task import Model, Task


def main() -> None:
    logging.disable(logging.INFO)
    task = Task()
    models = [Model(task.graph, task.threads) for _ in range(task.workers)]
    model = models[0]
    shape = tuple(model.session.get_outputs()[0].shape[1:])

    def instance(model: Model) -> Callable[..., dict[str, "np.ndarray"]]:
        @batch
        def infer(**noise: "np.ndarray") -> dict[str, "np.ndarray"]:
            return {model.output: model.session.run([model.output], noise)[0]}

        return infer  # type: ignore[no-any-return]

    config = TritonConfig(http_port=task.port, http_address="127.0.0.1", grpc_port=task.port + 1, metrics_port=task.port + 2)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="m",
            infer_func=[instance(each) for each in models],
            inputs=[Tensor(name=name, dtype=np.float32, shape=each) for name, each in model.inputs.items()],
            outputs=[Tensor(name=model.output, dtype=np.float32, shape=shape)],
            config=ModelConfig(
                max_batch_size=task.batch, batcher=DynamicBatcher(max_queue_delay_microseconds=int(1000 * task.wait_ms))
            ),
            strict=False,
        )
        triton.serve()


if __name__ == "__main__":
    main()
