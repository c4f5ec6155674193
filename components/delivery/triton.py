"""A Triton model repository for one bundle: config.pbtxt beside a folder named by the version.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

import shutil
from pathlib import Path

from components.core.bundles import MODEL_ONNX
from components.core.files import write_whole
from components.core.records import Bundle
from components.runtime.contract import TRITON_TYPES, TensorSpec, inputs_of, output_of


def write_triton(folder: Path, bundle: Bundle, *, version: int, to: Path) -> list[Path]:
    """Write `to`/MODEL/config.pbtxt and `to`/MODEL/VERSION/model.onnx from the bundle in `folder`; what was written."""
    model = to / bundle.model
    graph, config = model / str(version) / MODEL_ONNX, model / "config.pbtxt"
    graph.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / MODEL_ONNX, graph)
    write_whole(config, config_pbtxt(bundle).encode())
    return [config, graph]


def config_pbtxt(bundle: Bundle) -> str:
    """The configuration: what ONNX Runtime is fed, and batches made of the requests that arrive together."""
    inputs = ",\n".join(tensor(spec) for spec in inputs_of(bundle))
    return (
        f'name: "{bundle.model}"\n'
        'backend: "onnxruntime"\n'
        f"max_batch_size: {bundle.max_batch}\n"
        f"input [\n{inputs}\n]\n"
        f"output [\n{tensor(output_of(bundle))}\n]\n"
        "dynamic_batching { max_queue_delay_microseconds: 2000 }\n"
        f'parameters {{ key: "family" value {{ string_value: "{bundle.family}/{bundle.variant}" }} }}\n'
    )


def tensor(spec: TensorSpec) -> str:
    """One input or output, without the dimension of the batch; one number an item is reshaped from a vector of one."""
    dims = ", ".join(map(str, spec.shape)) or "1"
    reshape = "" if spec.shape else " reshape: { shape: [ ] }"
    return f'  {{ name: "{spec.name}" data_type: {TRITON_TYPES[spec.datatype]} dims: [ {dims} ]{reshape} }}'
