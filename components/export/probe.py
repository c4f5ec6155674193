"""The process in which a graph is read, loaded and run before anything trusts it: `python -m components.export.probe`.

It takes a Question as JSON on standard input and answers with the checks as JSON on standard output. Its memory and its
processor time are limited by the kernel, so a graph that asks for gigabytes, never ends or crashes the runtime does that here.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from components.core.bundles import TEXT_ENCODER
from components.core.errors import BundleError
from components.core.record import Record
from components.core.records import AdmissionCheck, Bundle, EmbeddingCondition, GraphFile
from components.core.units import levels_to_units
from components.export.inspection import inspect
from components.export.operators import HEAVY
from components.export.precision import MEAN_TOLERANCE
from components.export.refusal import Refused
from components.export.text_encoder import SPARE_TOKENS, vocabulary_of
from components.runtime.contract import Feeds, check_contract, check_graph, check_items, probe
from components.runtime.reference import check_reference
from components.runtime.session import LEVEL, GraphSampler, opened
from components.runtime.text_encoder import TEXTS, prompts_in

TOLERANCE = 2e-3  # in data units of width 2: a quarter of one 8-bit level, as for the parity with torch
ELSEWHERE = 0.1  # share of the items that may differ by more, or one: a sampler that draws categories may round to another
SMALL = 8  # items that are run one by one as well
ORDER = ("file", "load", "contract", "run", "determinism", "reference", "batch", "placement", "graphs")
LEVELLING = ("Cast", "Clip", "Round", "Mul", "Add")  # from the last on: how graph.py makes levels of data units
PR_SET_PDEATHSIG = 1  # of linux/prctl.h
OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "failed to allocate", "out of memory", "allocat")

Units = npt.NDArray[np.float32]  # [N, *shape]


class Question(Record):
    """What to examine, and within which limits."""

    graph: str
    bundle: Bundle
    device: Literal["cpu", "cuda"]
    memory_mb: int  # beyond what the process holds once the runtime is loaded
    seconds: int  # of processor time


class Answer(Record):
    """The checks in the order they were made; the last one says no, or none does."""

    checks: tuple[AdmissionCheck, ...]
    runtime: str


def answer(question: Question) -> Answer:
    """Make every check until one says no."""
    import onnx  # noqa: F401 (before the limit: what the libraries themselves need is not the graph's)
    import onnxruntime as ort

    _limit(question)
    checks: list[AdmissionCheck] = []  # as many as have passed, of ORDER
    try:
        _examine(question, checks)
    except Refused as refused:
        checks.append(refused.check)
    except MemoryError:
        checks.append(Refused("memory", _too_much(question)).check)
    except BundleError as error:
        text = str(error)
        greedy = any(word in text.lower() for word in OUT_OF_MEMORY)
        checks.append(Refused("memory", _too_much(question)).check if greedy else Refused(ORDER[len(checks)], text).check)
    return Answer(checks=tuple(checks), runtime=ort.__version__)


def _examine(question: Question, checks: list[AdmissionCheck]) -> None:
    bundle = question.bundle

    def passed(check: str, text: str) -> None:
        checks.append(AdmissionCheck(check=check, passed=True, text=text))

    passed("file", inspect(Path(question.graph)))
    sampler = _loaded(question)
    passed("load", f"within {question.memory_mb} MB")
    check_contract(bundle, sampler)
    passed("contract", "the inputs and outputs that bundle.json declares")
    feeds = probe(bundle)
    made, item = sampler.run(feeds), bundle.spec.item
    check_items(made, bundle)
    if bundle.output_type == "UINT8":
        _check_units(question, feeds)
    full = levels_to_units(made, item)
    passed("run", f"{bundle.max_batch} items, all values finite, from {full.min():.3f} to {full.max():.3f}")
    _check_deterministic(full, levels_to_units(sampler.run(feeds), item))
    passed("determinism", "the same noise gave the same bytes")
    passed("reference", check_reference(bundle, sampler))
    tolerance = MEAN_TOLERANCE.get(bundle.precision, TOLERANCE if bundle.output_type == "FP32" else LEVEL)
    ones = [{name: rows[k : k + 1] for name, rows in feeds.items()} for k in range(min(SMALL, len(full)))]
    passed(
        "batch",
        _alike(
            full[: len(ones)],
            levels_to_units(np.concatenate([sampler.run(one) for one in ones]), item),
            tolerance=tolerance,
            on_average=bundle.precision in MEAN_TOLERANCE,
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        watched = _loaded(question, profile=Path(folder) / "profile")
        watched.run(ones[0])
        passed("placement", _placed(Path(watched.session.end_profiling()), question.device))
    if bundle.graphs:
        passed("graphs", "; ".join(f"{graph.name}: {_beside(question, graph)}" for graph in bundle.graphs))


def _loaded(question: Question, *, profile: Path | None = None) -> GraphSampler:
    bundle = question.bundle
    sampler = GraphSampler(
        Path(question.graph),
        spec=bundle.spec,
        noise=bundle.noise,
        condition=bundle.condition,
        output=bundle.output,
        device=question.device,
        batch=bundle.max_batch,
        threads=1,
        profile=profile,
    )
    if question.device == "cuda" and "CUDAExecutionProvider" not in sampler.session.get_providers():
        raise Refused("placement", "ONNX Runtime finds no CUDA device it can use")
    return sampler


def _beside(question: Question, graph: GraphFile) -> str:
    """A graph beside the sampler, inspected, loaded and tried. Raises Refused or BundleError."""
    path = Path(question.graph).with_name(graph.file)
    found = inspect(path)
    session = opened(path, threads=1, device=question.device)
    check_graph(graph, session)
    asked = question.bundle.spec.condition
    if graph.name != TEXT_ENCODER or not isinstance(asked, EmbeddingCondition):
        return found
    return f"{found}; {_reads(path, asked, session)}"


def _reads(path: Path, asked: EmbeddingCondition, session: Any) -> str:
    """A text encoder with its tokenizer, tried on texts. Raises Refused or BundleError."""
    prompts, rows = prompts_in(path.parent, asked, session), vocabulary_of(path)
    if rows is not None and not 0 <= rows - prompts.vocabulary <= SPARE_TOKENS:
        raise Refused("graphs", f"{path.name} knows {rows} tokens, its tokenizer {prompts.vocabulary}: they are of two encoders")
    tokens = prompts.tokens(TEXTS)
    if not np.array_equal(prompts.encode(tokens), prompts.encode(tokens)):
        raise Refused("graphs", f"{path.name}: the same text gave two embeddings")
    return f"reads {prompts.vocabulary} tokens"


def _check_units(question: Question, feeds: Feeds) -> None:
    """Raise Refused where the values that a graph makes its levels of are not finite, which the levels do not show."""
    import onnx

    model = onnx.load(question.graph)
    makes = {name: node for node in model.graph.node for name in node.output}
    units = question.bundle.output
    for operator in LEVELLING:
        if (node := makes.get(units)) is None or node.op_type != operator:
            raise Refused("contract", f"{units!r} is not made by {operator}, as levels of data units are")
        units = node.input[0]
    model.graph.output.append(onnx.ValueInfoProto(name=units))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        (made,) = opened(path, threads=1, device=question.device).run([units], dict(feeds))
    if not np.isfinite(made).all():
        raise Refused("run", f"makes values that are NaN or infinite, and levels of them ({units})")


def _placed(profile: Path, device: str) -> str:
    """How many operators ran where. Raises Refused when one that does the work ran elsewhere than on the device."""
    meant = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
    ran = {
        (event["name"], event["args"]["op_name"], event["args"]["provider"])
        for event in json.loads(profile.read_bytes())
        if event.get("cat") == "Node" and "provider" in event.get("args", {})
    }
    if strayed := sorted({op for _, op, provider in ran if provider != meant and op.removeprefix("Fused") in HEAVY}):
        raise Refused("placement", f"{', '.join(strayed)} ran on another device than {device}")
    here = sum(provider == meant for _, _, provider in ran)
    return f"{here} of {len(ran)} operators ran on {device}, all that do the work among them"


def _check_deterministic(first: Units, second: Units) -> None:
    if not np.array_equal(first, second):
        worst = float(np.abs(first - second).max())
        raise Refused("determinism", f"the same noise gave items that differ by {worst:.2g}")


def _alike(together: Units, alone: Units, *, tolerance: float, on_average: bool) -> str:
    """What a batch of N makes of the items that were also run one by one. Raises Refused when it is something else."""
    if together.shape != alone.shape:
        raise Refused("batch", f"batches of one give {list(alone.shape)}, one batch {list(together.shape)}")
    apart_ND = np.abs(together - alone).reshape(len(alone), -1)
    worst_N = apart_ND.mean(1) if on_average else apart_ND.max(1)
    elsewhere = int((worst_N > tolerance).sum())
    if elsewhere > max(1, ELSEWHERE * len(worst_N)):
        raise Refused(
            "batch",
            f"{elsewhere} of {len(worst_N)} items differ by up to {worst_N.max():.2g} when run one by one, not in a batch",
        )
    same = "the same bytes" if worst_N.max() == 0 else f"at most {worst_N.max():.1g} apart"
    return f"{len(worst_N)} items in one batch and one by one: {same}"


def _limit(question: Question) -> None:
    """From here on the kernel refuses what goes beyond; on a GPU only time is limited, since CUDA maps all memory at once.

    Where memory runs out all the same, this process is the one to be ended, and it ends with the one that asks.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (question.seconds, question.seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return  # without /proc: time alone is limited
    Path("/proc/self/oom_score_adj").write_text("1000")
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if question.device == "cpu":
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        held_bytes = int(status["VmData"].removesuffix(" kB")) * 1024
        most = held_bytes + question.memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _too_much(question: Question) -> str:
    return f"it asks for more than {question.memory_mb} MB"


def main() -> None:
    """Answer, on the standard output that this process was started with: what libraries print goes nowhere."""
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    question = Question.model_validate_json(sys.stdin.buffer.read())
    os.write(out, answer(question).canonical())


if __name__ == "__main__":
    main()
