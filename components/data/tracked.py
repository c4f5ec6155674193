"""A dataset prepared and put under version control, as `genwright data prepare` does it."""

from pathlib import Path
from typing import Any

from components.data.manifest import Report
from components.data.prepare import QUARANTINE_MAX, prepare, sheet_path
from components.data.versions import check_trackable, track
from components.data.words import lines, warnings


def prepare_and_track(
    source: str, to: Path, *, cache: Path, quarantine_max: float | None, **options: Any
) -> tuple[dict[str, Any], list[str]]:
    """Prepare a source into a folder and put that under DVC; `options`: those of `prepare`.

    Returns what came of it, for a program, and line by line for a person. Raises what `prepare` and `track` do.
    """
    reports: list[Report] = []
    check_trackable(to)
    most = QUARANTINE_MAX if quarantine_max is None else quarantine_max
    manifest = prepare(source, to, cache=cache, quarantine_max=most, told=reports.append, **options)
    track(to)
    (report,), sheet = reports, sheet_path(cache, to.absolute())
    document = {
        "dataset": manifest.model_dump(mode="json"),
        "report": report.model_dump(mode="json"),
        "warnings": warnings(manifest, report),
        "sheet": str(sheet),
    }
    return document, [*lines(manifest, report, to=to, sheet=sheet), "  tracked by DVC"]
