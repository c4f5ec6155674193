"""Tensors of the Open Inference Protocol v2, as JSON and by its binary tensor data extension, to numpy and back.

Both are documented at https://kserve.github.io/website (Open Inference Protocol, Binary Tensor Data Extension). Binary data are
little-endian, row-major, without padding, and stand behind the JSON in the order of its tensors. Those of BYTES, which are texts
here, have before each element its length in four bytes.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError

from components.core.record import first_complaint
from components.runtime.contract import TensorSpec
from components.serving.refusal import Refusal

DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8"), "UINT8": np.dtype("u1")}
BYTES = "BYTES"  # texts: the one type that no graph takes
Array = npt.NDArray[Any]
REMEMBERED_BYTES = 1024  # of JSON, at most
MANY = 64  # inputs, outputs or dimensions: more than any model has
_COMPACT = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


class Message(BaseModel):
    """Part of a request. Unknown keys are ignored, as the protocol's extensions ask."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class InputParameters(Message):
    binary_data_size: Annotated[StrictInt, Field(ge=0)] | None = None


class InferInput(Message):
    name: str
    shape: Annotated[tuple[Annotated[StrictInt, Field(ge=0)], ...], Field(max_length=MANY)]
    datatype: str
    parameters: InputParameters = InputParameters()
    data: Any = None


class OutputParameters(Message):
    binary_data: StrictBool | None = None


class InferOutput(Message):
    name: str
    parameters: OutputParameters = OutputParameters()


class RequestParameters(Message):
    binary_data_output: StrictBool = False
    timeout: Annotated[StrictInt, Field(ge=0, lt=2**63)] = 0  # microseconds, as Triton's clients send it; 0: the server's own


class InferRequest(Message):
    id: str = ""
    parameters: RequestParameters = RequestParameters()
    inputs: Annotated[tuple[InferInput, ...], Field(max_length=MANY)]
    outputs: Annotated[tuple[InferOutput, ...], Field(max_length=MANY)] = ()


def parse_request(body: bytes, header_length: str | None) -> tuple[InferRequest, bytes]:
    """The JSON of an infer request and the binary data behind it. Raises Refusal 400."""
    length = len(body)
    if header_length is not None:
        if not (
            header_length.isascii() and header_length.isdigit() and len(header_length) < 19 and int(header_length) <= len(body)
        ):
            raise Refusal(
                400, f"Inference-Header-Content-Length {header_length[:40]!r}; allowed: 0 to {len(body)}, the body's length"
            )
        length = int(header_length)
    head = body[:length]
    try:
        return (_remembered if len(head) <= REMEMBERED_BYTES else _message)(head), body[length:]
    except ValidationError as error:
        raise Refusal(400, first_complaint(error)) from None
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the request is not JSON: {str(error)[:200]}") from None


def _message(head: bytes) -> InferRequest:
    return InferRequest.model_validate(json.loads(head))


_remembered = lru_cache(maxsize=64)(_message)  # with the data behind it, the JSON of a client's requests is often the same


def decode(
    inputs: Sequence[InferInput], binary: bytes, ways: Sequence[Sequence[TensorSpec]], *, count_max: int
) -> dict[str, Array]:
    """The request's tensors by name, each [N, *spec.shape] with the same N, of texts str. `ways` are what it may be made of.
    Raises Refusal 400."""
    names = [each.name for each in inputs]
    specs = next((way for way in ways if sorted(names) == sorted(spec.name for spec in way)), None)
    if specs is None:
        takes = " or ".join(str([spec.name for spec in way]) for way in ways)
        raise Refusal(400, f"inputs {names} given; the model takes {takes}, each once")
    known = {spec.name: spec for spec in specs}
    feeds: dict[str, Array] = {}
    for each in inputs:
        size = each.parameters.binary_data_size
        spec = known[each.name]
        check_shape(each, spec, count_max)
        if size is None:
            feeds[each.name] = from_json(each, spec)
        else:
            feeds[each.name] = from_binary(each, spec, binary[:size])
            binary = binary[size:]
    if binary:
        raise Refusal(400, f"{len(binary)} bytes of binary data belong to no input")
    if len({len(rows) for rows in feeds.values()}) > 1:
        raise Refusal(400, f"the inputs' first dimensions differ: { {name: len(rows) for name, rows in feeds.items()} }")
    return feeds


