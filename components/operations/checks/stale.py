"""Champions that are stale: adapters, fine-tunings and students whose base or teacher has another champion by now."""

from collections.abc import Iterator

from components.core.errors import RunError
from components.operations.finding import Finding, Installation, ok, warn
from components.pipeline.stale import Known, stale


def check(installation: Installation) -> Iterator[Finding]:
    """One line for each, or one for all where none is. They serve on."""
    backends = installation.backends
    if backends.settings.tracking_uri is None and not backends.named_home.mlflow_database.exists():
        yield ok("no release yet")
        return
    known, fresh = Known(backends), 0
    for model in backends.versions.models():
        release = known.champion(model)
        try:
            bundle = known.bundle(release.bundle_sha256) if release else None
            why = stale(bundle, known) if bundle else None
        except RunError as error:
            yield warn(f"{model}: {error}", f"genwright rollback {model}, or produce it again")
            continue
        if release and why:
            remedy = f"genwright retrain its brief, where that names an alias; genwright explain {model} says what it was made of"
            yield warn(f"{model}/{release.version} is {why}", remedy)
        fresh += release is not None and why is None
    yield ok(f"{fresh} champion{'' if fresh == 1 else 's'} made of what is champion now, or of nothing else")
