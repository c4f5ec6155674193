"""The page of a registered model in MLflow: what is served now, why, how good it is, and how to load it. In markdown."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence

import yaml

from components.core import store_keys
from components.core.brief import Brief
from components.core.errors import GenwrightError
from components.core.metrics import number
from components.core.records import Bundle, Release
from components.core.stores import ObjectStore
from components.evaluation.definitions import words, words_of
from components.pipeline.proved import with_proof
from components.pipeline.workspace import Workspace
from components.policy.view import sentence
from components.registry.versions import CHAMPION, Versions

LOAD = """```python
import mlflow, numpy as np

model, rng = mlflow.pyfunc.load_model("models:/{reference}"), np.random.default_rng(0)
items = model.predict({{{inputs}}})["{output}"]  # {made}
```"""
OLDER = "It was registered by an earlier genwright, so MLflow has no model to load: `genwright serve {model}`."


def write_page(model: str, *, versions: Versions, workspace: Workspace) -> None:
    """Write the page of a model anew: of its champion, or of the newest version while there is none.

    No release depends on it: what stops it is said on standard error, and it is written again by what is promoted next, and by
    `genwright reconcile`.
    """
    written = None
    try:
        while (release := _shown(model, versions)) != written and release is not None:  # another may have promoted meanwhile
            bundle = _bundle(release, workspace)
            if bundle is None:
                return  # lost or damaged: `genwright history` and `explain` say so
            versions.describe(model, page_of(release, bundle, _brief(bundle, workspace.store), links=versions.links(release)))
            written = release
    except GenwrightError as error:
        sys.stderr.write(f"genwright: {model}: its page in MLflow is of before: {error}\n")


def _shown(model: str, versions: Versions) -> Release | None:
    releases = versions.releases(model)
    champion = next((each for each in releases if CHAMPION in each.aliases), None)
    return champion or (releases[-1] if releases else None)


def _bundle(release: Release, workspace: Workspace) -> Bundle | None:
    bundle = workspace.read(store_keys.bundle_file(release.bundle_sha256), Bundle)
    return bundle and with_proof(bundle, workspace)


def _brief(bundle: Bundle, store: ObjectStore) -> Brief | None:
    """That of the run which sealed the bundle; None where the store does not have it."""
    key = bundle.lineage.run_key
    found = store.get(store_keys.run_record(bundle.model, key, "run")) if key else None
    try:
        return Brief.model_validate(json.loads(found[0])["brief"]) if found else None
    except (ValueError, KeyError):  # of another version of genwright
        return None


def page_of(release: Release, bundle: Bundle, brief: Brief | None, *, links: Mapping[str, str]) -> str:
    """Markdown, what people look for first at its beginning. `links`: to other pages of MLflow, by their names."""
    return "\n\n".join(part for part in _parts(release, bundle, brief, links) if part)


def _parts(release: Release, bundle: Bundle, brief: Brief | None, links: Mapping[str, str]) -> Iterator[str]:
    item, asked = bundle.spec.item, bundle.spec.condition
    what = f"It makes {item.modality} items of {item.text}" + (f", asked for by {asked.asked}" if asked else "")
    data = f"`{brief.data.path}`, version " if brief else ""
    yield f"{what}: `{bundle.family}/{bundle.variant}`, trained on {data}`{bundle.lineage.dataset_md5[:12]}`."
    if added := bundle.lineage.adapters:
        parts = ", ".join(f"{each.weight:g} `{each.model}` (bundle `{each.bundle[:12]}`)" for each in added)
        yield f"It is its base with adapters added: {parts}."
    if origin := bundle.lineage.foreign:
        yield f"Its weights began with `{origin.name}`, made elsewhere; licence: {origin.licence.text}."
    champion = CHAMPION in release.aliases
    state = "is champion" if champion else f"waits, its gates say {bundle.gates.verdict}; no version is champion"
    named = {**links, "bundle": ""}
    shown = " · ".join(f"[{name}]({to})" if to else f"{name} `{release.bundle_sha256[:12]}`" for name, to in named.items())
    yield f"**Version {release.version} {state}.** {shown}"
    yield "## Load it\n" + (_loading(release, bundle) if "model" in links else OLDER.format(model=release.model))
    yield "## Scorecard\n" + _scorecard(bundle)
    yield f"## Gates: {bundle.gates.verdict}\n" + _lines(
        f"{each.gate}: {each.verdict}, {each.text}" for each in bundle.gates.gates
    )
    reasons = bundle.lineage.decision.reasons
    yield "## Decision\n" + _lines(sentence(reason.text) for reason in reasons) if reasons else ""
    if brief is not None:
        told = yaml.safe_dump(brief.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
        yield f"## Brief\n```yaml\n{told.rstrip()}\n```"


def _loading(release: Release, bundle: Bundle) -> str:
    reference = f"{release.model}@{CHAMPION}" if CHAMPION in release.aliases else f"{release.model}/{release.version}"
    given = {each.name: _drawn(each.distribution, each.shape) for each in bundle.noise}
    if bundle.condition and bundle.spec.condition:
        kind = {"INT64": "int64", "FP32": "float32"}[bundle.spec.condition.datatype]
        given[bundle.condition] = f'np.zeros({(16, *bundle.spec.condition.shape)}, "{kind}")'
    made = "the 256 levels" if bundle.output_type == "UINT8" else "about [-1, 1]"
    shape = [16, *bundle.spec.shape]
    inputs = ", ".join(f'"{name}": {how}' for name, how in given.items())
    return LOAD.format(reference=reference, inputs=inputs, output=bundle.output, made=f"{shape}, {made}")


def _drawn(distribution: str, shape: Sequence[int]) -> str:
    draw = {"normal": "standard_normal", "uniform": "random"}[distribution]
    return f"rng.{draw}({(16, *shape)}, np.float32)"


def _scorecard(bundle: Bundle) -> str:
    protocol, metrics = bundle.scorecard.protocol, bundle.scorecard.metrics
    rows = [f"| metric | value | {protocol.level:.0%} interval |", "|---|---|---|"]
    for name in (*words(), *sorted(set(metrics) - set(words()))):
        if metric := metrics.get(name):
            interval = f"{number(metric.low)} to {number(metric.high)}"
            rows.append(f"| {words_of(name).heading} | {number(metric.value)} | {interval} |")
    return "\n".join((f"{protocol.samples:,} samples beside {protocol.reference_count:,} held-out items.\n", *rows))


def _lines(texts: Iterator[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
