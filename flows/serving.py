"""Where the models of a server come from: a champion by its channel, which is followed, or a version by the registry."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from components.core.errors import InputError, UnknownModel
from components.core.records import Admission
from components.serving.engine import Engine
from components.serving.following import Named, Source
from components.serving.tokens import digests_of
from flows.place import Place

Device = Literal["cpu", "cuda"]


def source_of(reference: str, place: Place, *, device: Device, threads: int = 0, follow: bool = True) -> Source:
    """NAME or NAME@champion is what the channel names, from now on; NAME@alias or NAME/version stays what it is now.

    The channel needs no registry: a server of champions starts without MLflow. Raises UnknownModel.
    """
    load = partial(load_engine, place=place, device=device, threads=threads)
    model = reference.removesuffix("@champion")
    if not set(model) & set("@/") and place.channels.read(model) is not None:
        return Source(model, partial(named_by_channel, model, place), load, follows=follow)
    release = place.versions.resolve(reference)
    named = Named(str(release.version), release.bundle_sha256)
    return Source(release.model, lambda: named, load, follows=False)


def sources_of(references: Sequence[str], place: Place, *, device: Device, threads: int = 0, follow: bool = True) -> list[Source]:
    """One source a reference. Raises UnknownModel, and InputError where two name the same model."""
    sources = [source_of(each, place, device=device, threads=threads, follow=follow) for each in references]
    names = [source.model for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{twice[0]}: given twice", do="serve one version of a model")
    return sources


def named_by_channel(model: str, place: Place) -> Named:
    """What the channel names now. Raises StorageError, or UnknownModel when it is gone."""
    found = place.channels.read(model)
    if found is None:
        raise UnknownModel(f"{model}: its channel is gone", do="run `genwright reconcile`")
    return Named(str(found[0].version), found[0].bundle_sha256)


def load_engine(named: Named, *, place: Place, device: Device, threads: int) -> Engine:
    """The bundle, fetched, examined in a process of its own, loaded and warm. Raises BundleError, StorageError, ServingError."""
    from components.delivery.bundles import fetch_bundle

    folder = fetch_bundle(place.store, named.bundle_sha256, place.settings.root / "bundles")
    admit(folder, place.settings.root, device=device)
    return Engine.load(folder, threads=threads, device=device)


def admit(folder: Path, root: Path, *, device: Device) -> None:
    """Raise BundleError unless the bundle in `folder`, named by its address, may be served here.

    One that this version has examined here before, on this device and by this ONNX Runtime, is not examined again.
    """
    import onnxruntime as ort

    from components.core.bundles import read_bundle
    from flows.runs import package_version

    note = root / "admitted" / package_version() / f"{folder.name}-{device}.json"
    if note.exists() and _holds(note, ort.__version__):
        return  # whoever loads it verifies its bytes
    bundle = read_bundle(folder, sha256=folder.name)
    from components.export.admission import admit as examine

    examine(folder, bundle, device=device).write(note)


def _holds(note: Path, runtime: str) -> bool:
    from components.core.errors import RunError

    try:
        known = Admission.read(note)
    except RunError:
        return False
    return known.verdict == "pass" and known.runtime == runtime


def tokens_of(place: Place) -> tuple[bytes, ...]:
    """The SHA-256 digests of the tokens that are let in. Raises SettingsError for one that is none."""
    return digests_of(place.settings.token, place.settings.token_sha256)
