"""What stands already: the champion that is to be beaten, and an unchanged run, which is found again and says so."""

import sys

from components.core.errors import BundleError, GateRefused
from components.core.records import Release, StoredBundle
from flows.memo import recall
from flows.place import Place
from flows.runs import Produced, Run, folder_of, produced_path

OTHERWISE = "change the brief"  # what an earlier version produced has no advice


def champion_of(model: str, place: Place) -> Release | None:
    """The champion that proofs compare with: the ledger's, or the one that a hand in MLflow put in its place."""
    from components.registry.state import look, reigning

    return reigning(place.registry, look(place.registry, model))


def rival_of(run: Run, place: Place) -> Release | None:
    """The champion that a candidate of this run is proved beside. Raises BundleError where its bundle is lost."""
    champion = champion_of(run.brief.name, place)
    if champion is None or place.registry.has_bundle(champion.bundle_sha256) or _makes(run, champion, place):
        return champion
    if (place.settings.root / "bundles" / champion.bundle_sha256 / "bundle.json").exists():
        return champion
    raise BundleError(
        f"{champion.model}: the bundle of its champion, version {champion.version}, is not in {place.store.uri}",
        do="name the store that has it in GENWRIGHT_STORE, put it back, or make another version champion: "
        f"genwright rollback {champion.model} --to VERSION",
    )


def _makes(run: Run, champion: Release, place: Place) -> bool:
    """The run that made the champion makes its bundle again."""
    stored = recall(folder_of(run, place) / "stored.json", StoredBundle)
    return stored is not None and stored.sha256 == champion.bundle_sha256


def disagreements(model: str, place: Place) -> tuple[str, ...]:
    """A line for each way in which ledger, alias and channel differ, with what to do."""
    from components.registry.state import differences, look

    return differences(place.registry, look(place.registry, model))


def begin(run: Run, place: Place) -> None:
    """What every start does: end the MLflow runs that a killed process left, and say on standard error where ledger, alias and
    channel differ."""
    from components.registry.owner import reap

    reap(place.settings.mlflow_uri, experiment=run.brief.name)
    for line in disagreements(run.brief.name, place):
        sys.stderr.write(f"genwright: {line}\n")


def standing(run: Run, place: Place) -> Produced | None:
    """What an earlier, unchanged run produced, while its version and its bundle still exist."""
    known = recall(produced_path(folder_of(run, place)), Produced)
    if known is None or place.store.get(f"bundles/{known.bundle.sha256}/bundle.json") is None:
        return None
    releases = place.versions.releases(run.brief.name) if run.brief.name in place.versions.models() else []
    now = next((each for each in releases if each.bundle_sha256 == known.bundle.sha256), None)
    if now is None or (known.gates.verdict != "pass" and not _proved_beside(known, champion_of(run.brief.name, place))):
        return None
    return known.model_copy(update={"release": now})


def _proved_beside(known: Produced, champion: Release | None) -> bool:
    """What was refused was measured beside the champion that reigns now; beside another one it is proved anew."""
    reigns = champion is not None and champion.bundle_sha256 == known.bundle.sha256  # forced past its gates
    beside = known.bundle.bundle.lineage.teacher or (champion and champion.bundle_sha256)
    return reigns or known.gates.champion == beside


def refuse_unless_passed(produced: Produced) -> None:
    """Raises GateRefused with what the gates said."""
    if produced.gates.verdict != "pass":
        said = [f"{gate.gate} {gate.verdict} ({gate.text})" for gate in produced.gates.gates if gate.verdict != "pass"]
        raise GateRefused(
            f"{produced.release.model} version {produced.release.version} stays a candidate: {'; '.join(said)}",
            do=f"{produced.advice or OTHERWISE}; or promote it by hand with --force --why",
        )


def nothing_to_do(run: Run, known: Produced) -> str:
    """One line that says why an unchanged run trains nothing."""
    release = known.release
    state = (
        "reigns as champion"
        if "champion" in release.aliases
        else "is not the champion"
        if known.promoted
        else "was refused by its gates"
    )
    return (
        f"nothing to do: the brief, the data ({run.dataset.md5[:8]}) and genwright {run.genwright} are unchanged since "
        f"{release.model} version {release.version}, which {state}"
    )
