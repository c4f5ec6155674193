# /// script
# requires-python = ">=3.11"
# dependencies = ["tritonclient[http]==2.73.0", "numpy>=2"]
# ///
"""Triton's own HTTP client, unchanged, against the server at argv[1] (host:port): prints what it saw as JSON."""

import hashlib
import json
import sys

import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1])
model = sys.argv[2]
metadata = client.get_model_metadata(model)
config = client.get_model_config(model)
z = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)


def image(*, binary: bool) -> np.ndarray:
    given = triton.InferInput("z", z.shape, "FP32")
    given.set_data_from_numpy(z, binary_data=binary)
    wanted = triton.InferRequestedOutput("x", binary_data=binary)
    reply = client.infer(model, [given], outputs=[wanted], request_id="7")
    assert reply.get_response()["id"] == "7"
    return reply.as_numpy("x")


both = [image(binary=True), image(binary=False)]
refused = ""
try:
    client.infer(model, [triton.InferInput("y", [1, 16], "FP32").set_data_from_numpy(z[:1])])
except triton.InferenceServerException as error:
    refused = error.message()
said = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": client.is_model_ready(model),
    "server": client.get_server_metadata()["name"],
    "index": client.get_model_repository_index(),
    "versions": metadata["versions"],
    "inputs": metadata["inputs"],
    "max_batch_size": config["max_batch_size"],
    "shape": list(both[0].shape),
    "apart": float(np.abs(both[0] - both[1]).max()),
    "sha256": hashlib.sha256(both[0].tobytes()).hexdigest(),
    "noise": hashlib.sha256(z.tobytes()).hexdigest(),
    "refused": refused,
}
print(json.dumps(said))
