"""What other platforms deploy a release from, as files."""

from pathlib import Path

from components.core.errors import InputError
from components.pipeline.backends import Backends
from components.pipeline.existing import champion_of
from components.pipeline.loaded_model import trained_family
from components.pipeline.pretrained import reads_text
from components.pipeline.release_commands import bundle_of, check_gates


def write_deployment(reference: str, backends: Backends, *, form: str, to: Path, image: str = "genwright:latest") -> list[Path]:
    """Write what another platform deploys a release from, as `form`: kserve, triton, container or diffusers.
    What was written.

    Raises InputError for another form, BriefError for a family that the form cannot hold, and GateRefused for what is neither the
    champion nor proved by its gates.
    """
    from components.delivery.container import write_container
    from components.delivery.kserve import write_kserve
    from components.delivery.triton import write_triton

    release = backends.versions.resolve(reference)
    folder, bundle = bundle_of(release, backends)
    check_gates(release, bundle, champion_of(release.model, backends))
    sha256, version = release.bundle_sha256, release.version
    if form == "triton":
        return write_triton(folder, bundle, version=version, to=to)
    if form == "kserve":
        if not backends.settings.store_uri.startswith("s3://"):
            raise InputError(
                f"store {backends.settings.store_uri}: no cluster can reach it", do="set GENWRIGHT_STORE to s3://..."
            )
        return write_kserve(bundle, sha256=sha256, version=version, store=backends.settings.store_uri, image=image, to=to)
    if form == "container":
        return write_container(folder, bundle, sha256=sha256, version=version, to=to)
    if form == "diffusers":
        from components.training.foreign.write import write_diffusers

        beside = reads_text(bundle.lineage.foreign, backends)
        return write_diffusers(trained_family(release, bundle, backends), bundle, version=version, to=to, beside=beside)
    raise InputError(f"--write {form}", allowed="kserve, triton, container, diffusers")