def check_shape(given: InferInput, spec: TensorSpec, count_max: int) -> None:
    """Raise Refusal 400 when type or shape are not the model's."""
    if given.datatype != spec.datatype:
        raise Refusal(400, f"input {spec.name!r}: datatype {given.datatype!r} given; allowed: {spec.datatype}")
    if given.shape[1:] != spec.shape or not given.shape:
        raise Refusal(400, f"input {spec.name!r}: shape {list(given.shape)} given; allowed: {[-1, *spec.shape]}")
    if not 1 <= given.shape[0] <= count_max:
        raise Refusal(400, f"input {spec.name!r}: {given.shape[0]} items given; allowed: 1 to {count_max}")


def from_binary(given: InferInput, spec: TensorSpec, data: bytes) -> Array:
    """The tensor in `data`. Raises Refusal 400."""
    if given.data is not None:
        raise Refusal(400, f"input {spec.name!r}: both data and binary_data_size given; send one of them")
    if spec.datatype == BYTES:
        return texts([*_elements(given, spec, data)], given, spec)
    needed = math.prod(given.shape) * DTYPES[spec.datatype].itemsize
    if given.parameters.binary_data_size != needed or len(data) != needed:
        raise Refusal(
            400,
            f"input {spec.name!r}: binary_data_size {given.parameters.binary_data_size}, {len(data)} bytes in the body; "
            f"{spec.datatype} of shape {list(given.shape)} needs {needed}",
        )
    return finite(np.frombuffer(data, DTYPES[spec.datatype]).reshape(given.shape), spec)


def texts(found: list[str], given: InferInput, spec: TensorSpec) -> Array:
    """The tensor of these. Raises Refusal 400 where there are more or fewer than its shape has."""
    if len(found) != math.prod(given.shape):
        raise Refusal(
            400, f"input {spec.name!r}: {len(found)} texts given; shape {list(given.shape)} needs {math.prod(given.shape)}"
        )
    return np.array(found, object).reshape(given.shape)


def _elements(given: InferInput, spec: TensorSpec, data: bytes) -> Iterator[str]:
    """Those of BYTES in binary data. Raises Refusal 400 for lengths that are not those of the data, and what is not UTF-8."""
    at, size = 0, len(data)
    if given.parameters.binary_data_size != size:
        size = -1
    while 0 <= at < size:
        end = at + 4 + int.from_bytes(data[at : at + 4], "little") if at + 4 <= size else size + 1
        if end > size:
            break
        try:
            yield data[at + 4 : end].decode()
        except UnicodeDecodeError as error:
            raise Refusal(400, f"input {spec.name!r}: not UTF-8 at byte {at + 4 + error.start}") from None
        at = end
    if at != size:
        raise Refusal(
            400,
            f"input {spec.name!r}: binary_data_size {given.parameters.binary_data_size}, {len(data)} bytes in the body; BYTES are"
            " each text's length in four bytes, then the text in UTF-8",
        )


def _flat(data: list[Any], *, depth: int) -> Iterator[Any]:
    """What the lists hold, in at most so many levels of them."""
    for each in data:
        if isinstance(each, list) and depth > 1:
            yield from _flat(each, depth=depth - 1)
        else:
            yield each


