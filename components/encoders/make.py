"""From a published text encoder to its folder: encoder.json, text_encoder.onnx and tokenizer.json.

Imports torch and transformers only where there is none yet.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from components.core.bundles import TEXT_ENCODER_ONNX, TOKENIZER_JSON
from components.core.errors import RunError
from components.core.files import write_whole
from components.core.records import ENCODER_JSON, TextEncoder
from components.encoders.source import Source
from components.runtime.prompts import Prompts

FILES = (TEXT_ENCODER_ONNX, TOKENIZER_JSON, ENCODER_JSON)  # the record last: a folder that has it is whole
TRIED = ("a handwritten three", "", "a photo of a red mug " * 40)


def make_encoder(source: Source, encoder: TextEncoder, folder: Path) -> Path:
    """The folder of an encoder, made where it is not there yet; `encoder` is what the source's `record` says.

    Raises DataError where the published files do not fit each other, ExportError where the graph is not the network's.
    """
    if is_whole(folder, encoder):
        if TextEncoder.read(folder / ENCODER_JSON) != encoder:  # the same by another name
            encoder.write(folder / ENCODER_JSON)
        return folder
    from components.encoders.graph import write_graph
    from components.encoders.tokenizer import tokenizer_of

    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as spare:
        own = Path(spare)
        tokenizer = tokenizer_of(source, length=encoder.length)
        write_whole(own / TOKENIZER_JSON, tokenizer.to_str().encode())
        pad = int(tokenizer.padding["pad_id"])
        write_graph(source, own / TEXT_ENCODER_ONNX, length=encoder.length, pad=pad, precision=encoder.precision)
        prompts = Prompts.open(own)
        assert prompts(TRIED).shape == (len(TRIED), encoder.length, encoder.features)
        encoder.write(own / ENCODER_JSON)
        folder.mkdir(exist_ok=True)
        for name in FILES:
            shutil.move(own / name, folder / name)
    return folder


def is_whole(folder: Path, encoder: TextEncoder) -> bool:
    """Whether this encoder was made there, whatever it is called."""
    try:
        known = TextEncoder.read(folder / ENCODER_JSON)
    except RunError:
        return False
    same = known.model_copy(update={"name": encoder.name, "licence": encoder.licence}) == encoder
    return same and all((folder / name).is_file() for name in FILES)
