"""Admission: what may be served. A graph is examined in a process of its own before a bundle is sealed or swapped in."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from components.core.bundles import MODEL_ONNX
from components.core.errors import BundleError
from components.core.records import Admission, AdmissionCheck, Bundle
from components.export.probe import Answer, Question
from components.runtime.memory import free_bytes

MEMORY_MB = 4096
SHARE_OF_FREE = 0.8  # of the memory that is free here, where that is less
SECONDS = 600


def examine(
    graph: Path,
    bundle: Bundle,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    memory_mb: int | None = None,
    seconds: int = SECONDS,
    also: tuple[AdmissionCheck, ...] = (),
) -> Admission:
    """The verdict on `graph` under the contract that `bundle` declares; `also` are checks that were made elsewhere.

    The examination may take `memory_mb` beyond what the runtime itself needs (MEMORY_MB, or what is free, by default), and
    `seconds` of processor time. Whatever the graph does to its process, a verdict comes back.
    """
    memory_mb = memory_mb or min(MEMORY_MB, int(SHARE_OF_FREE * free_bytes() / 2**20))
    question = Question(graph=str(graph), bundle=bundle, device=device, memory_mb=memory_mb, seconds=seconds)
    found = _asked(question)
    checks = (*also, *found.checks)
    passed = all(check.passed for check in checks)
    return Admission(verdict="pass" if passed else "fail", device=device, checks=checks, runtime=found.runtime)


def admit(folder: Path, bundle: Bundle, *, device: Literal["cpu", "cuda"] = "cpu") -> Admission:
    """The verdict on a bundle that was read. Raises BundleError with the check that says no when it may not be served."""
    verdict = examine(folder / MODEL_ONNX, bundle, device=device)
    if verdict.verdict == "fail":
        raise BundleError(f"bundle {folder.name[:12]} is not admitted: {verdict.refusal}", do="serve another one")
    return verdict


def _asked(question: Question) -> Answer:
    command = [sys.executable, "-W", "ignore", "-m", "components.export.probe"]
    try:
        done = subprocess.run(
            command, input=question.canonical(), capture_output=True, check=False, timeout=2 * question.seconds + 30
        )
    except subprocess.TimeoutExpired:
        return _ended("time", f"no end within {2 * question.seconds + 30} s")
    try:
        return Answer.model_validate_json(done.stdout)
    except ValidationError:
        return _ended(*_why(done.returncode, question))


def _why(code: int, question: Question) -> tuple[str, str]:
    """What ended a process that gave no answer."""
    if code == -signal.SIGXCPU:
        return "time", f"it took more than {question.seconds} s of processor time"
    if code == -signal.SIGKILL:
        return "memory", "its process was killed, as the system does with the one that asks for most when memory runs out"
    if code < 0:
        return "crash", f"ONNX Runtime was ended by {signal.Signals(-code).name}"
    return "crash", f"the examination ended with exit code {code}"


def _ended(check: str, text: str) -> Answer:
    return Answer(checks=(AdmissionCheck(check=check, passed=False, text=text),), runtime="")
