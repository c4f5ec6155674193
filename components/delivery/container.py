"""A container build for one release: a Dockerfile, the bundle, and what the server needs, pinned as it is installed here."""

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement

from components.core.bundles import BUNDLE_JSON, text_encoder_of
from components.core.files import write_whole
from components.core.records import Bundle

NEEDED = ("numpy", "pillow", "prometheus-client", "pydantic", "pyyaml", "starlette", "uvicorn", "uvloop", "httptools")
TOKENIZERS = "tokenizers"  # of bundles that are asked in words
RUNTIME = "onnxruntime"  # for a CPU, whichever is installed here
RUNTIMES = (RUNTIME, "onnxruntime-gpu")
SOURCES = ("core", "modalities", "runtime", "serving")  # of components: what the server imports

DOCKERFILE = """\
# {model} version {version}, bundle {sha256}
# docker build -t {model}:{version} . && docker run -p 8000:8000 {model}:{version}
FROM python:{python}-slim
RUN useradd --create-home --uid 10001 genwright
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --requirement requirements.txt
COPY components components
COPY bundle bundle
USER 10001
ENV PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \\
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready')"]
ENTRYPOINT ["python", "-m", "components.serving", "bundle", "--model", "{model}", "--version", "{version}", "--host", "0.0.0.0"]
"""


def write_container(folder: Path, bundle: Bundle, *, sha256: str, version: int, to: Path) -> list[Path]:
    """Write a folder that `docker build` takes; what was written at its top."""
    root = to / f"{bundle.model}-container"
    shutil.rmtree(root, ignore_errors=True)
    (root / "bundle").mkdir(parents=True)
    for name in (BUNDLE_JSON, *(file.name for file in bundle.files)):
        shutil.copyfile(folder / name, root / "bundle" / name)
    components = Path(__file__).parents[1]
    ignored = shutil.ignore_patterns("__pycache__")
    for part in SOURCES:
        shutil.copytree(components / part, root / "components" / part, ignore=ignored)
    shutil.copyfile(components / "__init__.py", root / "components" / "__init__.py")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"  # whose pins these are
    text = DOCKERFILE.format(model=bundle.model, version=version, sha256=sha256, python=python)
    lines = requirements(words=text_encoder_of(bundle) is not None)
    write_whole(root / "requirements.txt", "".join(f"{line}\n" for line in lines).encode())
    write_whole(root / "Dockerfile", text.encode())
    return [root / name for name in ("Dockerfile", "requirements.txt", "bundle", "components")]


def requirements(*, words: bool = False) -> list[str]:
    """What the server needs, with all that it needs in turn, each at the version that is installed here; `words`: to read
    prompts, too."""
    here = next(name for name in RUNTIMES if _installed(name))
    needed = (*NEEDED, here, *([TOKENIZERS] if words else ()))
    pinned = {name: version(name) for name in _closure(needed) if name != here}
    return [f"{name}=={number}" for name, number in sorted((pinned | {RUNTIME: version(here)}).items())]


def _closure(names: tuple[str, ...]) -> Iterator[str]:
    seen, waiting = set(), [*names]
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen or _installed(name) is None:
            continue
        seen.add(name)
        yield name
        for line in distribution(name).requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(needed.name)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
