"""Seals a text encoder beside the sampler that it speaks to: text_encoder.onnx and tokenizer.json, of one encoder."""

from pathlib import Path

from components.core.bundles import TEXT_ENCODER, TEXT_ENCODER_ONNX, TOKENIZER_JSON, text_ports
from components.core.errors import ExportError
from components.core.files import link_or_copy, sha256_of
from components.core.records import Artifact, Bundle, EmbeddingCondition, GraphFile

SPARE_TOKENS = 512  # that an encoder may know beyond its tokenizer: tables are rounded up (T5: 28)


def add_text_encoder(folder: Path, bundle: Bundle, encoder: Path) -> Bundle:
    """Put the files of the encoder's folder into the bundle's, and return the record that names them.

    Raises ExportError where they are missing; that they fit the sampler and each other is for admission to say.
    """
    import onnx

    condition = bundle.spec.condition
    assert isinstance(condition, EmbeddingCondition), "only these are asked in words"
    files = []
    for name in (TEXT_ENCODER_ONNX, TOKENIZER_JSON):
        if not (source := encoder / name).is_file():
            raise ExportError(f"{source}: missing", do="remove the folder, so that it is made again")
        link_or_copy(source, folder / name)
        files.append(Artifact(name=name, sha256=sha256_of(source), size_bytes=source.stat().st_size))
    takes, makes = text_ports(condition)
    opset = onnx.load(encoder / TEXT_ENCODER_ONNX, load_external_data=False).opset_import[0].version
    graph = GraphFile(name=TEXT_ENCODER, file=TEXT_ENCODER_ONNX, inputs=takes, outputs=makes, opset=opset)
    return bundle.model_copy(update={"files": (*bundle.files, *files), "graphs": (*bundle.graphs, graph)})


def vocabulary_of(path: Path) -> int | None:
    """How many tokens the graph at `path` has a row for; None where it does not look them up in a table of its own."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    tables = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    same, rows = {"tokens"}, []
    for node in graph.node:  # in the order in which they run
        if node.op_type in ("Cast", "Identity", "Clip", "Reshape") and node.input[0] in same:
            same |= {*node.output}
        elif node.op_type == "Gather" and node.input[1] in same and node.input[0] in tables:
            rows.append(tables[node.input[0]])
    return max(rows, default=None)
