"""The adapters of a base: every release by LoRA of one of its versions, and what was combined of them."""

from collections.abc import Iterator

from components.core.brief import HUB
from components.core.errors import UnknownModel
from components.core.record import Record
from components.core.records import AddedAdapter, Bundle, Metric, Release
from components.pipeline.adapters import ADDED
from components.pipeline.backends import Backends
from components.pipeline.stale import Known, stale
from components.registry.versions import BASE

SHOWN = ("fd", "distance_ratio", "coverage", "recall", "memorised")  # of a scorecard


class Descendant(Record):
    """One of them."""

    model: str
    version: int
    aliases: tuple[str, ...]
    mode: str  # lora, or combine
    base: str  # NAME/VERSION, or the name of a model made elsewhere
    base_weights: str | None
    data_md5: str
    data_rev: str
    verdict: str  # of its gates
    metrics: dict[str, Metric]
    adapters: tuple[AddedAdapter, ...] = ()  # of what was combined
    bundle_sha256: str
    stale: str | None = None  # why, where it is


def adapters_of(base: str, backends: Backends) -> list[Descendant]:
    """Of a model by its name, by model and version; the registry is asked by one search. Raises UnknownModel."""
    name = base.removesuffix("@champion")
    known = Known(backends)
    found = [*_descendants(name, backends, known)]
    if not found and "@" not in name and not name.startswith(HUB):  # UnknownModel, with what there is
        (backends.versions.resolve if "/" in name else backends.versions.releases)(name)
    return found


def _descendants(base: str, backends: Backends, known: Known) -> Iterator[Descendant]:
    if "'" in base:
        raise UnknownModel(f"no model named {base!r}", allowed="the name of a model, or of one made elsewhere")
    for release, tags in backends.versions.begun_with(base):
        bundle = known.bundle(release.bundle_sha256)
        if bundle is not None and bundle.lineage.decision.mode in ADDED:
            yield _descendant(release, bundle, tags[BASE], known)


def _descendant(release: Release, bundle: Bundle, base: str, known: Known) -> Descendant:
    lineage, metrics = bundle.lineage, bundle.scorecard.metrics
    return Descendant(
        model=release.model,
        version=release.version,
        aliases=release.aliases,
        mode=lineage.decision.mode,
        base=base,
        base_weights=lineage.base_weights,
        data_md5=lineage.dataset_md5,
        data_rev=lineage.dataset_rev,
        verdict=bundle.gates.verdict,
        metrics={name: metrics[name] for name in SHOWN if name in metrics},
        adapters=lineage.adapters,
        bundle_sha256=release.bundle_sha256,
        stale=stale(bundle, known),
    )
