# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["nvidia-pytriton==0.7.0", "onnxruntime==1.22.1", "numpy<2"]
# ///
"""A real Triton that serves the repository at argv[1], whose ensemble argv[2] is asked as argv[3] says, by Triton's own client.

The Triton that packages hold has no ONNX Runtime of its own: in the parts' configurations `python` takes the place of
`onnxruntime`, and a few lines of Python run the same graphs. The ensemble's configuration is served as it was written. argv[3] is
the JSON of inputs, {name: [datatype, rows]}; prints the outputs as JSON.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytriton
import tritonclient.http as triton

MODEL = """
from pathlib import Path

import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    def initialize(self, args):
        self.session = onnxruntime.InferenceSession(Path(args["model_repository"], args["model_version"], "model.onnx"))

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        names = [node.name for node in self.session.get_inputs()]
        feeds = {name: backend.get_input_tensor_by_name(request, name).as_numpy() for name in names}
        outputs = [node.name for node in self.session.get_outputs()]
        made = zip(outputs, self.session.run(outputs, feeds))
        return backend.InferenceResponse([backend.Tensor(name, rows) for name, rows in made])
"""


def laid_out(repository: Path, root: Path) -> list[str]:
    """The command that serves it, with all that it needs in the folder `root`."""
    shutil.copytree(repository, models := root / "models")
    for config in models.glob("*/config.pbtxt"):
        if (text := config.read_text()) != (ours := text.replace('backend: "onnxruntime"', 'backend: "python"')):
            config.write_text(ours)
            for graph in config.parent.glob("*/model.onnx"):
                graph.with_name("model.py").write_text(MODEL)
    home = Path(pytriton.__file__).parent / "tritonserver"
    stub = home / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}" / "triton_python_backend_stub"
    shutil.copytree(home / "backends", backends := root / "backends")
    shutil.copy(stub, backends / "python" / stub.name)
    command = [str(home / "bin" / "tritonserver"), f"--model-repository={models}", f"--backend-directory={backends}"]
    return [*command, "--allow-grpc=false", "--allow-metrics=false", "--http-address=127.0.0.1"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answered(client: triton.InferenceServerClient, model: str, asked: dict) -> dict:
    inputs = []
    for name, (datatype, rows) in asked.items():
        array = np.array(rows, {"FP32": np.float32, "INT64": np.int64}[datatype])
        inputs.append(triton.InferInput(name, array.shape, datatype).set_data_from_numpy(array))
    reply = client.infer(model, inputs)
    return {each["name"]: reply.as_numpy(each["name"]).tolist() for each in reply.get_response()["outputs"]}


def main() -> None:
    repository, model, asked = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    libraries = Path(pytriton.__file__).parents[1] / "nvidia_pytriton.libs"
    python = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    paths = {"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": python}
    with tempfile.TemporaryDirectory() as folder, Path(folder, "said").open("w+") as said:
        command = [*laid_out(repository, Path(folder)), f"--http-port={(port := free_port())}"]
        server = subprocess.Popen(command, env={**os.environ, **paths}, stdout=said, stderr=said)
        client = triton.InferenceServerClient(f"127.0.0.1:{port}")
        try:
            until = time.monotonic() + 120
            while not ready(client):
                if server.poll() is not None or time.monotonic() > until:
                    sys.exit(Path(folder, "said").read_text()[-6000:])
                time.sleep(0.2)
            print(json.dumps(answered(client, model, asked)))
        finally:
            server.terminate()
            server.wait(60)


def ready(client: triton.InferenceServerClient) -> bool:
    try:
        return bool(client.is_server_ready())
    except OSError:
        return False


if __name__ == "__main__":
    main()