def from_json(given: InferInput, spec: TensorSpec) -> Array:
    """The tensor in the JSON `data`, flat or nested. Raises Refusal 400."""
    if spec.datatype == BYTES:
        every = [*_flat(given.data, depth=len(given.shape))] if isinstance(given.data, list) else []
        found = [each for each in every if isinstance(each, str)]
        if len(found) < len(every) or not every:
            raise Refusal(400, f"input {spec.name!r}: data must be a list of texts")
        return texts(found, given, spec)
    kind = "whole numbers" if spec.datatype == "INT64" else "numbers"
    # numpy would make room for the longest string in every place
    if not isinstance(given.data, list) or not numbers(given.data, depth=len(given.shape)):
        raise Refusal(400, f"input {spec.name!r}: data must be a list of {kind}")
    try:
        array = np.asarray(given.data)
    except ValueError:
        raise Refusal(400, f"input {spec.name!r}: data is ragged") from None
    if spec.datatype == "INT64" and array.dtype.kind == "f" and np.array_equal(array, np.rint(array)):
        array = array.astype(np.int64)  # 1.0 is a whole number in JSON
    kinds = "iu" if spec.datatype == "INT64" else "fiu"
    if array.dtype.kind not in kinds:
        raise Refusal(400, f"input {spec.name!r}: data must be a list of {kind}")
    if array.size != math.prod(given.shape):
        raise Refusal(
            400, f"input {spec.name!r}: {array.size} numbers given; shape {list(given.shape)} needs {math.prod(given.shape)}"
        )
    with np.errstate(over="ignore"):
        return finite(array.reshape(given.shape).astype(DTYPES[spec.datatype]), spec)


def numbers(data: list[Any], *, depth: int) -> bool:
    """Whether the list holds numbers alone, in at most so many levels of lists."""
    kinds = set(map(type, data))
    if kinds == {list}:
        return depth > 1 and all(numbers(each, depth=depth - 1) for each in data)
    return kinds <= {int, float}


def finite(array: Array, spec: TensorSpec) -> Array:
    """The array itself. Raises Refusal 400 when it holds NaN or an infinity, which no item could come of."""
    if spec.datatype == "FP32" and not all_finite(array.astype(np.float32, copy=False)):
        raise Refusal(400, f"input {spec.name!r}: holds NaN, an infinity or a number beyond FP32")
    return array


def all_finite(array: Array) -> bool:
    """Whether it holds neither NaN nor an infinity."""
    return bool(np.isfinite(array).all())


def wants_binary(request: InferRequest, output: TensorSpec) -> bool:
    """Whether the output is to be sent as binary data. Raises Refusal 400 when another output is asked for."""
    for asked in request.outputs:
        if asked.name != output.name:
            raise Refusal(400, f"output {asked.name!r} asked for; the model makes {output.name!r}")
    if len(request.outputs) > 1:
        raise Refusal(400, f"output {output.name!r} asked for {len(request.outputs)} times; once is enough")
    own = request.outputs[0].parameters.binary_data if request.outputs else None
    return request.parameters.binary_data_output if own is None else own


@dataclass(frozen=True)
class Reply:
    """What an infer reply says beside its tensor."""

    model: str
    version: str
    request_id: str = ""

    def with_output(self, tensor: dict[str, Any]) -> bytes:
        """Its JSON."""
        own = {"id": self.request_id} if self.request_id else {}
        return dumps({"model_name": self.model, "model_version": self.version, **own, "outputs": [tensor]})


def encode(reply: Reply, output: TensorSpec, x: Array, *, binary: bool) -> tuple[bytes, dict[str, str]]:
    """The body of an infer reply, and its headers."""
    data = np.ascontiguousarray(x, DTYPES[output.datatype])
    if not binary:
        tensor = {"name": output.name, "datatype": output.datatype, "shape": list(x.shape), "data": data.ravel().tolist()}
        return reply.with_output(tensor), {"Content-Type": "application/json"}
    header = (_remembered_head if len(reply.request_id) <= REMEMBERED_BYTES else _head)(reply, output, x.shape)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(header))}
    return b"".join((header, data.data)), headers


def _head(reply: Reply, output: TensorSpec, shape: tuple[int, ...]) -> bytes:
    """The JSON before the tensor's bytes."""
    size = math.prod(shape) * DTYPES[output.datatype].itemsize
    tensor = {"name": output.name, "datatype": output.datatype, "shape": list(shape)}
    return reply.with_output(tensor | {"parameters": {"binary_data_size": size}})


_remembered_head = lru_cache(maxsize=64)(_head)  # many replies differ in the bytes alone


def dumps(value: dict[str, Any]) -> bytes:
    """Compact JSON; NaN, which JSON lacks, is an error."""
    return _COMPACT.encode(value).encode()
