"""Whether a release is stale: what it was made of is no longer what would be begun with now."""

from collections.abc import Iterator

from components.core import store_keys
from components.core.errors import RunError
from components.core.records import Bundle, Release
from components.pipeline.backends import Backends


class Known:
    """Champions and bundles, each looked up once, for one who asks of many releases."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._champions: dict[str, Release | None] = {}
        self._bundles: dict[str, Bundle | None] = {}

    def champion(self, model: str) -> Release | None:
        """The ledger's champion of a model, or the one that a hand in MLflow put in its place."""
        from components.registry.state import champion_of, look

        if model not in self._champions:
            registry = self._backends.registry
            self._champions[model] = champion_of(registry, look(registry, model))
        return self._champions[model]

    def bundle(self, sha256: str) -> Bundle | None:
        """A bundle's record; None where the store has lost it. Raises RunError for one that cannot be read."""
        if sha256 not in self._bundles:
            found = self._backends.store.get(store_keys.bundle_file(sha256))
            try:
                self._bundles[sha256] = Bundle.model_validate_json(found[0]) if found else None
            except ValueError as error:
                raise RunError(f"bundle {sha256[:12]} cannot be read: {error}") from error
        return self._bundles[sha256]


def stale(bundle: Bundle, known: Known) -> str | None:
    """Why a release is stale, in one line: its teacher is not the champion any more, or its base, or an adapter that was added to
    that. None for what is not. Raises RunError for a bundle that cannot be read."""
    because = [*_of_teacher(bundle, known), *_of_base(bundle, known), *_of_adapters(bundle, known)]
    return f"stale: {'; '.join(because)}" if because else None


def _of_teacher(bundle: Bundle, known: Known) -> Iterator[str]:
    sha256 = bundle.lineage.teacher
    if sha256 is None:
        return
    teacher = known.bundle(sha256)
    if teacher is None:
        yield f"its teacher's bundle {sha256[:12]} is gone from the store"
    elif champion := _another(teacher.model, sha256, known):
        now = f"its teacher is no longer {teacher.model}'s champion, version {champion.version} is"
        yield f"{now}; genwright distil {teacher.model} makes a new one"


def _of_base(bundle: Bundle, known: Known) -> Iterator[str]:
    """A champion with the same weights, as in another precision, is no other base; nor is a version of its own model."""
    sha256 = bundle.lineage.base
    if sha256 is None:
        return
    base = known.bundle(sha256)
    if base is None:
        yield f"its base's bundle {sha256[:12]} is gone from the store"
        return
    champion = _another(base.model, sha256, known) if base.model != bundle.model else None
    now = known.bundle(champion.bundle_sha256) if champion else None
    if champion and (now is None or now.lineage.checkpoint_sha256 != base.lineage.checkpoint_sha256):
        yield f"its base is no longer {base.model}'s champion, version {champion.version} is"


def _of_adapters(bundle: Bundle, known: Known) -> Iterator[str]:
    for each in bundle.lineage.adapters:
        if champion := _another(each.model, each.bundle, known):
            yield f"the adapter of {each.model} in it is no longer its champion, version {champion.version} is"


def _another(model: str, sha256: str, known: Known) -> Release | None:
    """The champion of a model, where that is another bundle."""
    champion = known.champion(model)
    return champion if champion is not None and champion.bundle_sha256 != sha256 else None
