"""The stages of the road as plain functions: records in, a record out, each the call of one component.

components/pipeline/production.py has their order. Everything a stage leaves behind stands in the run's folder and is found again
when the stage is run again.
"""

from functools import partial
from pathlib import Path

from components.core.records import Admission, Bundle, FileDigest, Lineage, Release, StoredBundle
from components.pipeline import existing, release_commands
from components.pipeline.backends import Backends
from components.pipeline.run import Exported, Produced, Proof, Run, Trained, evidence, folder_of, record_of
from components.pipeline.stage_cache import load_or_run, recall
from components.pipeline.training import train_in_worker


def train(run: Run, backends: Backends) -> Trained:
    """Train in a subprocess, tracked in one MLflow run. Raises TrainingFailed; run again, it goes on from the saved state.

    Raises BundleError before that where the champion to be proved beside is lost.
    """
    existing.begin(run, backends)
    if run.student is None:
        existing.rival_of(run, backends)
    folder = folder_of(run, backends, "train")
    return load_or_run(
        record_of(run, backends, "train"), Trained, lambda: train_in_worker(run, backends, folder), is_valid=_trained_is_valid
    )


def _trained_is_valid(trained: Trained) -> bool:
    return (Path(trained.checkpoint.path) / "weights.safetensors").exists()


def export(run: Run, trained: Trained, backends: Backends) -> Exported:
    """The sampler as one ONNX graph that agrees with torch."""
    folder = folder_of(run, backends, "export")

    def make() -> Exported:
        from components.core.files import sha256_of
        from components.export.graph import export_graph
        from components.export.parity import check_parity
        from components.training.trainer import restore

        path = folder / "export" / "model.onnx"
        family = restore(run.checkpoint(trained))
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

    return load_or_run(record_of(run, backends, "export"), Exported, make, is_valid=lambda known: Path(known.path).exists())


def prove(run: Run, trained: Trained, exported: Exported, backends: Backends) -> Proof:
    """Score the exported graph, beside the champion where there is one, and let the gates speak."""
    folder = folder_of(run, backends, "prove")
    champion = run.student.teacher if run.student else existing.rival_of(run, backends)

    def make() -> Proof:
        from components.pipeline.proof import prove_graph

        return prove_graph(run, trained, exported, champion, backends, folder)

    def is_valid(known: Proof) -> bool:
        stored = recall(record_of(run, backends, "seal"), StoredBundle)
        reigns = champion is not None and stored is not None and champion.bundle_sha256 == stored.sha256
        return Path(known.page).exists() and (reigns or known.gates.champion == (champion and champion.bundle_sha256))

    return load_or_run(record_of(run, backends, "prove"), Proof, make, is_valid=is_valid)


def seal(run: Run, trained: Trained, exported: Exported, proof: Proof, backends: Backends) -> StoredBundle:
    """Seal the bundle and put it into the object store, under its digest."""
    import shutil

    from components.core.bundles import seal_bundle
    from components.core.files import sha256_of
    from components.delivery.bundles import put_bundle
    from components.runtime.reference import add_reference
    from components.training.trainer import restore

    folder = folder_of(run, backends, "seal")
    run.write(folder / "run.json")
    place_of_bundle = folder / "bundle"
    shutil.rmtree(place_of_bundle, ignore_errors=True)
    place_of_bundle.mkdir(parents=True)
    samples = shutil.copyfile(proof.samples, place_of_bundle / "samples.png")
    shutil.copyfile(exported.path, place_of_bundle / "model.onnx")
    family = restore(run.checkpoint(trained))
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
    stored = put_bundle(backends.store, place_of_bundle)
    stored.write(record_of(run, backends, "seal"))
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


def register(run: Run, trained: Trained, stored: StoredBundle, proof: Proof, backends: Backends) -> Release:
    """A registered version with the alias candidate: the same one when it is run again."""
    from components.registry.versions import CANDIDATE, CHAMPION

    decision, student = run.decision, run.student
    taught = {"teacher": f"{student.teacher.model}/{student.teacher.version}"} if student else {}
    release = backends.versions.register(
        run.brief.name,
        bundle=stored,
        run_id=trained.run_id,
        description=f"{decision.family}/{decision.variant} on {run.dataset.name} at {run.dataset.md5[:8]}",
        tags={"verdict": proof.gates.verdict, "family": decision.family, "variant": decision.variant} | taught,
    )
    if CHAMPION not in release.aliases:
        backends.versions.set_alias(run.brief.name, CANDIDATE, release.version)
    return backends.versions.get(run.brief.name, release.version)


def promote_if_proven(
    run: Run, trained: Trained, stored: StoredBundle, release: Release, proof: Proof, backends: Backends
) -> Produced:
    """The end of the road: a candidate that every gate passed becomes the champion."""
    from components.registry.release import promote

    notes: tuple[str, ...] = ()
    passed = proof.gates.verdict == "pass"
    if passed:
        outcome = promote(
            backends.registry,
            release.model,
            release.version,
            who=backends.settings.who,
            why=f"produced from the brief {run.brief.name}; every gate passed",
            evidence=evidence(stored.bundle),
            check=partial(release_commands.check_beside, release, stored.bundle),
        )
        notes = outcome.notes
    produced = Produced(
        run_key=run.key("seal"),
        bundle=stored,
        release=backends.versions.get(release.model, release.version),
        promoted=passed,
        gates=proof.gates,
        page=proof.page,
        samples=proof.samples,
        train_s=trained.checkpoint.train_s,
        notes=notes,
        advice=advised(run, trained, proof),
    )
    produced.write(record_of(run, backends, "promote"))
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
