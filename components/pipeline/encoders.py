"""The text encoder of a run: which one it is, its files in the store, and what it makes of the captions of the data.

It is MiniLM, a folder or a model of the hub that the brief names; or that of the base, which learnt to be asked through it.
"""

from pathlib import Path

from components.core.brief import HUB, Brief, TextBrief, TextPrecision
from components.core.errors import BriefError
from components.core.files import mark_used
from components.core.records import Artifact, EmbeddingCondition, LocalDataset, TextEncoder
from components.encoders.minilm import MINILM, PACKAGE, minilm_folder
from components.encoders.source import Source
from components.pipeline.backends import Backends
from components.pipeline.run import Base, Encoder, Run
from components.runtime.progress import announce

KEY = "text.encoder"
WANTED = ("*.json", "*.txt", "*.model", "README.md", "LICEN[SC]E*", "COPYING", "model*.safetensors", "text_encoder/*.safetensors")


def told(
    brief: Brief, backends: Backends, begins_with: Base | None, *, folder: Path, fetch: bool, elsewhere: bool = False
) -> TextEncoder | None:
    """What is known of the encoder of a brief before it is made; None where no text asks, and for one of the hub that is not
    here, where nothing may be fetched. `folder`: what a path is relative to; `elsewhere`: it begins with a model made elsewhere.

    Raises BriefError where the brief names one beside its base's, another digest, a length that it does not read, or a use that
    its licence forbids; DataError where its files are not whole.
    """
    if brief.conditioning != "text":
        return None
    if begins_with is not None and begins_with.encoder is not None:
        _check_own(brief, f"models:/{begins_with.name}")
        return begins_with.encoder.record
    source = source_of(brief, backends, elsewhere=elsewhere, folder=folder, fetch=fetch)
    return None if source is None else _recorded(brief, source)


def source_of(brief: Brief, backends: Backends, *, elsewhere: bool, folder: Path, fetch: bool) -> Source | None:
    """The published files of the encoder of a brief; `elsewhere`: of the model made elsewhere that it begins with. None where
    they are not here. Raises BriefError and DataError."""
    from components.training.foreign.hub import place_of
    from components.training.foreign.licence import read_licence

    if elsewhere and brief.pretrained is not None:
        model, mirror = brief.pretrained.model, backends.settings.hub_mirror
        _check_own(brief, model)
        if brief.pretrained.from_hub and not fetch:
            return None
        place = place_of(model, base=folder, mirror=mirror, weights=True, fetch=fetch)
        return None if place is None else source_in(place.folder, name_of(model, None))
    given = (brief.text.encoder if brief.text else None) or MINILM
    if given == MINILM:
        own = minilm_folder()
        return Source.of(own, name=MINILM, licence=read_licence(own)[0])
    named = place_of(given, base=folder, mirror=backends.settings.hub_mirror, weights=True, fetch=fetch, key=KEY, patterns=WANTED)
    if named is None:
        return None
    return Source.of(named.folder, name=name_of(given, named.revision), licence=read_licence(named.folder)[0])


def source_in(folder: Path, name: str) -> Source:
    """That of a pipeline of diffusers that is asked by a text. Raises DataError where it has none."""
    from components.training.foreign.licence import read_licence

    return Source.of(folder, name=name, licence=read_licence(folder)[0], where=f"pretrained.model: {name}")


def name_of(given: str, revision: str | None) -> str:
    """What an encoder is called on every machine.

    >>> name_of("hf:org/clip@main", "1f2e"), name_of("/srv/team/encoders/tiny", None)
    ('hf:org/clip@1f2e', 'tiny')
    """
    if not given.startswith(HUB):
        return Path(given).name or given
    name = given.partition("@")[0]
    return f"{name}@{revision}" if revision else name


def precision_of(source: Source) -> TextPrecision:
    """By default: a base learnt from what its own encoder makes, in fp32, and MiniLM's eight bits are near and three times as
    fast."""
    return "int8" if source.model.parent.name == PACKAGE else "fp32"


def _recorded(brief: Brief, source: Source) -> TextEncoder:
    """The encoder as a brief asks for it. Raises what `told` does."""
    _check_use(brief, source)
    return source.record(brief.text or TextBrief(), precision=precision_of(source))


