"""A model that makes the 256 levels is served as one that makes data units; its infer replies are a quarter of the bytes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def test_levels_are_served(start: Any, server: Any, build: Callable[..., Path]) -> None:
    z = np.random.default_rng(0).standard_normal((5, 16), np.float32)
    body = {"inputs": [{"name": "z", "shape": [5, 16], "datatype": "FP32", "data": z.ravel().tolist()}]}
    with start(build(levels=True)) as levels:
        (output,) = levels.client.get("/v2/models/digits").json()["outputs"]
        assert output == {"name": "x", "datatype": "UINT8", "shape": [-1, 1, 8, 8]}
        (config,) = levels.client.get("/v2/models/digits/config").json()["output"]
        assert config["data_type"] == "TYPE_UINT8"
        (told,) = levels.client.post("/v2/models/digits/infer", json=body).json()["outputs"]
        reply = levels.client.post("/v2/models/digits/infer", json=body | {"parameters": {"binary_data_output": True}})
        drawn = levels.generate(count=4, seed=3, format="npy").content
    header = int(reply.headers["inference-header-content-length"])
    assert json.loads(reply.content[:header])["outputs"][0]["parameters"] == {"binary_data_size": 5 * 64}
    images = np.frombuffer(reply.content[header:], np.uint8)
    assert told["datatype"] == "UINT8"
    assert images.tolist() == told["data"]
    (units,) = server.client.post("/v2/models/digits/infer", json=body).json()["outputs"]
    assert np.array_equal(np.clip(np.rint((np.array(units["data"], np.float32) + 1) * 127.5), 0, 255), images)
    assert drawn == server.generate(count=4, seed=3, format="npy").content
