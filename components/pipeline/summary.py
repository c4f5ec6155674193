"""A run in Markdown, for an orchestrator's page: how it ended, what was decided, the gates, samples, and where things are."""

import base64
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING

from components.core import store_keys
from components.core.errors import GenwrightError
from components.pipeline.endings import Ending

if TYPE_CHECKING:
    from components.core.records import Artifact, Decision, GateReport
    from components.pipeline.backends import Backends
    from components.pipeline.run import Produced, Run

PICTURE_PIXELS = 480  # the longer edge of the samples
PICTURE_BYTES = 150_000  # a larger one is left to the page of the run
REASONS = 6


def markdown(ending: Ending, backends: "Backends", *, title: str) -> str:
    """The page of how a run ended. `title`: what it was a run of. Parts that there are none of are left out."""
    run, produced = ending.run, ending.produced
    parts = [f"# {title}: {ending.name}", ending.sentence]
    if run is not None:
        parts += _decision(run.decision)
    if produced is not None:
        parts += _gates(produced.gates)
        with suppress(GenwrightError, OSError):  # they are on the page of the run, too
            parts += _samples(produced.samples, backends)
    rows = [f"| {name} | {_cell(value)} |" for name, value in _places(run, produced, backends)]
    if rows:
        parts += ["## Where", "\n".join(["| what | where |", "|---|---|", *rows])]
    return "\n\n".join(parts)


def _decision(decision: "Decision") -> list[str]:
    reasons = "\n".join(f"- {reason.text}" for reason in decision.reasons[:REASONS])
    return ["## Decision", f"**{decision.family}/{decision.variant}**, {decision.mode}, {decision.delivery}", reasons]


def _gates(report: "GateReport") -> list[str]:
    rows = [f"| {each.gate} | {each.verdict} | {_cell(each.text)} |" for each in report.gates]
    return [f"## Gates: {report.verdict}", "\n".join(["| gate | verdict | measured |", "|---|---|---|", *rows])]


def _samples(samples: "Artifact", backends: "Backends") -> list[str]:
    """The grid, as a small PNG in the page itself: a browser elsewhere reaches no store."""
    from PIL import Image

    with Image.open(backends.workspace.open(samples)) as opened:
        picture = opened.copy()
    picture.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
    file = BytesIO()
    picture.save(file, "PNG", optimize=True)
    if len(file.getvalue()) > PICTURE_BYTES:
        return []
    return ["## Samples", f"![samples](data:image/png;base64,{base64.b64encode(file.getvalue()).decode()})"]


def _places(run: "Run | None", produced: "Produced | None", backends: "Backends") -> Iterator[tuple[str, str]]:
    """What a person may want to open next, and where it is."""
    if run is not None:
        yield "data", f"{run.dataset.name}, version {run.dataset.md5} at {run.dataset.rev}"
        yield "run", run.reference
    if produced is None:
        return
    from components.delivery.bundles import bundle_uri

    release, page, tracking = produced.release, produced.page, backends.settings.mlflow_uri
    at = f"{tracking.rstrip('/')}/#/models/{release.model}/versions/{release.version}"
    yield "version", f"{release.model}/{release.version}, aliases: {', '.join(release.aliases) or 'none'}"
    yield "MLflow", f"[{at}]({at})" if tracking.startswith("http") else f"run {release.run_id}"
    yield "page", f"{backends.store.uri}/{store_keys.artifact(page.sha256, page.name)}"
    yield "bundle", bundle_uri(backends.store, produced.bundle.sha256)
    yield "advice", produced.advice or "none"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
