# /// script
# requires-python = ">=3.11"
# dependencies = ["tritonclient[http]==2.73.0", "numpy>=2"]
# ///
"""Triton's own HTTP client, which sends texts and tokens to the server at argv[1] (host:port): prints what it saw as JSON."""

import hashlib
import json
import sys

import numpy as np
import tritonclient.http as triton

PROMPTS = ["a red cat", "a cats on the moon two small dogish birds"]
TOKENS = [[2, 4, 5, 8, 3, 0, 0, 0], [2, 4, 8, 17, 12, 13, 14, 3]]
client, model = triton.InferenceServerClient(sys.argv[1]), sys.argv[2]
z = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
texts = np.array([[each.encode()] for each in PROMPTS], object)
tokens = np.array(TOKENS, np.int64)


def image(name: str, datatype: str, rows: np.ndarray, *, binary: bool) -> str:
    noise = triton.InferInput("z", z.shape, "FP32").set_data_from_numpy(z)
    asked = triton.InferInput(name, rows.shape, datatype).set_data_from_numpy(rows, binary_data=binary)
    return hashlib.sha256(client.infer(model, [noise, asked]).as_numpy("x").tobytes()).hexdigest()


said = {
    "binary": image("prompt", "BYTES", texts, binary=True),
    "json": image("prompt", "BYTES", texts, binary=False),
    "tokens": image("tokens", "INT64", tokens, binary=True),
    "in_place_of": [each["name"] for each in client.get_model_metadata(model)["parameters"]["in_place_of"]["condition"]],
}
print(json.dumps(said))
