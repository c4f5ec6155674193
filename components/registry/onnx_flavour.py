"""The files by which MLflow knows a bundle's graph as a model of its ONNX flavour: MLmodel, an environment, an input example.

They are text: no pickle, no code, no copy of the graph, which lies beside them as it is in the bundle (`mlflow.onnx.save_model`
would write it anew, its weights in a file of their own). https://mlflow.org/docs/latest/ml/model/#storage-format

A release by LoRA of a base that was made with diffusers is of MLflow's diffusers flavour besides: its adapter, as peft reads it,
and the name of the base. `mlflow.diffusers.save_model` would ask the hub for the base's newest commit, whichever it learnt from.
That flavour knows adapters alone: what was fine-tuned whole lies beside the graph as a folder of diffusers.
"""

import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import yaml

from components.core.bundles import MODEL_ONNX
from components.core.files import write_whole
from components.core.noise import draw
from components.core.records import Bundle
from components.runtime.contract import NUMPY_TYPES, TensorSpec, inputs_of, output_of

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

MLMODEL = "MLmodel"
MATRICES = "adapter_model.safetensors"  # of peft
CONDA, VIRTUALENV, REQUIREMENTS = "conda.yaml", "python_env.yaml", "requirements.txt"
EXAMPLE, REQUEST = "input_example.json", "serving_input_example.json"  # as `predict` takes it, and as MLflow's server does
ADAPTER = "adapter_weights"  # the folder that mlflow.diffusers knows
PIPELINE = "pipeline"  # the folder of a whole model, as diffusers reads it; no flavour of MLflow has one
PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}


@dataclass(frozen=True)
class Adapter:
    """What peft reads, of a bundle's files on this machine; and its base, by a name of the hub with its commit, else by ours."""

    files: tuple[Path, ...]
    base_model: str
    revision: str | None = None


def write_flavour(
    folder: Path,
    bundle: Bundle,
    *,
    sha256: str,
    model_id: str,
    run_id: str | None,
    location: str,
    adapter: Adapter | None = None,
) -> None:
    """Write them into a folder. `sha256` is the bundle's; `location`, where MLflow keeps the model `model_id`."""
    from mlflow import pyfunc
    from mlflow.models import Model

    model = Model(
        artifact_path=location,
        run_id=run_id,
        model_uuid=model_id,
        model_id=model_id,
        signature=signature_of(bundle),
        saved_input_example_info={"artifact_path": EXAMPLE, "serving_input_path": REQUEST, "type": "ndarray"},
        metadata=_metadata(bundle, sha256) | ({"pipeline": PIPELINE} if (folder / PIPELINE).is_dir() else {}),
        model_size_bytes=next(file.size_bytes for file in bundle.files if file.name == MODEL_ONNX),
    )
    pyfunc.add_to_model(model, loader_module="mlflow.onnx", data=MODEL_ONNX, conda_env=CONDA, python_env=VIRTUALENV)
    device = bundle.admission.device if bundle.admission else "cpu"
    model.add_flavor("onnx", onnx_version=version("onnx"), data=MODEL_ONNX, providers=PROVIDERS[device])
    if adapter is not None:
        revision = {"base_model_revision": adapter.revision} if adapter.revision else {}
        own = {"adapter_type": "lora", "adapter_weights": ADAPTER, "weight_name": MATRICES, "code": None}
        diffusers = version("diffusers")
        model.add_flavor("diffusers", base_model=adapter.base_model, diffusers_version=diffusers, **own, **revision)
        for path in adapter.files:
            write_whole(folder / ADAPTER / path.name, path.read_bytes())
    model.save(folder / MLMODEL)
    example = {name: rows.tolist() for name, rows in example_of(bundle).items()}
    write_whole(folder / EXAMPLE, json.dumps(example).encode())
    write_whole(folder / REQUEST, json.dumps({"inputs": example}).encode())
    _write_environment(folder, also=_of_diffusers(folder))


def signature_of(bundle: Bundle) -> "ModelSignature":
    """The graph's inputs, noise and condition, and its items: names, types, and shapes of which the first axis is the batch."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema
    from mlflow.types import TensorSpec as Column

    def column(spec: TensorSpec) -> Any:
        return Column(np.dtype(NUMPY_TYPES[spec.datatype]), (-1, *spec.shape), spec.name)

    return ModelSignature(Schema([column(spec) for spec in inputs_of(bundle)]), Schema([column(output_of(bundle))]))


def example_of(bundle: Bundle) -> dict[str, npt.NDArray[np.generic]]:
    """What one item is made of, [1, *shape] an input: the noise of seed 0, and the condition of who asks for nothing."""
    example: dict[str, npt.NDArray[np.generic]] = dict(draw(bundle.noise, [0]))
    if bundle.condition is not None and bundle.spec.condition is not None:
        example[bundle.condition] = bundle.spec.condition.rows(1)
    return example


def _metadata(bundle: Bundle, sha256: str) -> dict[str, Any]:
    """What the signature does not tell: the bundle, how noise is drawn, and of what modality items are."""
    item = bundle.spec.item
    return {
        "bundle_sha256": sha256,
        "family": f"{bundle.family}/{bundle.variant}",
        "noise": {noise.name: noise.distribution for noise in bundle.noise},
        "modality": item.modality,
        "classes": list(bundle.spec.classes),
    }


def _of_diffusers(folder: Path) -> list[str]:
    """What loads the adapter or the pipeline that lies beside the graph."""
    if (folder / ADAPTER).is_dir():
        return ["torch", "diffusers", "peft", "safetensors"]
    return ["torch", "diffusers", "safetensors"] if (folder / PIPELINE).is_dir() else []


def _write_environment(folder: Path, *, also: list[str]) -> None:
    """What `mlflow models serve` installs: MLflow, onnx and ONNX Runtime as they are here, what loads the files beside the graph,
    and nothing of genwright."""
    import onnxruntime

    python = platform.python_version()
    needs = [f"mlflow=={version('mlflow')}", f"onnx=={version('onnx')}", f"onnxruntime=={onnxruntime.__version__}"]
    needs += [f"{name}=={version(name).partition('+')[0]}" for name in also]  # without the build, as MLflow pins
    conda = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": [f"python={python}", "pip", {"pip": needs}]}
    virtualenv = {"python": python, "build_dependencies": ["pip"], "dependencies": [f"-r {REQUIREMENTS}"]}
    for name, document in ((CONDA, conda), (VIRTUALENV, virtualenv)):
        write_whole(folder / name, yaml.safe_dump(document, sort_keys=False).encode())
    write_whole(folder / REQUIREMENTS, "\n".join(needs).encode())
