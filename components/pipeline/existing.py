"""What stands already: the champion that is to be beaten, and an unchanged run, which is found again and says so."""

import sys

from components.core import store_keys
from components.core.bundles import BUNDLE_JSON
from components.core.errors import BundleError, GateRefused
from components.core.records import Bundle, LedgerEntry, Release
from components.pipeline.approval import how_to_approve, missing_tag
from components.pipeline.backends import Backends
from components.pipeline.run import Produced, Run, record_key
from components.pipeline.stale import Known, stale
from components.registry.aliases import was_champion

OTHERWISE = "change the brief"  # what an earlier version produced has no advice


def champion_of(model: str, backends: Backends) -> Release | None:
    """The champion that proofs compare with: the ledger's, or the one that a hand in MLflow put in its place."""
    from components.registry.state import champion_of, look

    return champion_of(backends.registry, look(backends.registry, model))


def rival_of(run: Run, backends: Backends) -> str | None:
    """The bundle, by its digest, that a candidate of this run is proved beside: the champion's, or where that is what this run
    made, the one that it was proved beside then. Raises BundleError where the champion's is lost."""
    champion = champion_of(run.brief.name, backends)
    if champion is None:
        return None
    sha256 = champion.bundle_sha256
    produced = backends.workspace.read(record_key(run, "promote"), Produced)
    if produced is not None and produced.bundle.sha256 == sha256:
        return produced.gates.champion
    if backends.registry.has_bundle(sha256) or (backends.home.bundles / sha256 / BUNDLE_JSON).exists():
        bundle = backends.workspace.read(store_keys.bundle_file(sha256), Bundle)
        return bundle.gates.champion if bundle is not None and bundle.lineage.run_key == run.key("seal") else sha256
    raise BundleError(
        f"{champion.model}: the bundle of its champion, version {champion.version}, is not in {backends.store.uri}",
        do="name the store that has it in GENWRIGHT_STORE, put it back, or make another version champion: "
        f"genwright rollback {champion.model} --to VERSION",
    )


def disagreements(model: str, backends: Backends) -> tuple[str, ...]:
    """A line for each way in which ledger, alias and channel differ, with what to do."""
    from components.registry.state import differences, look

    return differences(backends.registry, look(backends.registry, model))


def history_of(model: str, backends: Backends) -> tuple[list[LedgerEntry], tuple[str, ...]]:
    """Every promotion and rollback of a model, and where its ledger, alias and channel differ. Raises UnknownModel."""
    backends.versions.releases(model)
    return backends.registry.ledger.entries(model), disagreements(model, backends)


def begin(run: Run, backends: Backends) -> None:
    """What every start does: end the MLflow runs that a killed process left, and say on standard error where ledger, alias and
    channel differ."""
    from components.registry.owner import reap

    reap(backends.settings.mlflow_uri, experiment=run.brief.name)
    for line in disagreements(run.brief.name, backends):
        sys.stderr.write(f"genwright: {line}\n")


def find_existing_result(run: Run, backends: Backends) -> Produced | None:
    """What an earlier, unchanged run produced, while its version and its bundle still exist."""
    known = backends.workspace.read(record_key(run, "promote"), Produced)
    if known is None or backends.store.get(store_keys.bundle_file(known.bundle.sha256)) is None:
        return None
    releases = backends.versions.releases(run.brief.name) if run.brief.name in backends.versions.models() else []
    now = next((each for each in releases if each.bundle_sha256 == known.bundle.sha256), None)
    if now is None:
        return None
    if known.awaits and was_champion(now, backends.registry.ledger.entries(run.brief.name)):
        known = known.model_copy(update={"promoted": True, "awaits": ""})  # by a person or `watch`, since
    if not known.promoted and not _proved_beside(known, champion_of(run.brief.name, backends)):
        return None
    if known.awaits and not missing_tag(now, backends):
        return None  # its promotion is to be done
    return known.model_copy(update={"release": now})


def _proved_beside(known: Produced, champion: Release | None) -> bool:
    """What was refused was measured beside the champion of now; beside another one it is proved anew."""
    is_champion = champion is not None and champion.bundle_sha256 == known.bundle.sha256  # forced past its gates
    beside = known.bundle.bundle.lineage.teacher or (champion and champion.bundle_sha256)
    return is_champion or known.gates.champion == beside


def refuse_unless_passed(produced: Produced) -> None:
    """Raises GateRefused with what the gates said."""
    if produced.gates.verdict != "pass":
        said = [f"{gate.gate} {gate.verdict} ({gate.text})" for gate in produced.gates.gates if gate.verdict != "pass"]
        raise GateRefused(
            f"{produced.release.model} version {produced.release.version} stays a candidate: {'; '.join(said)}",
            do=f"{produced.advice or OTHERWISE}; or promote it by hand with --force --why",
        )


def produced_line(produced: Produced) -> str:
    """One line for what was produced and promoted, or waits for the tag that promotion requires."""
    release = produced.release
    name = f"{release.model} version {release.version}"
    if produced.awaits:
        return f"{name} passed every gate and stays a candidate: {how_to_approve(release, produced.awaits)}"
    return f"{name} was produced and promoted"


def nothing_to_do(run: Run, known: Produced, backends: Backends) -> str:
    """One line that says why a run that was produced before makes nothing: what is unchanged, and what no stage depends on."""
    release = known.release
    name = f"{release.model} version {release.version}"
    state = (
        "is champion"
        if "champion" in release.aliases
        else "is not the champion"
        if known.promoted
        else f"waits for the tag {known.awaits}"
        if known.awaits
        else "was refused by its gates"
    )
    data = f"the data ({run.dataset.md5[:8]}) and genwright {run.genwright}"
    because = stale(known.bundle.bundle, Known(backends))
    told = f"; {because}: a brief that names an alias follows it" if because else ""
    return f"nothing to do: {_brief_since(run, known, backends)} {data} are unchanged since {name}, which {state}{told}"


def what_is_followed(run: Run, backends: Backends) -> str:
    """One line where the champion of a run that is to be produced is stale, and what the run begins with; else an empty one."""
    champion = champion_of(run.brief.name, backends) if run.base and run.brief.name in backends.versions.models() else None
    bundle = champion and backends.workspace.read(store_keys.bundle_file(champion.bundle_sha256), Bundle)
    if run.base is None or not champion or not bundle or not (because := stale(bundle, Known(backends))):
        return ""
    return f"{champion.model} version {champion.version}, its champion, is {because}; this run begins with {run.base.sum}"


def _brief_since(run: Run, known: Produced, backends: Backends) -> str:
    """What has become of the brief since: it is the same, or has changed where nothing depends on it, as in its schedule."""
    if known.bundle.bundle.lineage.brief_sha256 == run.brief.digest():
        return "the brief,"
    before = backends.workspace.read(record_key(run, "run"), Run)
    then, now = (each.brief.model_dump(mode="json") for each in (before or run, run))
    changed = ", ".join(name for name in now if now[name] != then[name])
    if not changed and before is not None:  # an earlier version wrote the same brief in other words
        return "the brief,"
    return f"no stage depends on what changed in the brief{f' ({changed})' if changed else ''}, and"
