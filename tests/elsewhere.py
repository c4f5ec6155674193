"""A process as anybody may have it: site-packages and no genwright. -S reads no .pth, by which an editable one would be found.

`python -I -S elsewhere.py SITE_PACKAGES MODEL_URI` loads a model through MLflow, and says what it found.
"""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

OURS = ("components", "flows.settings", "genwright")


def load_elsewhere(tracking_uri: str, uri: str, folder: Path) -> Any:
    """What such a process finds under a model's URI: in a new folder, with pickle forbidden, and without a warning."""
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENWRIGHT_", "MLFLOW_", "PYTHON"))}
    told = {
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-I", "-S", __file__, sysconfig.get_paths()["purelib"], uri]
    done = subprocess.run(command, cwd=folder, env=kept | told, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    assert [path.name for path in folder.iterdir()] == []
    return json.loads(done.stdout)


def run_elsewhere(program: str, *arguments: str | Path, folder: Path) -> str:
    """What a program prints that such a process runs in a folder; its arguments are sys.argv[1:]."""
    begin = f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]; import elsewhere; elsewhere.without_ours()\n"
    command = [sys.executable, "-I", "-S", "-c", begin + program, *map(str, arguments)]
    told = {name: value for name, value in os.environ.items() if not name.startswith(("GENWRIGHT_", "PYTHON"))}
    told["SITE"] = sysconfig.get_paths()["purelib"]
    done = subprocess.run(command, cwd=folder, env=told, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def without_ours() -> None:
    """Find what is installed, from here on, and nothing of genwright."""
    sys.path.append(os.environ["SITE"])
    assert [name for name in OURS if importlib.util.find_spec(name)] == []


def main() -> None:
    site, uri = sys.argv[1:]
    os.environ["SITE"] = site
    without_ours()
    import mlflow.onnx
    import mlflow.pyfunc

    graph, model = mlflow.onnx.load_model(uri), mlflow.pyfunc.load_model(uri)
    made = model.predict(model.input_example)
    told = {
        "nodes": len(graph.graph.node),
        "inputs": {name: [str(rows.dtype), *rows.shape] for name, rows in model.input_example.items()},
        "made": {name: rows.tolist() for name, rows in made.items()},
        "metadata": model.metadata.metadata,
        "run_id": model.metadata.run_id,
    }
    assert "torch" not in sys.modules
    print(json.dumps(told))


if __name__ == "__main__":
    main()
