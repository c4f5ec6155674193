"""Puts a proof together: the exported graph, the champion's graph, the scorecard, the gates and the page."""

from pathlib import Path

import numpy as np

from components.core.files import write_whole
from components.core.grid import grid_png
from components.core.records import Release
from components.core.session import GraphSampler
from components.data.shards import open_split
from components.delivery.bundles import fetch_bundle, read_bundle
from components.evaluation.gates import gate
from components.evaluation.neighbours import nearest_in_split
from components.evaluation.page import write_page
from components.evaluation.pair import Contender, score_pair
from components.evaluation.samples import balanced_labels
from components.evaluation.score import score
from components.registry.tracking import MlflowTracker
from components.training.trainer import restore
from flows.place import Place
from flows.runs import Exported, Proof, Run, Trained
from flows.stages import GRID, LOOKS, REFERENCE, SAMPLES, held_out, load_extractor, open_graph

BATCH = 50  # of every run while scoring


def prove_graph(run: Run, trained: Trained, exported: Exported, champion: Release | None, place: Place, folder: Path) -> Proof:
    """Score, gate, draw and log. Everything is measured on the ONNX graph, as it would be served."""
    conditional = trained.checkpoint.spec.conditional
    sampler = _graph(trained, exported, batch=BATCH, device=run.facts.device)
    candidate = Contender(sampler, conditional=conditional, timed=_graph(trained, exported, batch=1, device=run.facts.device))
    rival = _rival(run, champion, place)
    extractor = load_extractor(run.dataset, place)
    train, reference = open_split(run.dataset.path, "train"), held_out(run.dataset)
    samples = SAMPLES[run.decision.delivery]
    gates = run.brief.gates
    if rival is None:
        card, other = (
            score(
                sampler,
                dataset=run.dataset,
                train=train,
                reference=reference,
                extractor=extractor,
                seed=run.brief.seed,
                samples=samples,
                reference_split="+".join(REFERENCE),
                conditional=conditional,
                timed=candidate.timed,
                device=run.facts.device,
            ),
            None,
        )
    else:
        pair = score_pair(
            candidate,
            rival,
            dataset=run.dataset,
            train=train,
            reference=reference,
            extractor=extractor,
            fd_ratio_max=gates.fd_ratio_max,
            seed=run.brief.seed,
            samples=samples,
            looks=LOOKS[run.decision.delivery],
            reference_split="+".join(REFERENCE),
            device=run.facts.device,
        )
        card, other = pair.candidate, pair.champion
    report = gate(
        card,
        champion=other,
        gates=gates,
        latency_ms=run.brief.serving.latency_ms,
        champion_bundle=champion.bundle_sha256 if champion and rival else None,
    )
    report = report.model_copy(update={"champion": champion.bundle_sha256 if champion else None})
    seeds = [*range(GRID)]
    shown = sampler(seeds, balanced_labels(0, GRID, classes=len(run.dataset.classes)).tolist() if conditional else None)
    nearest = train.take(np.asarray(nearest_in_split(shown[:12], train, k=1)[1][:, 0]))
    page, picture = folder / "proof" / "card.html", folder / "proof" / "samples.png"
    write_whole(picture, grid_png(shown))
    write_page(
        page,
        model=run.brief.name,
        decision=run.decision,
        dataset=run.dataset,
        scorecard=card,
        report=report,
        champion=other,
        samples=shown,
        neighbours=(shown[:12], nearest),
        lineage={
            "MLflow run": trained.run_id,
            "data version": run.dataset.md5,
            "data revision": run.dataset.rev,
            "brief": run.brief.digest(),
        },
    )
    proof = Proof(scorecard=card, champion=other, gates=report, page=str(page), samples=str(picture))
    _log(proof, trained, place, folder)
    return proof


def _graph(trained: Trained, exported: Exported, *, batch: int, device: str) -> GraphSampler:
    noise = restore(trained.checkpoint).noise_inputs()
    return GraphSampler(
        Path(exported.path), noise=noise, condition=exported.condition, output=exported.output, batch=batch, device=device
    )


def _rival(run: Run, champion: Release | None, place: Place) -> Contender | None:
    """The reigning champion, ready to be scored; None when there is none, or when it makes images of another shape."""
    if champion is None:
        return None
    folder = fetch_bundle(place.store, champion.bundle_sha256, place.settings.root / "bundles")
    bundle = read_bundle(folder)
    height, width, channels = run.dataset.shape
    if bundle.spec.shape != (channels, height, width):
        return None
    device = run.facts.device
    return Contender(
        open_graph(bundle, folder, batch=BATCH, device=device),
        conditional=bundle.spec.conditional,
        timed=open_graph(bundle, folder, batch=1, device=device),
    )


def _log(proof: Proof, trained: Trained, place: Place, folder: Path) -> None:
    tracker = MlflowTracker(place.settings.mlflow_uri, trained.run_id)
    tracker.metrics(
        {f"proof/{name}": metric.value for name, metric in proof.scorecard.metrics.items()}, step=trained.checkpoint.step
    )
    tracker.flush()
    proof.scorecard.write(folder / "proof" / "scorecard.json")
    proof.gates.write(folder / "proof" / "gates.json")
    tracker.artifact(folder / "proof", "proof")
