"""What is encoded is decoded to the same bits, in JSON and in binary."""

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from components.core.contract import TensorSpec
from components.serving.tensors import decode, encode, parse_request

REAL = TensorSpec("z", "FP32", (2, 3))
WHOLE = TensorSpec("label", "INT64", ())
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), n=st.integers(1, 5), binary=st.booleans())
def test_there_and_back(data: st.DataObject, n: int, binary: bool) -> None:
    reals = data.draw(st_numpy.arrays(np.float32, (n, 2, 3), elements=finite))
    wholes = data.draw(st_numpy.arrays(np.int64, (n,)))
    headers, bodies = [], []
    for spec, array in ((REAL, reals), (WHOLE, wholes)):
        body, described = encode({}, spec, array, binary=binary)
        at = int(described.get("Inference-Header-Content-Length", len(body)))
        headers += json.loads(body[:at])["outputs"]
        bodies.append(body[at:])
    header = json.dumps({"inputs": headers}).encode()
    message, rest = parse_request(header + b"".join(bodies), str(len(header)))
    back: dict[str, Any] = decode(message.inputs, rest, (WHOLE, REAL), count_max=5)
    assert back["z"].dtype == np.float32
    assert back["z"].tobytes() == reals.tobytes()
    assert np.array_equal(back["label"], wholes)
