"""GPUs, and whether PyTorch and ONNX Runtime were built for them."""

from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version

from components.operations.finding import Finding, Installation, fail, ok, warn
from components.runtime.devices import device_for

CUDA = "CUDAExecutionProvider"


def check(_installation: Installation) -> Iterator[Finding]:
    """One line for the GPUs; where there are some, one for each library."""
    found = gpus()
    if not found and device_for("auto") == "cpu":
        yield ok("no GPU: trains and serves on the CPU")
        return
    if not found:
        yield fail("NVIDIA's driver is here, and shows no GPU", "look what nvidia-smi says; in a container, give it the GPUs")
        return
    yield ok(", ".join(found))
    if "+cpu" in (torch := version("torch")):
        yield fail(f"torch {torch} is built without CUDA", "install the build of PyPI: pip install torch")
    else:
        yield ok(f"torch {torch}")
    yield providers()


def gpus() -> list[str]:
    """Name and memory of each."""
    import pynvml

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [_told(pynvml, handle) for handle in handles]
    return []


def _told(nvml: object, handle: object) -> str:
    name, memory = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetMemoryInfo(handle)  # type: ignore[attr-defined]
    return f"{name}, {memory.free / 1e9:.0f} of {memory.total / 1e9:.0f} GB free"


def providers() -> Finding:
    """Whether ONNX Runtime has CUDA's."""
    import onnxruntime as ort

    found = ort.get_available_providers()
    if CUDA in found:
        return ok(f"ONNX Runtime {ort.__version__} with {', '.join(found)}")
    return warn(f"ONNX Runtime {ort.__version__} has no {CUDA}: it serves on the CPU", "pip install onnxruntime-gpu")
