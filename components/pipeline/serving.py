"""Where the models of a server come from: a champion by its channel, which is followed, or a version by the registry."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from components.core import store_keys
from components.core.errors import InputError, UnknownModel
from components.core.home import Home
from components.core.records import Admission
from components.pipeline.backends import Backends
from components.serving.engine import Engine
from components.serving.following import Named, Source

Device = Literal["cpu", "cuda"]


def source_of(reference: str, backends: Backends, *, device: Device, threads: int = 0, follow: bool = True) -> Source:
    """NAME or NAME@champion is what the channel names, from now on; NAME@alias or NAME/version stays what it is now.

    The channel needs no registry: a server of champions starts without MLflow. Raises UnknownModel.
    """
    load = partial(load_engine, backends=backends, device=device, threads=threads)
    model = reference.removesuffix("@champion")
    if not set(model) & set("@/") and backends.channels.read(model) is not None:
        return Source(model, partial(named_by_channel, model, backends), load, follows=follow)
    release = backends.versions.resolve(reference)
    named = Named(str(release.version), release.bundle_sha256)
    return Source(release.model, lambda: named, load, follows=False)


def sources_of(
    references: Sequence[str], backends: Backends, *, device: Device, threads: int = 0, follow: bool = True
) -> list[Source]:
    """One source a reference. Raises UnknownModel, and InputError where two name the same model."""
    sources = [source_of(each, backends, device=device, threads=threads, follow=follow) for each in references]
    names = [source.model for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{twice[0]}: given twice", do="serve one version of a model")
    return sources


def channelled(backends: Backends, *, device: Device, threads: int = 0) -> list[Source]:
    """One source for each model that has a champion now. Raises StorageError."""
    models = [key.removeprefix(store_keys.CHANNELS).removesuffix(".json") for key in backends.store.list(store_keys.CHANNELS)]
    return [source_of(model, backends, device=device, threads=threads) for model in models]


def named_by_channel(model: str, backends: Backends) -> Named:
    """What the channel names now. Raises StorageError, or UnknownModel when it is gone."""
    found = backends.channels.read(model)
    if found is None:
        raise UnknownModel(f"{model}: its channel is gone", do="run `genwright reconcile`")
    return Named(str(found[0].version), found[0].bundle_sha256)


def load_engine(named: Named, *, backends: Backends, device: Device, threads: int) -> Engine:
    """The bundle, fetched, examined in a process of its own, loaded and warm. Raises BundleError, StorageError, ServingError."""
    from components.delivery.bundles import fetch_bundle

    folder = fetch_bundle(backends.store, named.bundle_sha256, backends.home.bundles)
    admit(folder, backends.home, device=device)
    return Engine.load(folder, threads=threads, device=device)


def admit(folder: Path, home: Home, *, device: Device) -> None:
    """Raise BundleError unless the bundle in `folder`, named by its address, may be served here.

    One that this version has examined here before, on this device and by this ONNX Runtime, is not examined again.
    """
    import onnxruntime as ort

    from components.core.bundles import read_bundle
    from components.pipeline.run import package_version

    note = home.admitted(package_version(), folder.name, device)
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
