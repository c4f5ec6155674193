"""The stages of the road as plain functions: records in, a record out, each the call of one component.

Prefect tasks (flows/produce.py), the command line and a Kubeflow pod call the same functions. Everything a stage leaves
behind stands in the run's folder and is found again when the stage is run again.
"""

from functools import partial
from pathlib import Path

from components.core.brief import Brief
from components.core.records import Admission, Bundle, FileDigest, Lineage, Release, StoredBundle
from flows import moves, standing
from flows.deciding import check, decide
from flows.memo import once, recall
from flows.place import Place
from flows.runs import Exported, Produced, Proof, Run, Trained, evidence, folder_of, package_version, produced_path
from flows.training import train_in_worker


def fetch(brief: Brief, place: Place, *, base: Path | None = None) -> Run:
    """Fetch the data and decide on what was measured: the inputs of everything that follows.

    `base`: the folder that the brief's paths are relative to, core.brief.base_of its file; the current one for a brief without.
    """
    from components.data.versions import fetch as fetch_data

    dataset = fetch_data(brief.data, cache=place.settings.root / "data", mirror=place.settings.data_mirror, base=base)
    facts, decision = decide(brief, place, dataset=dataset, base=base)
    check(brief, facts, decision, dataset, base=base)
    return Run(brief=brief, dataset=dataset, facts=facts, decision=decision, genwright=package_version())


def train(run: Run, place: Place) -> Trained:
    """Train in a subprocess, tracked in one MLflow run. Raises TrainingFailed; run again, it goes on from the saved state.

    Raises BundleError before that where the champion to be proved beside is lost.
    """
    standing.begin(run, place)
    if run.student is None:
        standing.rival_of(run, place)
    folder = folder_of(run, place)
    return once(folder / "trained.json", Trained, lambda: train_in_worker(run, place, folder), holds=_trained_holds)


def _trained_holds(trained: Trained) -> bool:
    return (Path(trained.checkpoint.path) / "weights.safetensors").exists()


def export(run: Run, trained: Trained, place: Place) -> Exported:
    """The sampler as one ONNX graph that agrees with torch."""
    folder = folder_of(run, place)

    def make() -> Exported:
        from components.core.files import sha256_of
        from components.export.graph import export_graph
        from components.export.parity import check_parity
        from components.training.trainer import restore

        path = folder / "export" / "model.onnx"
        family = restore(trained.checkpoint)
        serving = run.brief.serving
        graph = export_graph(family, path, levels=serving.output == "uint8", precision=serving.precision)
        parity = check_parity(family, path, graph)
        return Exported(
            path=str(path),
            file=FileDigest(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size),
            condition=graph.condition,
            output=graph.output,
            output_type=graph.output_type,
            precision=graph.precision,
            opset=graph.opset,
            nodes=graph.nodes,
            parity=parity.differences,
        )

    return once(folder / "exported.json", Exported, make, holds=lambda known: Path(known.path).exists())


def prove(run: Run, trained: Trained, exported: Exported, place: Place) -> Proof:
    """Score the exported graph, beside the champion where there is one, and let the gates speak."""
    folder = folder_of(run, place)
    champion = run.student.teacher if run.student else standing.rival_of(run, place)

    def holds(known: Proof) -> bool:
        stored = recall(folder / "stored.json", StoredBundle)
        reigns = champion is not None and stored is not None and champion.bundle_sha256 == stored.sha256
        if (known.latency_ms, known.scorecard.device) != (run.facts.latency_ms, run.facts.device):
            return False
        return Path(known.page).exists() and (reigns or known.gates.champion == (champion and champion.bundle_sha256))

    from flows.proving import prove_graph

    return once(folder / "proof.json", Proof, lambda: prove_graph(run, trained, exported, champion, place, folder), holds=holds)


