"""Puts a proof together: the exported graph, the champion's graph, the scorecard, the gates and the page."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from components.core.addresses import without_password
from components.core.errors import RegistryError
from components.core.family import Family
from components.core.files import write_whole
from components.core.grid import grid_png
from components.core.modality import find_modality
from components.core.records import Agreement, Condition, DryRun, GateReport, LocalDataset, Scorecard
from components.data.joined import REFERENCE, held_out
from components.data.shards import open_split
from components.delivery.bundles import fetch_bundle, read_bundle
from components.evaluation.agreement import agreement
from components.evaluation.chosen import choose
from components.evaluation.gates import gate
from components.evaluation.likeness import nearest_in_split
from components.evaluation.page import write_page
from components.evaluation.pair import Contender, score_pair
from components.evaluation.power import LOOKS, REFERENCE_MAX
from components.evaluation.samples import CHUNK, Stock, asked_like
from components.evaluation.score import score
from components.pipeline.backends import Backends
from components.pipeline.dry_run import known_dry_run
from components.pipeline.encoders import embedded, embeddings_of, shares_embeddings
from components.pipeline.evidence import estimated_and_measured, is_evidence, leave_evidence, row_of
from components.pipeline.extractor import load_extractor, load_judge, load_unseen
from components.pipeline.gate_power import margins_of
from components.pipeline.graph_sampler import open_graph, sampler_of
from components.pipeline.local_data import data_of
from components.pipeline.restored import restored
from components.pipeline.run import SAMPLES, Exported, Proof, Run, Trained, record_key
from components.registry.tracking import MlflowTracker, run_exists
from components.runtime.cpus import usable_cpus
from components.runtime.progress import reported
from components.training.sampling import TorchSampler

AGREEING = {"one_pass": 200, "few_step": 200, "many_step": 100}  # samples drawn by torch, too
GRID = 64
RIVALS = Stock()  # the students of one `distil` are all proved beside their teacher


def batch_of(device: str) -> int:
    """Of every run while scoring: on a CPU, such that all cores have a part of what is timed together."""
    return CHUNK if device == "cuda" else max(1, min(16, CHUNK // usable_cpus()))


def prove_graph(run: Run, trained: Trained, exported: Exported, beside: str | None, backends: Backends) -> Proof:
    """Score, gate, draw and log. Everything is measured on the ONNX graph, as it would be served, `beside` the bundle of this
    digest."""
    device, family, workspace = run.facts.device, restored(run, trained, backends), backends.workspace
    data = data_of(run, backends)
    embeddings = embeddings_of(run, data, backends)
    if not run_exists(backends.settings.mlflow_uri, trained.run_id):  # found out now, and not after the scoring
        shown = without_password(backends.settings.mlflow_uri)
        what = f"{run.brief.name}: its training, MLflow run {trained.run_id}, is not in {shown}"
        raise RegistryError(what, do="name the MLflow that tracked it in GENWRIGHT_TRACKING_URI")
    graph = partial(sampler_of, family, exported, workspace.open(exported.graph), device=device)
    condition = family.spec.condition
    candidate = Contender(graph(batch=batch_of(device)), condition=condition, timed=graph(batch=1), model=family)
    rival = _rival(run, data, beside, backends)
    scorecard, other = _scored(run, data, candidate, rival, backends)
    report = gate(
        scorecard,
        champion=other,
        gates=run.brief.gates,
        latency_ms=run.facts.latency_ms,
        champion_bundle=beside if rival else None,
    )
    report = report.model_copy(update={"champion": beside})
    agreed = _agreement(run, data, family, candidate, backends)
    dry = known_dry_run(run, backends)
    if is_evidence(run):
        record = record_key(run, "prove", beside=beside)
        row = row_of(run, trained.checkpoint, scorecard, backends, kind="proof", record=record, gates=report, dry=dry)
        leave_evidence(row, backends)
    with workspace.scratch() as folder:
        page, picture = _draw(run, data, trained, candidate, scorecard, other, report, folder, embeddings, dry)
        _log(scorecard, report, run, trained, backends, folder)
        return Proof(
            scorecard=scorecard,
            champion=other,
            gates=report,
            agreement=agreed,
            latency_ms=run.facts.latency_ms,
            page=workspace.put(page),
            samples=workspace.put(picture),
        )


def _scored(
    run: Run, data: LocalDataset, candidate: Contender, rival: Contender | None, backends: Backends
) -> tuple[Scorecard, Scorecard | None]:
    """The scorecard of the candidate, and that of the champion measured beside it."""
    protocol = protocol_of(run, data, candidate.condition, backends, samples=SAMPLES[run.decision.delivery])
    with reported("Proof") as progress:
        unseen = load_unseen(run.proof_network, held_out(data), data, backends, device=run.facts.device)
        protocol |= {
            "progress": progress,
            "looks": run.brief.proof.looks or LOOKS,
            "unseen": unseen,
            "margins": margins_of(run.brief),
        }
        if rival is None:
            own: dict[str, Any] = {"condition": candidate.condition, "timed": candidate.timed, "model": candidate.model}
            return score(candidate.sampler, **own, **protocol), None
        pair = score_pair(candidate, rival, **protocol)
        return pair.candidate, pair.champion


def protocol_of(run: Run, data: LocalDataset, condition: Condition | None, backends: Backends, *, samples: int) -> dict[str, Any]:
    """What every model of this data is measured by, for `score`; what only a proof looks at is not among it."""
    embeddings = embeddings_of(run, data, backends)
    train = open_split(data.path, "train", embeddings)
    return {
        "dataset": run.dataset,
        "train": train,
        "reference": held_out(data, embeddings),
        "extractor": load_extractor(data, backends),
        "judge": load_judge(train, condition, data, backends),
        "seed": run.brief.seed,
        "samples": samples,
        "reference_split": "+".join(REFERENCE),
        "device": run.facts.device,
    }


def _agreement(run: Run, data: LocalDataset, family: Family, candidate: Contender, backends: Backends) -> Agreement:
    """The graph's samples and torch's, of the same seeds."""
    n = AGREEING[run.decision.delivery]
    seeds = [*range(n)]
    reference = held_out(data, embeddings_of(run, data, backends))
    asked = asked_like(reference, candidate.condition, n, seed=0)
    torch_sampler = TorchSampler(family, subject=candidate.sampler.subject, device=run.facts.device, batch=CHUNK)
    return agreement(
        candidate.sampler(seeds, asked),
        torch_sampler(seeds, asked),
        train=choose(open_split(data.path, "train"), n, seed=run.brief.seed),
        reference=choose(reference, REFERENCE_MAX, seed=run.brief.seed),
        extractor=load_extractor(data, backends),
        seed=run.brief.seed,
    )


def _draw(
    run: Run,
    data: LocalDataset,
    trained: Trained,
    candidate: Contender,
    scorecard: Scorecard,
    other: Scorecard | None,
    report: GateReport,
    folder: Path,
    embeddings: Path | None,
    dry: DryRun | None,
) -> tuple[Path, Path]:
    """The page and the sample grid."""
    memory = trained.checkpoint.memory
    reference = held_out(data, embeddings)
    shown = candidate.sampler([*range(GRID)], asked_like(reference, candidate.condition, GRID, seed=0))
    train = open_split(data.path, "train")
    nearest = train.take(np.asarray(nearest_in_split(shown[:12], train, k=1)[1][:, 0]))
    page, picture = folder / "page.html", folder / "samples.png"
    pictures = partial(find_modality(train.item.modality).pictures, spec=train.item)
    write_whole(picture, grid_png(pictures(shown)))
    write_page(
        page,
        model=run.brief.name,
        decision=run.decision,
        dataset=run.dataset,
        scorecard=scorecard,
        report=report,
        champion=other,
        samples=pictures(shown),
        neighbours=(pictures(shown[:12]), pictures(nearest)),
        lineage={
            "MLflow run": trained.run_id,
            "data version": run.dataset.md5,
            "data revision": run.dataset.rev,
            "brief": run.brief.digest(),
            **({"base": run.base.text} if run.base else {}),
            **({"text encoder": run.encoder.record.text} if run.encoder else {}),
            **({"the sum": run.base.sum} if run.base and run.base.adapters else {}),
            **({"adapter": trained.adapter.text} if trained.adapter else {}),
            **({"memory in training": memory.text} if memory else {}),
            **estimated_and_measured(run, trained.checkpoint, scorecard, dry),
        },
        tuned=(trained.checkpoint.tuning, trained.checkpoint.step),
    )
    return page, picture


def _rival(run: Run, data: LocalDataset, sha256: str | None, backends: Backends) -> Contender | None:
    """The bundle to be beaten, ready to be scored; None when there is none, when it makes items of another shape, or is asked by
    what the data does not hold."""
    if sha256 is None:
        return None
    folder = fetch_bundle(backends.store, sha256, backends.home.bundles)
    bundle = read_bundle(folder)
    if bundle.spec.item != run.dataset.item:
        return None
    asked, reference = bundle.spec.condition, None
    if not shares_embeddings(asked, run.encoder):
        if not run.dataset.captions:
            return None
        reference = held_out(data, embedded(folder, data, backends))
    device = run.facts.device
    return Contender(
        open_graph(bundle, folder, batch=batch_of(device), device=device),
        condition=asked,
        timed=open_graph(bundle, folder, batch=1, device=device),
        reference=reference,
        stock=RIVALS,
    )


def _log(scorecard: Scorecard, report: GateReport, run: Run, trained: Trained, backends: Backends, folder: Path) -> None:
    """The numbers, and what was drawn in `folder`. Students of one training share its MLflow run, each by a name of its own."""
    name = f"proof-{run.student.steps}-steps-{run.brief.serving.precision}" if run.student else "proof"
    tracker = MlflowTracker(backends.settings.mlflow_uri, trained.run_id)
    tracker.metrics({f"{name}/{what}": metric.value for what, metric in scorecard.metrics.items()}, step=trained.checkpoint.step)
    tracker.flush()
    scorecard.write(folder / "scorecard.json")
    report.write(folder / "gates.json")
    tracker.artifact(folder, name)