def made(source: Source, record: TextEncoder, backends: Backends) -> Path:
    """Its folder on this machine, made where there is none. Imports torch where it is made."""
    from components.encoders.make import is_whole, make_encoder

    folder = backends.home.encoder(record.sha256, record.length, record.precision)
    if not is_whole(folder, record):
        announce(f"Text encoder {record.name}", about_s=30, basis="it is made once")
    return make_encoder(source, record, folder)


def encoder_of(brief: Brief, backends: Backends, begins_with: Base | None, *, folder: Path) -> Encoder | None:
    """The encoder of a run, its files in the store. Raises what `told` and `make_encoder` do."""
    from components.encoders.make import FILES

    if brief.conditioning != "text":
        return None
    if begins_with is not None and begins_with.encoder is not None:
        _check_own(brief, f"models:/{begins_with.name}")
        return begins_with.encoder
    elsewhere = begins_with is not None and begins_with.foreign is not None
    source = source_of(brief, backends, elsewhere=elsewhere, folder=folder, fetch=True)
    assert source is not None, "it may be fetched"
    record = _recorded(brief, source)
    place = made(source, record, backends)
    return Encoder(record=record, files=tuple(backends.workspace.put(place / name) for name in FILES))


def encoder_folder(encoder: Encoder, backends: Backends) -> Path:
    """The encoder on this machine, the same bytes as on every other. Raises StorageError and RunError where the store lost it."""
    record = encoder.record
    folder = backends.home.encoder(record.sha256, record.length, record.precision)
    for file in encoder.files:  # the record last
        if not _is_at(file, folder / file.name):
            backends.workspace.link(file, folder / file.name)
    mark_used(folder)
    return folder


def embeddings_of(run: Run, data: LocalDataset, backends: Backends) -> Path | None:
    """What the encoder of a run makes of each caption of its data, a folder that splits are opened with; made once on a machine.
    None where no text asks."""
    return None if run.encoder is None else embedded(encoder_folder(run.encoder, backends), data, backends)


def embedded(encoder: Path, data: LocalDataset, backends: Backends) -> Path:
    """What the encoder in a folder makes of each caption of some data."""
    from filelock import FileLock

    from components.data.embeddings import EMBEDDINGS, captions_digest, distinct_captions, embed
    from components.data.manifest import read_manifest
    from components.runtime.prompts import Prompts

    path = Path(data.path)
    folder = backends.home.embedded(encoder, captions_digest(read_manifest(path)))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not (folder / EMBEDDINGS).is_file():
            captions, prompts = distinct_captions(path), Prompts.open(encoder)
            announce(f"Embedding {len(captions):,} captions", about_s=0.005 * len(captions), basis="each is encoded once")
            embed(captions, prompts, folder)
    mark_used(folder)
    return folder


def shares_embeddings(condition: object, encoder: Encoder | None) -> bool:
    """Whether the embeddings of a run are what this condition asks by, too."""
    if not isinstance(condition, EmbeddingCondition):
        return True
    own = encoder.record if encoder else None
    return own is not None and (condition.encoder, condition.length) == (own.address, own.length)


def _is_at(file: Artifact, path: Path) -> bool:
    return path.is_file() and path.stat().st_size == file.size_bytes and file.is_at(path)


def _check_own(brief: Brief, base: str) -> None:
    given = brief.text.model_dump(exclude_none=True) if brief.text else {}
    if own := sorted(given.keys() & {"encoder", "length", "precision"}):
        raise BriefError(
            f"text.{own[0]}: given, and pretrained.model: {base} learnt to be asked through an encoder of its own",
            do="leave it out",
        )


def _check_use(brief: Brief, source: Source) -> None:
    """That of a base's own encoder is the base's."""
    licence = source.licence
    if source.where == KEY and brief.use == "commercial" and licence.terms == "noncommercial":
        raise BriefError(
            f"{source.where}: {source.name}: its licence {licence.name} ({licence.said_by}) forbids commercial use, and "
            "use: commercial is given",
            allowed="use: research, or an encoder whose licence permits it",
        )
