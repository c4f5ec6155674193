"""A family's sampler as one ONNX graph: noise as named inputs, a dynamic batch, every step inside.

Opset 21 has GroupNormalization as one operator, which norms.py rewrites in those that ONNX Runtime is fast at.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from components.core.brief import Precision
from components.core.errors import ExportError
from components.core.family import Family
from components.core.files import write_whole
from components.core.record import Record
from components.core.records import Storage
from components.export.norms import groups_as_instances
from components.export.precision import halved, nodes, quantised

OPSET = 21
EXAMPLE_BATCH = 2  # with 1 the exporter would fix the batch at 1
CALIBRATION_BATCH, CALIBRATION_BATCHES = 16, 8
CONDITION = "condition"


class Graph(Record):
    """What the graph is called with, and in what precision it works."""

    inputs: tuple[str, ...]
    condition: str | None
    output: str
    opset: int
    nodes: int
    output_type: Literal["FP32", "UINT8"] = "FP32"
    precision: Precision = "fp32"


def example_inputs(family: Family, n: int, *, seed: int = 0) -> tuple[Tensor, ...]:
    """Noise, and what is asked for where the family is conditional, for n items."""
    noise = family.noise(n, torch.Generator().manual_seed(seed))
    asked = family.spec.condition
    return noise if asked is None else (*noise, torch.from_numpy(asked.examples(n)))


def export_graph(
    family: Family, path: Path, *, steps: int | None = None, levels: bool = False, precision: Precision = "fp32"
) -> Graph:
    """Write the sampler of `family` (on CPU) to `path`, checked by onnx. Raises ExportError when it cannot be exported.

    With `levels` the items come in the 256 levels that they are stored in, as `to_stored` makes them of data units. The inputs
    stay float32 in every `precision`.
    """
    import onnx

    sampler, item = family.sampler(steps=steps).eval(), family.spec.item
    if levels and item.storage.dtype != "uint8":
        raise ExportError(
            f"serving.output: uint8 given for {item.modality}, which is stored as {item.storage.dtype}", allowed="float32"
        )
    output = item.modality
    condition = CONDITION if family.spec.conditional else None
    names = [noise.name for noise in family.noise_inputs()] + ([condition] if condition else [])
    try:
        with _quiet(), torch.no_grad():
            # Not a named Dim: diffusers' upsampling asks whether the batch is 64 or more, which a named one refuses.
            dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in names)
            traced = torch.export.export(sampler, example_inputs(family, EXAMPLE_BATCH), dynamic_shapes=dynamic)
            program = torch.onnx.export(
                traced, dynamo=True, opset_version=OPSET, input_names=names, output_names=[output], verbose=False
            )
        assert program is not None
        model = program.model_proto
        _strip(model.graph)
        groups_as_instances(model.graph)
        if precision == "fp16":
            model = halved(model)
        elif precision == "int8":
            model = quantised(model, calibration_of(family, names))
        if levels:
            make_levels(model.graph, output, item.storage)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(f"{family.card.family}/{family.card.variant} cannot be exported to ONNX: {first}") from error
    write_whole(path, model.SerializeToString())
    return Graph(
        inputs=tuple(names),
        condition=condition,
        output=output,
        opset=OPSET,
        nodes=sum(1 for _ in nodes(model.graph)),
        output_type="UINT8" if levels else "FP32",
        precision=precision,
    )


def calibration_of(family: Family, names: Sequence[str]) -> list[dict[str, Any]]:
    """Inputs by whose passing the ranges of eight-bit numbers are chosen."""
    whole = example_inputs(family, CALIBRATION_BATCH * CALIBRATION_BATCHES)
    parts = zip(*(values.split(CALIBRATION_BATCH) for values in whole), strict=True)
    return [{name: value.numpy() for name, value in zip(names, inputs, strict=True)} for inputs in parts]


def _strip(graph: object) -> None:
    """Drop the exporter's notes: source lines and paths of the machine that exported, ten times the size of the weights here."""
    for node in graph.node:  # type: ignore[attr-defined]
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)
    for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):  # type: ignore[attr-defined]
        del value.metadata_props[:]
    del graph.metadata_props[:]  # type: ignore[attr-defined]


def make_levels(graph: Any, output: str, storage: Storage) -> None:
    """Let a graph that makes `output` in data units make what is stored: (x + offset) scale, rounded half to even, in its range.

    What is NaN in data units is some level here: admission looks at those, and the server refuses noise that is not finite.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    units = f"{output}_units"
    for node in graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == output:
                    names[at] = units
    numbers = {"one": storage.offset, "half_range": storage.scale, "lowest": storage.low, "highest": storage.high}
    graph.initializer.extend(numpy_helper.from_array(np.float32(value), f"levels_{name}") for name, value in numbers.items())
    graph.node.extend(
        (
            helper.make_node("Add", [units, "levels_one"], ["levels_from_zero"]),
            helper.make_node("Mul", ["levels_from_zero", "levels_half_range"], ["levels_scaled"]),
            helper.make_node("Round", ["levels_scaled"], ["levels_rounded"]),
            helper.make_node("Clip", ["levels_rounded", "levels_lowest", "levels_highest"], ["levels_clipped"]),
            helper.make_node("Cast", ["levels_clipped"], [output], to=TensorProto.UINT8),
        )
    )
    (made,) = (value for value in graph.output if value.name == output)
    made.type.tensor_type.elem_type = TensorProto.UINT8


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks to its developers on stdout, in warnings and in logs; our users need none of it."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
