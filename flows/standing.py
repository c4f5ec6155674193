"""What stands already: an unchanged run is found again, and says so."""

from components.core.errors import GateRefused
from components.core.records import Release
from flows.memo import recall
from flows.place import Place
from flows.runs import Produced, Run, folder_of, produced_path

OTHERWISE = "change the brief"  # what an earlier version produced has no advice


def standing(run: Run, place: Place) -> Produced | None:
    """What an earlier, unchanged run produced, while its version and its bundle still exist."""
    known = recall(produced_path(folder_of(run, place)), Produced)
    if known is None or place.store.get(f"bundles/{known.bundle.sha256}/bundle.json") is None:
        return None
    releases = place.versions.releases(run.brief.name) if run.brief.name in place.versions.models() else []
    now = next((each for each in releases if each.bundle_sha256 == known.bundle.sha256), None)
    if now is None or (known.gates.verdict != "pass" and not _proved_beside(known, releases)):
        return None
    return known.model_copy(update={"release": now})


def _proved_beside(known: Produced, releases: list[Release]) -> bool:
    """What was refused was measured beside the champion that reigns now; beside another one it is proved anew."""
    champion = next((each for each in releases if "champion" in each.aliases), None)
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
