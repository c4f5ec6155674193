"""A text encoder as one ONNX graph: tokens in, a row for each out, the mask inside.

BERT and T5 attend to the tokens alone and take texts of any length; their rows of padding are zero. CLIP's text model attends
to what stands before, padding too, and always reads as many tokens as it has places for: all its rows count, as Stable Diffusion
uses them.

N texts, L tokens, D features.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from components.core.errors import DataError, ExportError
from components.core.files import write_whole
from components.encoders.eight_bits import lowered
from components.encoders.source import Source
from components.runtime.session import opened

if TYPE_CHECKING:
    import onnx

OPSET = 21
TOLERANCE = 1e-5  # of what fp32 makes, for each unit of the largest number of the batch
COSINE_LEAST = 0.97  # between a row of eight bits and that of fp32
EXAMPLES = 2  # with 1 the exporter would fix the batch at 1


class Rows(nn.Module):
    """tokens [N, L] -> float32 [N, L, D]."""

    def __init__(self, model: nn.Module, *, pad: int | None) -> None:
        super().__init__()
        self.model, self.pad = model, pad

    def forward(self, tokens_NL: Tensor) -> Tensor:
        if self.pad is None:
            rows: Tensor = self.model(input_ids=tokens_NL).last_hidden_state
            return rows
        told_NL = tokens_NL != self.pad
        rows = self.model(input_ids=tokens_NL, attention_mask=told_NL.long()).last_hidden_state
        return rows * told_NL[..., None].to(rows.dtype)


def load(source: Source) -> nn.Module:
    """The network in fp32, by transformers. Raises DataError where the weights are not those of the config."""
    from transformers import BertModel, CLIPTextModel, T5EncoderModel, UMT5EncoderModel

    cls: Any = {"bert": BertModel, "clip": CLIPTextModel, "t5": T5EncoderModel}[source.kind]
    if source.config["model_type"] == "umt5":  # whose blocks have places of their own
        cls = UMT5EncoderModel
    own = {"add_pooling_layer": False} if source.kind == "bert" else {}
    halves = {"variant": "fp16"} if ".fp16." in source.weights[0].name else {}
    try:
        with quiet():
            model, found = cls.from_pretrained(
                source.model,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
                **own,
                **halves,
            )
    except Exception as error:  # whatever safetensors, torch or transformers say of files that do not fit
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{source.where}: the weights of {source.name} cannot be read: {said}", do="fetch it again") from error
    if missing := sorted(found["missing_keys"]):
        raise DataError(
            f"{source.where}: the weights of {source.name} lack {missing[0]} and {len(missing) - 1} others", do="fetch it again"
        )
    network: nn.Module = model.eval().requires_grad_(False)
    return network


def write_graph(source: Source, path: Path, *, length: int, pad: int, precision: str) -> None:
    """Write the encoder to `path`. Raises ExportError where the graph does not make what torch makes."""
    rows = Rows(load(source), pad=None if source.kind == "clip" else pad).eval()
    model = exported(rows, source, length=length)
    write_whole(path, model.SerializeToString())
    tokens = examples(source, length=length, pad=pad)
    with torch.no_grad():
        wanted = [rows(torch.from_numpy(each)).numpy() for each in tokens]
    check(path, tokens, wanted, source)
    if precision == "int8":
        write_whole(path, lowered(model).SerializeToString())
        check_near(path, tokens, wanted, source)


def exported(rows: Rows, source: Source, *, length: int) -> "onnx.ModelProto":
    """The graph as torch's exporter makes it, checked by onnx."""
    import onnx

    dynamic = torch.export.Dim.DYNAMIC
    shapes = {0: dynamic} if source.kind == "clip" else {0: dynamic, 1: dynamic}
    example = torch.ones(EXAMPLES, length, dtype=torch.int64)
    try:
        with quiet(), torch.no_grad():
            traced = torch.export.export(rows, (example,), dynamic_shapes=(shapes,))
            program = torch.onnx.export(
                traced, dynamo=True, opset_version=OPSET, input_names=["tokens"], output_names=["made"], verbose=False
            )
        assert program is not None
        model = program.model_proto
        _name_output(model.graph)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(f"text encoder {source.name} cannot be exported to ONNX: {first}") from error
    return model


def examples(source: Source, *, length: int, pad: int) -> list[Any]:
    """Tokens in batches of several sizes, filled up as texts are; and of any length, where that is taken."""
    rng = np.random.default_rng(0)
    found = []
    for n in (1, 2, 5):
        tokens = rng.integers(0, source.vocabulary, (n, length))
        tokens[tokens == pad] = (pad + 1) % source.vocabulary
        for k in range(n):
            tokens[k, 1 + (5 * k + 2) % length :] = pad
        found.append(tokens)
    return found if source.kind == "clip" else [*found, found[1][:, : max(2, length // 2)], np.full((2, length), pad)]


def check(path: Path, tokens: list[Any], wanted: list[Any], source: Source) -> None:
    """Raises ExportError where fp32 differs from torch."""
    session = opened(path, threads=1)
    for each, rows in zip(tokens, wanted, strict=True):
        (made,) = session.run(["embedding"], {"tokens": each})
        most = TOLERANCE * max(1.0, float(np.abs(rows).max()))
        if not (np.isfinite(made).all() and made.shape == rows.shape and np.abs(made - rows).max() <= most):
            raise ExportError(
                f"text encoder {source.name}: its graph and torch differ by {np.abs(made - rows).max():.1g}",
                allowed=f"{most:.1g}",
            )


def check_near(path: Path, tokens: list[Any], wanted: list[Any], source: Source) -> None:
    """Raises ExportError where a row of eight bits points elsewhere than that of fp32."""
    session = opened(path, threads=1)
    for each, rows in zip(tokens, wanted, strict=True):
        (made,) = session.run(["embedding"], {"tokens": each})
        lengths = np.linalg.norm(made, axis=-1) * np.linalg.norm(rows, axis=-1)
        cosine = np.where(lengths > 0, (made * rows).sum(-1) / np.maximum(lengths, 1e-12), 1.0).min()
        if not cosine >= COSINE_LEAST:
            raise ExportError(
                f"text encoder {source.name} in int8: a row has a cosine of {cosine:.3f} with that of fp32",
                allowed=f"{COSINE_LEAST}",
                do="write text: {precision: fp32}",
            )


def _name_output(graph: Any) -> None:
    """Call the rows `embedding`, which the exporter calls what it looks up, and drop its notes."""
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                names[at] = {"embedding": "embedding_of_token", "made": "embedding"}.get(name, name)
    for value in (*graph.output, *graph.value_info):
        value.name = {"embedding": "embedding_of_token", "made": "embedding"}.get(value.name, value.name)
    for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del value.metadata_props[:]
    del graph.metadata_props[:]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter and transformers talk to their developers; our users need none of it."""
    from transformers.utils import logging as told

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels, verbosity, bars = [logger.level for logger in loggers], told.get_verbosity(), told.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        told.set_verbosity_error()
        told.disable_progress_bar()
        try:
            yield
        finally:
            told.set_verbosity(verbosity)
            if bars:
                told.enable_progress_bar()
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