def seal(run: Run, trained: Trained, exported: Exported, proof: Proof, place: Place) -> StoredBundle:
    """Seal the bundle and put it into the object store, under its digest."""
    import shutil

    from components.core.bundles import seal_bundle
    from components.core.files import sha256_of
    from components.delivery.bundles import put_bundle
    from components.runtime.reference import add_reference
    from components.training.trainer import restore

    folder = folder_of(run, place)
    place_of_bundle = folder / "bundle"
    shutil.rmtree(place_of_bundle, ignore_errors=True)
    place_of_bundle.mkdir(parents=True)
    samples = shutil.copyfile(proof.samples, place_of_bundle / "samples.png")
    shutil.copyfile(exported.path, place_of_bundle / "model.onnx")
    family = restore(trained.checkpoint)
    bundle = Bundle(
        model=run.brief.name,
        family=run.decision.family,
        variant=trained.checkpoint.variant,
        spec=trained.checkpoint.spec,
        noise=family.noise_inputs(),
        condition=exported.condition,
        output=exported.output,
        output_type=exported.output_type,
        precision=exported.precision,
        opset=exported.opset,
        max_batch=run.brief.serving.batch,
        files=(
            exported.file,
            FileDigest(name="samples.png", sha256=sha256_of(samples), size_bytes=samples.stat().st_size),
        ),
        lineage=Lineage(
            run_id=trained.run_id,
            brief_sha256=run.brief.digest(),
            dataset_md5=run.dataset.md5,
            dataset_rev=run.dataset.rev,
            checkpoint_sha256=trained.checkpoint.sha256,
            decision=run.decision,
            genwright=run.genwright,
            teacher=run.student.teacher.bundle_sha256 if run.student else None,
        ),
        scorecard=proof.scorecard,
        gates=proof.gates,
        latent=family.card.latent,
    )
    bundle = add_reference(place_of_bundle, bundle, discrete=family.card.discrete, device=run.facts.device)
    bundle = bundle.model_copy(update={"admission": admitted(run, place_of_bundle, exported, proof, bundle)})
    seal_bundle(place_of_bundle, bundle)
    stored = put_bundle(place.store, place_of_bundle)
    stored.write(folder / "stored.json")
    return stored


def admitted(run: Run, folder: Path, exported: Exported, proof: Proof, bundle: Bundle) -> Admission:
    """The verdict on the graph in `folder` that is about to be sealed. Raises ExportError where it may not be served."""
    from components.core.bundles import MODEL_ONNX
    from components.core.errors import ExportError
    from components.core.records import AdmissionCheck
    from components.export.admission import examine

    worst, how = max(exported.parity.values()), "at most" if exported.precision == "fp32" else "on average at most"
    parity = AdmissionCheck(check="parity", passed=True, text=f"images differ from torch's by {how} {worst:.1g} of 2")
    metrics = AdmissionCheck(check="parity-metrics", passed=proof.agreement.holds, text=proof.agreement.text)
    verdict = examine(folder / MODEL_ONNX, bundle, device=run.facts.device, also=(parity, metrics))
    if verdict.verdict == "fail":
        raise ExportError(f"{bundle.family}/{bundle.variant}: its graph may not be served: {verdict.refusal}")
    return verdict


def register(run: Run, trained: Trained, stored: StoredBundle, proof: Proof, place: Place) -> Release:
    """A registered version with the alias candidate: the same one when it is run again."""
    from components.registry.versions import CANDIDATE, CHAMPION

    decision, student = run.decision, run.student
    taught = {"teacher": f"{student.teacher.model}/{student.teacher.version}"} if student else {}
    release = place.versions.register(
        run.brief.name,
        bundle=stored,
        run_id=trained.run_id,
        description=f"{decision.family}/{decision.variant} on {run.dataset.name} at {run.dataset.md5[:8]}",
        tags={"verdict": proof.gates.verdict, "family": decision.family, "variant": decision.variant} | taught,
    )
    if CHAMPION not in release.aliases:
        place.versions.set_alias(run.brief.name, CANDIDATE, release.version)
    return place.versions.get(run.brief.name, release.version)


def promote_if_proven(run: Run, trained: Trained, stored: StoredBundle, release: Release, proof: Proof, place: Place) -> Produced:
    """The end of the road: a candidate that every gate passed becomes the champion."""
    from components.registry.release import promote

    notes: tuple[str, ...] = ()
    passed = proof.gates.verdict == "pass"
    if passed:
        outcome = promote(
            place.registry,
            release.model,
            release.version,
            who=place.settings.who,
            why=f"produced from the brief {run.brief.name}; every gate passed",
            evidence=evidence(stored.bundle),
            check=partial(moves.check_beside, release, stored.bundle),
        )
        notes = outcome.notes
    produced = Produced(
        run_key=run.key,
        bundle=stored,
        release=place.versions.get(release.model, release.version),
        promoted=passed,
        gates=proof.gates,
        page=proof.page,
        samples=proof.samples,
        train_s=trained.checkpoint.train_s,
        notes=notes,
        advice=advised(run, trained, proof),
    )
    produced.write(produced_path(folder_of(run, place)))
    return produced


def advised(run: Run, trained: Trained, proof: Proof) -> str:
    """What to do where the gates do not let it pass, in the options of the command that made it."""
    from components.evaluation.advice import DISTIL, PRODUCE, Training, advice

    best = trained.checkpoint
    training = Training(
        step=best.step,
        steps_total=best.steps_total,
        ended_by=best.stopped_by,
        collapse=best.collapse,
        duplicates=run.dataset.duplicates,
        reference=proof.scorecard.protocol.reference_count,
        blurry=any(warning.code == "vae-for-quality" for warning in run.decision.warnings),
    )
    return advice(proof.gates, training, remedies=DISTIL if run.student else PRODUCE)
