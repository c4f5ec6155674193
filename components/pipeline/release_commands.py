"""Promote, rollback, reconcile and deploy as plain functions, for the flows and the command line."""

from functools import partial
from pathlib import Path

from components.core.errors import GateRefused, InputError
from components.core.records import Bundle, Channel, Release
from components.pipeline.approval import how_to_approve, missing_tag
from components.pipeline.backends import Backends
from components.pipeline.existing import champion_of, disagreements
from components.pipeline.proved import with_proof
from components.pipeline.run import evidence
from components.registry.aliases import proved_beside
from components.registry.steps import Outcome


def bundle_of(release: Release, backends: Backends) -> tuple[Path, Bundle]:
    """The verified bundle of a release, on this machine."""
    from components.delivery.bundles import fetch_bundle, read_bundle

    folder = fetch_bundle(backends.store, release.bundle_sha256, backends.home.bundles)
    return folder, read_bundle(folder)


def explained(reference: str, backends: Backends) -> Release:
    """The release that a reference names; the ledger's champion where the alias was taken away, or is on what cannot be served.

    Raises UnknownModel.
    """
    from components.registry.state import champion_of, look

    model = reference.removesuffix("@champion")
    if set(model) & set("@/"):
        return backends.versions.resolve(reference)
    registered = {release.bundle_sha256: release for release in backends.versions.releases(model)}
    state = look(backends.registry, model)
    champion = champion_of(backends.registry, state) if state.champion is None else None
    return registered.get(champion.bundle_sha256, champion) if champion else backends.versions.resolve(reference)


def explanation_of(reference: str, backends: Backends) -> tuple[Release, Bundle, tuple[str, ...]]:
    """The release that a reference names, its bundle with all of its proof, and where ledger, alias and channel of its model
    differ."""
    release = explained(reference, backends)
    _, bundle = bundle_of(release, backends)
    return release, with_proof(bundle, backends.workspace), disagreements(release.model, backends)


def promote(reference: str, backends: Backends, *, why: str = "", force: bool = False) -> Outcome:
    """Make a version the champion. Raises GateRefused unless every gate passed beside the champion of now and it has the tag that
    the settings require, or forced; and InputError where it is forced without a reason."""
    from components.registry.release import promote as release_promote

    if force and not why.strip():
        raise InputError("--force needs a reason for the ledger", do="add --why '...'")
    release = backends.versions.resolve(reference if set(reference) & set("@/") else f"{reference}@candidate")
    _, bundle = bundle_of(release, backends)
    if not force:
        champion = champion_of(release.model, backends)
        check_gates(release, bundle, champion)
        if not _is_champion(release, champion) and (tag := missing_tag(release, backends)):
            name = f"{release.model} version {release.version}"
            raise GateRefused(f"{name} passed every gate and waits for the tag {tag}", do=how_to_approve(release, tag))
    return release_promote(
        backends.registry,
        release.model,
        release.version,
        who=backends.settings.who,
        why=why or "every gate passed",
        evidence={**evidence(bundle), "forced": force, **backends.judge.approval(release)},
        check=None if force else partial(check_beside, release, bundle),
    )


def _is_champion(release: Release, champion: Release | None) -> bool:
    return champion is not None and (champion.version, champion.bundle_sha256) == (release.version, release.bundle_sha256)


def check_gates(release: Release, bundle: Bundle, champion: Release | None) -> None:
    """Raise GateRefused unless its gates passed, or it is champion all the same."""
    if bundle.gates.verdict != "pass" and not _is_champion(release, champion):
        name = f"{release.model} version {release.version}"
        raise GateRefused(
            f"{name}: its gates say {bundle.gates.verdict}", do="see `genwright explain`, or promote with --force --why"
        )


def check_beside(release: Release, bundle: Bundle, champion: Release | None) -> None:
    """Raise GateRefused unless it was proved beside this champion."""
    beside = champion.bundle_sha256 if champion is not None else None
    if beside != release.bundle_sha256 and not proved_beside(bundle, beside):
        raise GateRefused(
            f"{release.model} version {release.version} was proved beside another champion than the one that is champion now",
            do="run `genwright produce` again, which proves it anew, or add --force --why",
        )


def rollback(model: str, backends: Backends, *, why: str = "", to: int | None = None) -> Outcome:
    """Make the version before, or version `to`, champion again."""
    from components.registry.release import rollback as release_rollback

    return release_rollback(backends.registry, model, who=backends.settings.who, why=why or "rolled back", to=to)


def reconcile(model: str, backends: Backends) -> Outcome:
    """Repair what a crash or a hand in the MLflow UI left different."""
    from components.registry.release import reconcile as release_reconcile

    return release_reconcile(backends.registry, model, who=backends.settings.who)


def deploy(reference: str, backends: Backends, *, store: str | None = None) -> Channel:
    """Publish the bundle of a release and point the channel at it, in this configuration's store or in another one.

    Raises GateRefused for what is neither the champion nor, in another store, proved by its gates.
    """
    from components.delivery.bundles import put_bundle
    from components.delivery.channel import ChannelStore
    from components.delivery.store import open_store

    release = backends.versions.resolve(reference)
    folder, bundle = bundle_of(release, backends)
    target = open_store(store, s3_endpoint=backends.settings.s3_endpoint) if store else backends.store
    champion = champion_of(release.model, backends)
    if target.uri == backends.store.uri and not _is_champion(release, champion):
        raise GateRefused(
            f"{release.model} version {release.version} is not the champion, whom alone this store's channel names",
            do=f"run `genwright promote {release.model}/{release.version}`",
        )
    check_gates(release, bundle, champion)
    put_bundle(target, folder)
    channels = ChannelStore(target)
    current = channels.read(release.model)
    sequence = current[0].sequence if current else 0
    last = backends.registry.ledger.last(release.model)
    channel = Channel(
        model=release.model,
        version=release.version,
        bundle_sha256=release.bundle_sha256,
        sequence=max(sequence, last.sequence if last else 0),
    )
    if current is None or current[0] != channel:
        channels.swap(channel, expected=current[1] if current else None)
    return channel
