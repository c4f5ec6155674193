"""Write the locks from pyproject.toml: `make lock`; what is pinned stays so while it fits, `--upgrade` takes the newest.

requirements.lock holds every package of the one environment but torch, with the hashes of its files. torch comes from one of
two others: requirements-cuda.lock (the registry's build and the CUDA packages it needs) or requirements-cpu.lock (the CPU
build, a twentieth of the download, where a find-links folder offers it). infra/setup.sh chooses; docs/decisions/0001-locks.md
says why.
"""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
CPU_TORCH = """torch==2.13.0+cpu \\
    --hash=sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"""  # CPython 3.11, x86-64
WITH_TORCH = re.compile(r"^(nvidia-(?!ml-py)|cuda-|triton==|torch==)")
HEADER = "# Written by `make lock`; edit pyproject.toml instead.\n"


def resolve(pins: Path, *, upgrade: bool) -> list[str]:
    """The pinned packages of the environment for all platforms, one entry with its hashes each; `pins` is written over."""
    command = [
        "uv",
        "pip",
        "compile",
        "pyproject.toml",
        "--extra=dev",
        "--extra=kubeflow",
        "--extra=postgres",
        "--extra=text",
        "--universal",
        "--python-version=3.11",
    ]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate", "--quiet", f"--output-file={pins}"]
    subprocess.run([*command, *(["--upgrade"] if upgrade else [])], cwd=ROOT, check=True)
    return re.split(r"\n(?=\S)", pins.read_text(encoding="utf-8").strip())


def main() -> None:
    with TemporaryDirectory() as folder:
        pins = Path(folder) / "requirements.txt"
        known = [(ROOT / name).read_text(encoding="utf-8") for name in ("requirements.lock", "requirements-cuda.lock")]
        pins.write_text("".join(known), encoding="utf-8")
        entries = resolve(pins, upgrade="--upgrade" in sys.argv[1:])
    for name, chosen in {
        "requirements.lock": [entry for entry in entries if not WITH_TORCH.match(entry)],
        "requirements-cuda.lock": [entry for entry in entries if WITH_TORCH.match(entry)],
        "requirements-cpu.lock": [CPU_TORCH],
    }.items():
        (ROOT / name).write_text(HEADER + "\n".join(chosen) + "\n", encoding="utf-8")
        print(f"{name}: {len(chosen)} packages", file=sys.stderr)


if __name__ == "__main__":
    main()
