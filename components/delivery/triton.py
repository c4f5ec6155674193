"""A Triton model repository for one bundle: config.pbtxt beside a folder named by the version.

A bundle that is asked in words is an ensemble, which takes noise and tokens: the text encoder, a small graph that joins what it
makes to the sampler's condition, and the sampler. tokenizer.json lies beside the ensemble's config.pbtxt, for clients.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/ensemble_models.html
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.core.bundles import MODEL_ONNX, TEXT_ENCODER, TOKENIZER_JSON, text_encoder_of
from components.core.files import write_whole
from components.core.records import Bundle, EmbeddingCondition, GraphFile
from components.delivery.joint import joint_graph
from components.runtime.contract import TRITON_TYPES, TensorSpec, inputs_of, output_of
from components.runtime.prompts import Prompts

ONNX_RUNTIME, ENSEMBLE = 'backend: "onnxruntime"', 'platform: "ensemble"'
BATCHING = "dynamic_batching { max_queue_delay_microseconds: 2000 }"
JOINT, SAMPLER = "condition", "sampler"


def write_triton(folder: Path, bundle: Bundle, *, version: int, to: Path) -> list[Path]:
    """Write `to`/MODEL/config.pbtxt and `to`/MODEL/VERSION/model.onnx from the bundle in `folder`, or an ensemble and its parts
    MODEL_text_encoder, MODEL_condition and MODEL_sampler; what was written."""
    encoder, condition = text_encoder_of(bundle), bundle.spec.condition
    if encoder is None or not isinstance(condition, EmbeddingCondition):
        return _written(to, bundle.model, version, config_pbtxt(bundle), (folder / MODEL_ONNX).read_bytes())
    configs, prompts = ensemble_configs(bundle, encoder, condition), Prompts.open(folder)
    graphs = {
        TEXT_ENCODER: (folder / encoder.file).read_bytes(),
        JOINT: joint_graph(condition, padding=prompts.pad, each_token=prompts.any_length),
        SAMPLER: (folder / MODEL_ONNX).read_bytes(),
    }
    parts = [
        path for name, graph in graphs.items() for path in _written(to, f"{bundle.model}_{name}", version, configs[name], graph)
    ]
    whole = to / bundle.model
    (whole / str(version)).mkdir(parents=True, exist_ok=True)  # of an ensemble: empty, and must be there
    write_whole(whole / "config.pbtxt", configs[bundle.model].encode())
    shutil.copyfile(folder / TOKENIZER_JSON, whole / TOKENIZER_JSON)
    return [whole / "config.pbtxt", whole / TOKENIZER_JSON, *parts]


def _written(to: Path, model: str, version: int, config: str, graph: bytes) -> list[Path]:
    paths = [to / model / "config.pbtxt", to / model / str(version) / MODEL_ONNX]
    for path, data in zip(paths, (config.encode(), graph), strict=True):
        write_whole(path, data)
    return paths


def config_pbtxt(bundle: Bundle) -> str:
    """The configuration: what ONNX Runtime is fed, and batches made of the requests that arrive together."""
    return _config(bundle, bundle.model, inputs_of(bundle), [output_of(bundle)], ONNX_RUNTIME, BATCHING)


def ensemble_configs(bundle: Bundle, encoder: GraphFile, condition: EmbeddingCondition) -> dict[str, str]:
    """The configurations of the ensemble, by the model's name, and of its parts, by theirs."""
    every = inputs_of(bundle)
    noise = [spec for spec in every if spec.name != bundle.condition]
    (asked,) = (spec for spec in every if spec.name == bundle.condition)
    (takes,), (makes,) = ([TensorSpec(port.name, port.datatype, port.shape) for port in ports]
                          for ports in (encoder.inputs, encoder.outputs))  # fmt: skip
    sides = ("", "negative_") if condition.negative else ("",)
    tokens = [TensorSpec(side + takes.name, takes.datatype, takes.shape) for side in sides]
    embeddings = [TensorSpec(side + makes.name, makes.datatype, makes.shape) for side in sides]
    steps = [
        *(_step(f"{bundle.model}_{TEXT_ENCODER}", {takes.name: t.name}, {makes.name: e.name})
          for t, e in zip(tokens, embeddings, strict=True)),
        _step(f"{bundle.model}_{JOINT}", {spec.name: spec.name for spec in (*tokens, *embeddings)}, {"condition": "condition"}),
        _step(f"{bundle.model}_{SAMPLER}", {spec.name: spec.name for spec in noise} | {asked.name: "condition"},
              {bundle.output: bundle.output}),
    ]  # fmt: skip
    schedule = "ensemble_scheduling {\n  step [\n" + ",\n".join(steps) + "\n  ]\n}"
    joined = TensorSpec("condition", "FP32", condition.shape)
    parts = {
        TEXT_ENCODER: ([takes], [makes], ""),  # one text at a time where each is a request: batches may round otherwise
        JOINT: ([*tokens, *embeddings], [joined], ""),
        SAMPLER: (every, [output_of(bundle)], BATCHING),
    }
    configs = {
        name: _config(bundle, f"{bundle.model}_{name}", inputs, outputs, ONNX_RUNTIME, more)
        for name, (inputs, outputs, more) in parts.items()
    }
    return configs | {bundle.model: _config(bundle, bundle.model, [*noise, *tokens], [output_of(bundle)], ENSEMBLE, schedule)}


def _config(bundle: Bundle, name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], what: str, more: str) -> str:
    takes, makes = (",\n".join(map(tensor, specs)) for specs in (inputs, outputs))
    lines = (
        f'name: "{name}"',
        what,
        f"max_batch_size: {bundle.max_batch}",
        f"input [\n{takes}\n]",
        f"output [\n{makes}\n]",
        more,
        f'parameters {{ key: "family" value {{ string_value: "{bundle.family}/{bundle.variant}" }} }}',
    )
    return "".join(f"{line}\n" for line in lines if line)


def _step(model: str, takes: Mapping[str, str], makes: Mapping[str, str]) -> str:
    maps = [
        f'      {kind} {{ key: "{own}" value: "{shared}" }}\n'
        for kind, names in (("input_map", takes), ("output_map", makes))
        for own, shared in names.items()
    ]
    return f'    {{\n      model_name: "{model}"\n      model_version: -1\n{"".join(maps)}    }}'


def tensor(spec: TensorSpec) -> str:
    """One input or output, without the dimension of the batch; one number an item is reshaped from a vector of one."""
    dims = ", ".join(map(str, spec.shape)) or "1"
    reshape = "" if spec.shape else " reshape: { shape: [ ] }"
    return f'  {{ name: "{spec.name}" data_type: {TRITON_TYPES[spec.datatype]} dims: [ {dims} ]{reshape} }}'
