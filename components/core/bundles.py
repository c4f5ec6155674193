"""A bundle on disk: bundle.json, the files it names, and nothing else. Its address is the SHA-256 of bundle.json's bytes.

Whoever opens a bundle (delivery, the server) comes through `read_bundle`, so that one set of checks stands for all.
"""

import hashlib
import json
import math
import re
import stat
from pathlib import Path

from pydantic import ValidationError

from components.core.errors import BundleError
from components.core.files import sha256_of, write_whole
from components.core.record import first_complaint
from components.core.records import Artifact, Bundle, EmbeddingCondition, GraphFile, Port

BUNDLE_JSON = "bundle.json"
MODEL_ONNX = "model.onnx"
TEXT_ENCODER, TEXT_ENCODER_ONNX, TOKENIZER_JSON = "text_encoder", "text_encoder.onnx", "tokenizer.json"
JSON_LIMIT_BYTES = 4 << 20
BATCH_LIMIT_BYTES = 4 << 30  # of one tensor
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
SHA256 = re.compile(r"[0-9a-f]{64}")
FETCH_AGAIN = "fetch the bundle again"


def seal_bundle(folder: Path, bundle: Bundle) -> str:
    """Write bundle.json beside the files it names and return the bundle's address."""
    write_whole(folder / BUNDLE_JSON, bundle.canonical())
    return bundle.digest()


def parse_bundle(data: bytes, *, where: str, sha256: str | None = None, do: str = FETCH_AGAIN) -> Bundle:
    """The record in the bytes of a bundle.json. Raises BundleError unless they are canonical JSON and hash to `sha256`.

    They need not be what this version would write: fields that came later take their defaults, and the address stays.
    """
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise BundleError(f"{where}: its SHA-256 is {found}, expected {sha256}", do=do)
    try:
        bundle = Bundle.model_validate_json(data)
    except ValidationError as error:
        raise BundleError(f"{where}: not a bundle: {first_complaint(error)}") from error
    if json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode() != data:
        raise BundleError(f"{where}: not in canonical form (sorted keys, no spaces), so its address would not be unique")
    names = [file.name for file in bundle.files]
    if bad := next((name for name in names if name == BUNDLE_JSON or not FILE_NAME.fullmatch(name)), None):
        raise BundleError(f"{where}: file name {bad!r}", allowed="letters, digits, '.', '_' and '-', not bundle.json")
    if len(set(names)) < len(names) or MODEL_ONNX not in names:
        raise BundleError(f"{where}: it names the files {names}", allowed=f"each name once, {MODEL_ONNX} among them")
    graphs = [graph.file for graph in bundle.graphs]
    if len({MODEL_ONNX, *graphs}) <= len(graphs) or not {*graphs} <= {*names}:
        raise BundleError(f"{where}: its graphs are the files {graphs}", allowed=f"each file once, not {MODEL_ONNX}: {names}")
    for name, shape in ((bundle.output, bundle.spec.shape), *((noise.name, noise.shape) for noise in bundle.noise)):
        if 4 * bundle.max_batch * math.prod(shape) > BATCH_LIMIT_BYTES:
            what = f"{where}: {bundle.max_batch} items of {name!r}, {list(shape)}"
            raise BundleError(what, allowed=f"up to {BATCH_LIMIT_BYTES >> 30} GB a batch")
    _check_text(bundle, where=where)
    return bundle


def text_encoder_of(bundle: Bundle) -> GraphFile | None:
    """The graph that makes of a text what the sampler is asked by, where the bundle has one."""
    return next((graph for graph in bundle.graphs if graph.name == TEXT_ENCODER), None)


def text_ports(condition: EmbeddingCondition) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """What a text encoder takes and makes for this condition."""
    tokens = Port(name="tokens", datatype="INT64", shape=(condition.length,))
    return (tokens,), (Port(name="embedding", datatype="FP32", shape=condition.given_shape),)


def _check_text(bundle: Bundle, *, where: str) -> None:
    """Raise BundleError unless a text encoder, its tokenizer and what the sampler is asked by belong together."""
    encoder, condition = text_encoder_of(bundle), bundle.spec.condition
    tokenized = any(file.name == TOKENIZER_JSON for file in bundle.files)
    if encoder is None:
        if tokenized:
            raise BundleError(f"{where}: {TOKENIZER_JSON} without the graph {TEXT_ENCODER!r}", allowed="both or neither")
        return
    if not tokenized:
        raise BundleError(f"{where}: the graph {TEXT_ENCODER!r} without {TOKENIZER_JSON}", allowed="both or neither")
    if not isinstance(condition, EmbeddingCondition):
        raise BundleError(f"{where}: the graph {TEXT_ENCODER!r}, and a sampler that takes no embedding of a text")
    if (encoder.inputs, encoder.outputs) != (expected := text_ports(condition)):
        found, wanted = (" to ".join(map(_shown, ports)) for ports in ((encoder.inputs, encoder.outputs), expected))
        raise BundleError(
            f"{where}: the graph {TEXT_ENCODER!r} is declared as {found}", allowed=f"{wanted}, as the sampler takes"
        )


def _shown(ports: tuple[Port, ...]) -> str:
    return ", ".join(f"{port.name} {port.datatype} {list(port.shape)}" for port in ports)


def address_of(folder: Path) -> str:
    """The address of a bundle that was read: the SHA-256 of its bundle.json."""
    return sha256_of(folder / BUNDLE_JSON)


def read_bundle(folder: Path, *, sha256: str | None = None, do: str = FETCH_AGAIN) -> Bundle:
    """Read and verify a bundle: every digest and size, regular files only, nothing else in the folder.

    `sha256` is the expected address, `do` what helps where a file is damaged. A file may have other names: a folder store keeps
    what is one file by several (core/files.link_or_copy), and its digest holds for all. Raises BundleError with one line that
    names the first file that is wrong.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle folder")
    try:
        _check_regular(folder / BUNDLE_JSON, do=do)
        if (folder / BUNDLE_JSON).stat().st_size > JSON_LIMIT_BYTES:
            raise BundleError(f"{folder / BUNDLE_JSON}: larger than {JSON_LIMIT_BYTES} bytes")
        bundle = parse_bundle((folder / BUNDLE_JSON).read_bytes(), where=str(folder / BUNDLE_JSON), sha256=sha256, do=do)
        known = {BUNDLE_JSON, *(file.name for file in bundle.files)}
        if extra := sorted(path.name for path in folder.iterdir() if path.name not in known):
            raise BundleError(f"{folder / extra[0]}: not a file of this bundle", do="remove it or fetch the bundle again")
        for file in bundle.files:
            _check_file(folder / file.name, file, do=do)
    except OSError as error:
        raise BundleError(f"{folder}: cannot be read: {error.strerror or error}") from error
    return bundle


def _check_file(path: Path, file: Artifact, *, do: str) -> None:
    _check_regular(path, do=do)
    if (size_bytes := path.stat().st_size) != file.size_bytes:
        raise BundleError(f"{path}: {size_bytes} bytes, expected {file.size_bytes}", do=do)
    if (found := sha256_of(path)) != file.sha256:
        raise BundleError(f"{path}: its SHA-256 is {found}, expected {file.sha256}", do=do)


def _check_regular(path: Path, *, do: str) -> None:
    # A symbolic link could point outside the bundle, or be pointed elsewhere after the check.
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise BundleError(f"{path}: missing", do=do) from None
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path}: not a regular file")
