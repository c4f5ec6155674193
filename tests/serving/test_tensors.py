"""What is encoded is decoded to the same bits, in JSON and in binary."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from components.runtime.contract import TensorSpec
from components.serving.tensors import Reply, all_finite, decode, encode, parse_request

REAL = TensorSpec("z", "FP32", (2, 3))
WHOLE = TensorSpec("label", "INT64", ())
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@pytest.mark.parametrize("size", [1, 5, 8193])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_found_among_large_ones(size: int, bad: float) -> None:
    large = np.full((size,), 3e38, np.float32)  # whose squares are beyond FP32
    assert all_finite(large)
    large[size // 2] = bad
    assert not all_finite(large)
    assert all_finite(np.full((size,), 255, np.uint8))


def test_the_id_of_a_request_comes_back() -> None:
    for request_id in ("", "a", "b" * 5000):
        body, headers = encode(Reply("m", "7", request_id), REAL, np.zeros((1, 2, 3), np.float32), binary=True)
        told = json.loads(body[: int(headers["Inference-Header-Content-Length"])])
        assert told.get("id", "") == request_id
        assert (told["model_name"], told["model_version"]) == ("m", "7")
        assert told["outputs"][0]["parameters"] == {"binary_data_size": 24}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), n=st.integers(1, 5), binary=st.booleans())
def test_there_and_back(data: st.DataObject, n: int, binary: bool) -> None:
    reals = data.draw(st_numpy.arrays(np.float32, (n, 2, 3), elements=finite))
    wholes = data.draw(st_numpy.arrays(np.int64, (n,)))
    headers, bodies = [], []
    for spec, array in ((REAL, reals), (WHOLE, wholes)):
        body, described = encode(Reply("m", "1"), spec, array, binary=binary)
        at = int(described.get("Inference-Header-Content-Length", len(body)))
        headers += json.loads(body[:at])["outputs"]
        bodies.append(body[at:])
    header = json.dumps({"inputs": headers}).encode()
    message, rest = parse_request(header + b"".join(bodies), str(len(header)))
    back: dict[str, Any] = decode(message.inputs, rest, [(WHOLE, REAL)], count_max=5)
    assert back["z"].dtype == np.float32
    assert back["z"].tobytes() == reals.tobytes()
    assert np.array_equal(back["label"], wholes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(given=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5), binary=st.booleans())
def test_texts_arrive_as_they_are(given: list[str], binary: bool) -> None:
    tensor: dict[str, Any] = {"name": "prompt", "datatype": "BYTES", "shape": [len(given), 1]}
    data = b"".join(len(raw).to_bytes(4, "little") + raw for raw in (text.encode() for text in given)) if binary else b""
    tensor |= {"parameters": {"binary_data_size": len(data)}} if binary else {"data": [[text] for text in given]}
    header = json.dumps({"inputs": [tensor]}).encode()
    message, rest = parse_request(header + data, str(len(header)))
    back: dict[str, Any] = decode(message.inputs, rest, [(TensorSpec("prompt", "BYTES", (1,)),)], count_max=5)
    assert back["prompt"].tolist() == [[text] for text in given]
