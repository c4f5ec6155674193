"""The Open Inference Protocol v2, spoken by a plain HTTP client and compared with ONNX Runtime itself."""

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest

MODEL, VERSIONED = "/v2/models/digits", "/v2/models/digits/versions/3"


def noise(n: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)


def bare(folder: Path, **feeds: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the graph makes, padded to the full batch as the server may do."""
    n = len(feeds["z"])
    padded = {name: np.concatenate([rows, np.repeat(rows[-1:], 16 - n, axis=0)]) for name, rows in feeds.items()}
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    x: np.ndarray[Any, Any] = session.run(["x"], padded)[0][:n]
    return x


def tensor(z: np.ndarray[Any, Any], **changes: Any) -> dict[str, Any]:
    return {"name": "z", "shape": list(z.shape), "datatype": "FP32", "data": z.ravel().tolist()} | changes


def binary(header: dict[str, Any], *data: bytes) -> dict[str, Any]:
    """The keyword arguments of a request by the binary tensor data extension."""
    text = json.dumps(header).encode()
    return {"content": text + b"".join(data), "headers": {"Inference-Header-Content-Length": str(len(text))}}


def unpacked(reply: httpx.Response) -> tuple[dict[str, Any], bytes]:
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/octet-stream"
    at = int(reply.headers["inference-header-content-length"])
    return json.loads(reply.content[:at]), reply.content[at:]


def test_server_metadata(server: Any) -> None:
    body = server.client.get("/v2").json()
    assert sorted(body) == ["extensions", "name", "version"]
    assert body["name"] == "genwright"
    assert "binary_tensor_data" in body["extensions"]


def test_health(server: Any) -> None:
    for path, body in [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        (f"{MODEL}/ready", {"name": "digits", "ready": True}),
        (f"{VERSIONED}/ready", {"name": "digits", "ready": True}),
    ]:
        reply = server.client.get(path)
        assert (reply.status_code, reply.json()) == (200, body)


@pytest.mark.parametrize("path", [MODEL, VERSIONED])
def test_model_metadata(server: Any, path: str) -> None:
    assert server.client.get(path).json() == {
        "name": "digits",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "z", "datatype": "FP32", "shape": [-1, 16]}],
        "outputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
    }


def test_a_class_index_is_an_input(class_server: Any, classy: Path) -> None:
    inputs = class_server.client.get(MODEL).json()["inputs"]
    assert inputs[1] == {"name": "label", "datatype": "INT64", "shape": [-1]}
    labels = {"name": "label", "shape": [2], "datatype": "INT64", "data": [2, 0]}
    reply = class_server.client.post(f"{MODEL}/infer", json={"inputs": [labels, tensor(noise(2))]})
    x = np.array(reply.json()["outputs"][0]["data"], np.float32).reshape(2, 1, 8, 8)
    assert np.array_equal(x, bare(classy, z=noise(2), label=np.array([2, 0])))
    header = {"inputs": [labels | {"parameters": {"binary_data_size": 16}}, tensor(noise(2))]}
    del header["inputs"][0]["data"]
    again = class_server.client.post(f"{MODEL}/infer", **binary(header, np.array([2, 0], "<i8").tobytes()))
    assert again.json() == reply.json()


def test_index_and_config(class_server: Any) -> None:
    index = class_server.client.post("/v2/repository/index").json()
    assert index == [{"name": "digits", "version": "3", "state": "READY", "reason": ""}]
    config = class_server.client.get(f"{MODEL}/config").json()
    assert config["max_batch_size"] == 256
    assert config["input"][0] == {"name": "z", "data_type": "TYPE_FP32", "dims": [16]}


@pytest.mark.parametrize("path", [f"{MODEL}/infer", f"{VERSIONED}/infer"])
def test_infer_with_json(server: Any, plain: Path, path: str) -> None:
    z = noise(3)
    reply = server.client.post(path, json={"id": "a7", "inputs": [tensor(z)], "outputs": [{"name": "x"}]})
    assert reply.status_code == 200, reply.text
    body = reply.json()
    (output,) = body.pop("outputs")
    assert body == {"model_name": "digits", "model_version": "3", "id": "a7"}
    assert {key: output[key] for key in ("name", "datatype", "shape")} == {"name": "x", "datatype": "FP32", "shape": [3, 1, 8, 8]}
    assert np.array_equal(np.array(output["data"], np.float32).reshape(3, 1, 8, 8), bare(plain, z=z))
    assert reply.headers["x-model"] == "digits"
    assert len(reply.headers["x-bundle-sha256"]) == 64


def test_nested_data_is_the_same(server: Any) -> None:
    z = noise(2)
    flat, nested = (
        server.client.post(f"{MODEL}/infer", json={"inputs": [tensor(z, data=data)]}) for data in (z.ravel().tolist(), z.tolist())
    )
    assert flat.status_code == 200
    assert nested.json() == flat.json()
    assert "id" not in flat.json()


def test_infer_with_binary_in_and_out(server: Any, plain: Path) -> None:
    z = noise(5)
    given = {"name": "z", "shape": [5, 16], "datatype": "FP32", "parameters": {"binary_data_size": z.nbytes}}
    for ask in ({"outputs": [{"name": "x", "parameters": {"binary_data": True}}]}, {"parameters": {"binary_data_output": True}}):
        header, data = unpacked(server.client.post(f"{MODEL}/infer", **binary({"inputs": [given]} | ask, z.tobytes())))
        assert header["outputs"] == [
            {"name": "x", "datatype": "FP32", "shape": [5, 1, 8, 8], "parameters": {"binary_data_size": 5 * 64 * 4}}
        ]
        assert np.array_equal(np.frombuffer(data, "<f4").reshape(5, 1, 8, 8), bare(plain, z=z))


def test_an_outputs_own_wish_outranks_the_requests(server: Any) -> None:
    body = {"inputs": [tensor(noise(1))], "parameters": {"binary_data_output": True}}
    body["outputs"] = [{"name": "x", "parameters": {"binary_data": False}}]
    assert server.client.post(f"{MODEL}/infer", json=body).headers["content-type"] == "application/json"


def test_json_in_and_binary_out_agree_with_json_out(server: Any) -> None:
    z = noise(40)  # more than one batch, and large enough to be handled off the event loop
    asked = {"inputs": [tensor(z)]}
    as_json = server.client.post(f"{MODEL}/infer", json=asked).json()["outputs"][0]["data"]
    _, data = unpacked(server.client.post(f"{MODEL}/infer", json=asked | {"parameters": {"binary_data_output": True}}))
    assert np.array_equal(np.array(as_json, np.float32), np.frombuffer(data, "<f4"))


Z = noise(1)
BAD_JSON: dict[str, tuple[Any, str]] = {
    "no inputs": ({}, "inputs: Field required"),
    "a list": ([], "the document"),
    "empty inputs": ({"inputs": []}, "the model takes ['z']"),
    "twice": ({"inputs": [tensor(Z), tensor(Z)]}, "each once"),
    "another name": ({"inputs": [tensor(Z, name="y")]}, "inputs ['y'] given"),
    "another type": ({"inputs": [tensor(Z, datatype="FP64")]}, "datatype 'FP64' given; allowed: FP32"),
    "another shape": ({"inputs": [tensor(Z, shape=[1, 4, 4])]}, "allowed: [-1, 16]"),
    "no dimension": ({"inputs": [tensor(Z, shape=[])]}, "shape [] given"),
    "negative": ({"inputs": [tensor(Z, shape=[-1, 16])]}, "greater than or equal to 0"),
    "nothing": ({"inputs": [tensor(Z, shape=[0, 16], data=[])]}, "0 items given"),
    "too many": ({"inputs": [tensor(Z, shape=[257, 16])]}, "257 items given; allowed: 1 to 256"),
    "too few numbers": ({"inputs": [tensor(Z, data=[1.0])]}, "1 numbers given; shape [1, 16] needs 16"),
    "no data": ({"inputs": [tensor(Z, data=None)]}, "data must be a list"),
    "words": ({"inputs": [tensor(Z, data=["1"] * 16)]}, "data must be a list of numbers"),
    "truths": ({"inputs": [tensor(Z, data=[True] * 16)]}, "data must be a list of numbers"),
    "one long word": ({"inputs": [tensor(Z, data=["x" * 10**5, *[""] * 10**5])]}, "data must be a list of numbers"),
    "too deep": ({"inputs": [tensor(Z, data=[[[[1.0]]]])]}, "data must be a list of numbers"),
    "many inputs": ({"inputs": [tensor(Z)] * 65}, "inputs"),
    "ragged": ({"inputs": [tensor(Z, data=[[1.0], [1.0, 2.0]])]}, "ragged"),
    "beyond float": ({"inputs": [tensor(Z, data=[1e300] * 16)]}, "NaN, an infinity or a number beyond FP32"),
    "beyond all": ({"inputs": [tensor(Z, data=[10**40] * 16)]}, "input 'z'"),
    "another output": ({"inputs": [tensor(Z)], "outputs": [{"name": "y"}]}, "output 'y' asked for"),
    "binary without bytes": ({"inputs": [tensor(Z, data=None, parameters={"binary_data_size": 64})]}, "0 bytes in the body"),
    "bad size": ({"inputs": [tensor(Z, parameters={"binary_data_size": -1})]}, "binary_data_size"),
}


@pytest.mark.parametrize(("body", "says"), BAD_JSON.values(), ids=BAD_JSON)
def test_a_bad_request_is_400(server: Any, body: Any, says: str) -> None:
    reply = server.client.post(f"{MODEL}/infer", json=body)
    assert reply.status_code == 400
    assert list(reply.json()) == ["error"]
    assert says in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


def test_nan_is_400(server: Any) -> None:
    reply = server.client.post(f"{MODEL}/infer", content=json.dumps({"inputs": [tensor(Z, data=[float("nan")] * 16)]}))
    assert (reply.status_code, "NaN" in reply.json()["error"]) == (400, True)


def test_a_class_out_of_range_is_400(class_server: Any) -> None:
    for label in (3, -1):
        inputs = [tensor(Z), {"name": "label", "shape": [1], "datatype": "INT64", "data": [label]}]
        reply = class_server.client.post(f"{MODEL}/infer", json={"inputs": inputs})
        assert (reply.status_code, "allowed: 0 to 2" in reply.json()["error"]) == (400, True)
    inputs = [tensor(noise(2)), {"name": "label", "shape": [1], "datatype": "INT64", "data": [0]}]
    reply = class_server.client.post(f"{MODEL}/infer", json={"inputs": inputs})
    assert (reply.status_code, "first dimensions differ" in reply.json()["error"]) == (400, True)


def test_bad_binary_is_400(server: Any) -> None:
    given = {"name": "z", "shape": [1, 16], "datatype": "FP32", "parameters": {"binary_data_size": 64}}
    good = binary({"inputs": [given]}, Z.tobytes())
    assert server.client.post(f"{MODEL}/infer", **good).status_code == 200
    cases = [
        binary({"inputs": [given]}, Z.tobytes()[:-1]),
        binary({"inputs": [given]}, Z.tobytes(), b"more"),
        binary({"inputs": [given | {"parameters": {"binary_data_size": 60}}]}, Z.tobytes()),
        binary({"inputs": [given | {"data": [0] * 16}]}, Z.tobytes()),
        *(good | {"headers": {"Inference-Header-Content-Length": length}} for length in ("-1", "x", "99999999", "1" * 30, "3")),
    ]
    for case in cases:
        reply = server.client.post(f"{MODEL}/infer", **case)
        assert reply.status_code == 400
        assert "\n" not in reply.json()["error"]


@pytest.mark.parametrize(
    "path", ["/v2/models/other", "/v2/models/digits/versions/4", "/v2/models/other/ready", "/v2/models/digits/x"]
)
def test_what_is_not_served_is_404(server: Any, path: str) -> None:
    reply = server.client.get(path)
    assert (reply.status_code, list(reply.json())) == (404, ["error"])


def test_infer_of_another_model_is_404(server: Any) -> None:
    reply = server.client.post("/v2/models/other/infer", json={"inputs": [tensor(Z)]})
    assert (reply.status_code, reply.json()) == (404, {"error": "model 'other'; served here: 'digits'"})
