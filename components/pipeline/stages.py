"""The stages of the road as plain functions: records in, a record out, each the call of one component.

components/pipeline/order.py has their order. What a stage leaves behind is in the store, its record under the stage's key,
and is found again when the stage is run again, here or on another machine.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.errors import BriefError
from components.core.records import AddedAdapter, Admission, Bundle, Lineage, Release, StoredBundle
from components.pipeline import existing, release_commands
from components.pipeline.approval import missing_tag
from components.pipeline.backends import Backends
from components.pipeline.encoders import encoder_folder
from components.pipeline.lease import Lease, check_lease
from components.pipeline.pretrained import reads_text
from components.pipeline.restored import restored
from components.pipeline.run import Exported, Produced, Proof, Run, Trained, evidence, folder_of, record_key
from components.pipeline.training import make_untrained, saves_of, train_in_worker
from components.training.start import find_start

if TYPE_CHECKING:
    from components.registry.versions import LoggedModel


def train(run: Run, held: Lease, backends: Backends) -> Trained:
    """Train in a subprocess, tracked in one MLflow run; or take a base as it is, or with adapters added.

    Raises TrainingFailed; run again, it goes on from the saved state. Raises TrainingFailed too once the lease is lost;
    BundleError before anything is trained where the champion to be proved beside is lost.
    """
    existing.begin(run, backends)
    if run.student is None:
        existing.rival_of(run, backends)
    folder, workspace = folder_of(run, backends.home, "train"), backends.workspace
    work = train_in_worker if run.student or find_start(run.decision.mode).learns else make_untrained
    trained = workspace.read_or_make(
        record_key(run, "train"),
        Trained,
        lambda: work(run, held, backends, folder),
        is_valid=lambda known: workspace.holds(known.checkpoint.weights, *known.checkpoint.adapter),
    )
    saves_of(run, held, backends).clear()
    return trained


def export(run: Run, trained: Trained, backends: Backends) -> Exported:
    """The sampler as one ONNX graph that agrees with torch."""
    workspace = backends.workspace

    def make() -> Exported:
        from components.core.bundles import MODEL_ONNX
        from components.export.graph import export_graph
        from components.export.parity import check_parity

        family, serving = restored(run, trained, backends), run.brief.serving
        with workspace.scratch() as folder:
            path = folder / MODEL_ONNX
            graph = export_graph(family, path, levels=serving.output == "uint8", precision=serving.precision)
            parity = check_parity(family, path, graph)
            return Exported(
                graph=workspace.put(path),
                condition=graph.condition,
                output=graph.output,
                output_type=graph.output_type,
                precision=graph.precision,
                opset=graph.opset,
                nodes=graph.nodes,
                parity=parity.differences,
            )

    return workspace.read_or_make(record_key(run, "export"), Exported, make, is_valid=lambda known: workspace.holds(known.graph))


def prove(run: Run, trained: Trained, exported: Exported, backends: Backends) -> Proof:
    """Score the exported graph, beside the champion where there is one, and let the gates speak."""
    beside = run.student.teacher.bundle_sha256 if run.student else existing.rival_of(run, backends)

    def make() -> Proof:
        from components.pipeline.proof import prove_graph

        return prove_graph(run, trained, exported, beside, backends)

    workspace = backends.workspace
    return workspace.read_or_make(
        record_key(run, "prove", beside=beside),
        Proof,
        make,
        is_valid=lambda known: workspace.holds(known.page, known.samples),
    )


def seal(run: Run, trained: Trained, exported: Exported, proof: Proof, backends: Backends) -> StoredBundle:
    """Seal the bundle and put it into the object store, under its digest."""
    from components.delivery.bundles import holds_bundle

    return backends.workspace.read_or_make(
        record_key(run, "seal", beside=proof.gates.champion),
        StoredBundle,
        lambda: _sealed(run, trained, exported, proof, backends),
        is_valid=lambda known: holds_bundle(backends.store, known.sha256),
    )


def _sealed(run: Run, trained: Trained, exported: Exported, proof: Proof, backends: Backends) -> StoredBundle:
    from components.core.bundles import MODEL_ONNX, seal_bundle
    from components.delivery.bundles import put_bundle
    from components.evaluation.timed import untimed, untimed_gates
    from components.export.text_encoder import add_text_encoder
    from components.runtime.reference import add_reference

    workspace = backends.workspace
    family = restored(run, trained, backends)
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
        files=(exported.graph, proof.samples, *trained.checkpoint.adapter),
        lineage=Lineage(
            brief_sha256=run.brief.digest(),
            dataset_md5=run.dataset.md5,
            dataset_rev=run.dataset.rev,
            checkpoint_sha256=trained.checkpoint.weights.sha256,
            decision=run.decision,
            genwright=run.genwright,
            teacher=run.student.teacher.bundle_sha256 if run.student else None,
            base=run.base.bundle_sha256 if run.base else None,
            base_weights=run.base.checkpoint.weights.sha256 if run.base else None,
            adapters=_added(run),
            foreign=run.origin,
            run_key=run.key("seal"),
            encoder=run.encoder.record if run.encoder else None,
        ),
        scorecard=untimed(proof.scorecard),
        gates=untimed_gates(proof.gates),
        latent=family.card.latent,
        adapter=trained.adapter,
    )
    with workspace.scratch() as folder:
        for file in (proof.samples, *trained.checkpoint.adapter):
            workspace.link(file, folder / file.name)
        workspace.link(exported.graph, folder / MODEL_ONNX)
        if run.encoder is not None:
            bundle = add_text_encoder(folder, bundle, encoder_folder(run.encoder, backends))
        bundle = add_reference(folder, bundle, discrete=family.discrete, device=run.facts.device)
        bundle = bundle.model_copy(update={"admission": admitted(run, folder, exported, proof, bundle)})
        seal_bundle(folder, bundle)
        return put_bundle(backends.store, folder)


def _added(run: Run) -> tuple[AddedAdapter, ...]:
    """The adapters as a bundle names them: by digests, which are the same in every registry."""
    known = ((each, each.checkpoint.weights.sha256) for each in (run.base.adapters if run.base else ()))
    return tuple(
        AddedAdapter(model=each.model, bundle=each.bundle_sha256, weights=weights, weight=each.weight) for each, weights in known
    )


def admitted(run: Run, folder: Path, exported: Exported, proof: Proof, bundle: Bundle) -> Admission:
    """The verdict on the graph in `folder` that is about to be sealed. Raises ExportError where it may not be served."""
    from components.core.bundles import MODEL_ONNX
    from components.core.errors import ExportError
    from components.core.records import AdmissionCheck
    from components.export.admission import examine

    worst, how = max(exported.parity.values()), "max" if exported.precision == "fp32" else "mean"
    parity = AdmissionCheck(check="parity", passed=True, text=f"{how} abs error against PyTorch {worst:.1g}, range [-1, 1]")
    metrics = AdmissionCheck(check="parity-metrics", passed=proof.agreement.holds, text=proof.agreement.text)
    verdict = examine(folder / MODEL_ONNX, bundle, device=run.facts.device, also=(parity, metrics))
    if verdict.verdict == "fail":
        raise ExportError(f"{bundle.family}/{bundle.variant}: its graph may not be served: {verdict.refusal}")
    return verdict


def register(run: Run, held: Lease, trained: Trained, stored: StoredBundle, proof: Proof, backends: Backends) -> Release:
    """A registered version with the alias candidate: the same one when it is run again."""
    from components.delivery.bundles import bundle_uri
    from components.pipeline.model_page import write_page
    from components.pipeline.run_params import begun_with, version_line
    from components.registry.versions import CANDIDATE, CHAMPION

    check_lease(held, backends.store)
    decision, verdict = run.decision, proof.gates.verdict
    tags = {"verdict": verdict, "family": decision.family, "variant": decision.variant, "mode": decision.mode}
    tags |= {**begun_with(run), **backends.run_by}
    release = backends.versions.register(
        run.brief.name,
        sha256=stored.sha256,
        uri=bundle_uri(backends.store, stored.sha256),
        run_id=trained.run_id,
        description=f"{version_line(run)}; its gates say {verdict}",
        tags=tags,
        log=partial(_logged, run, trained, stored, proof, tags, backends),
    )
    if CHAMPION not in release.aliases:
        backends.versions.set_alias(run.brief.name, CANDIDATE, release.version)
    if verdict != "pass" and CHAMPION not in backends.versions.aliases(run.brief.name):  # else its promotion writes it
        write_page(run.brief.name, versions=backends.versions, workspace=backends.workspace)
    return backends.versions.get(run.brief.name, release.version)


def _logged(
    run: Run, trained: Trained, stored: StoredBundle, proof: Proof, tags: Mapping[str, str], backends: Backends
) -> "LoggedModel":
    """The bundle's graph as a model that MLflow can load."""
    from components.core.bundles import MODEL_ONNX
    from components.delivery.bundles import fetch_bundle
    from components.pipeline.run_params import adapter_of, origin_of

    workspace = backends.workspace
    adapted = [file.name for file in trained.checkpoint.adapter]
    wanted = [next(file for file in stored.bundle.files if file.name == name) for name in (MODEL_ONNX, *adapted)]
    if workspace.holds(*wanted):
        graph, *files = map(workspace.open, wanted)
    else:  # the bundle outlives what it was made of
        folder = fetch_bundle(backends.store, stored.sha256, backends.home.bundles)
        graph, *files = (folder / file.name for file in wanted)
    adapter = adapter_of(run, files)
    origin, whole = origin_of(run, trained, proof), _pipeline_of(run, trained, stored, backends)
    return backends.logged_models.log(stored, graph, origin, tags=tags, adapter=adapter, write_pipeline=whole)


def _pipeline_of(run: Run, trained: Trained, stored: StoredBundle, backends: Backends) -> Callable[[Path], object] | None:
    """Writes what was fine-tuned whole of a pipeline of diffusers as such a pipeline; None of all else, and where the weights are
    gone that the bundle was made of."""
    whole = run.decision.mode == "finetune" and run.student is None and run.origin is not None
    if not whole or not backends.workspace.holds(trained.checkpoint.weights):
        return None

    def write(folder: Path) -> None:
        from components.training.foreign.write import write_release

        beside = reads_text(stored.bundle.lineage.foreign, backends)
        name = f"{run.brief.name}, bundle {stored.sha256[:12]}"
        with suppress(BriefError):  # override.config made it a network that diffusers has no class for
            write_release(restored(run, trained, backends), stored.bundle, folder, name=name, beside=beside)

    return write


def promote(
    run: Run, held: Lease, trained: Trained, stored: StoredBundle, release: Release, proof: Proof, backends: Backends
) -> Produced:
    """The end of the road: a candidate that every gate passed becomes the champion, where it has the tag that the settings
    require. Raises RunError for a stale lease.

    Its record says what became of these inputs last, so it is replaced where they are proved anew, beside another champion.
    """
    from components.registry.release import promote as make_champion

    fence = partial(check_lease, held, backends.store)
    notes: tuple[str, ...] = ()
    passed = proof.gates.verdict == "pass"
    awaits = missing_tag(release, backends) if passed else ""
    if passed and not awaits:
        outcome = make_champion(
            backends.registry,
            release.model,
            release.version,
            who=backends.settings.who,
            why=f"produced from the brief {run.brief.name}; every gate passed",
            evidence=evidence(stored.bundle) | backends.judge.approval(release),
            check=partial(release_commands.check_beside, release, stored.bundle),
            fence=fence,
        )
        notes = outcome.notes
    produced = Produced(
        run_key=run.key("seal"),
        bundle=stored,
        release=backends.versions.get(release.model, release.version),
        promoted=passed and not awaits,
        awaits=awaits,
        gates=proof.gates,
        page=proof.page,
        samples=proof.samples,
        train_s=trained.checkpoint.train_s,
        notes=notes,
        advice=advised(run, trained, proof),
    )
    backends.workspace.write(record_key(run, "promote"), produced, check=fence)
    return produced


def advised(run: Run, trained: Trained, proof: Proof) -> str:
    """What to do where the gates do not let it pass, in the options of the command that made it."""
    from components.evaluation.advice import DISTIL, PRODUCE, Training, advice

    best = trained.checkpoint
    training = Training(
        improving=best.improving and best.step == best.steps_total,
        ended_by=best.stopped_by,
        collapse=best.collapse,
        duplicates=run.dataset.duplicates,
        reference=proof.scorecard.protocol.reference_count,
        blurry=any(warning.code == "vae-for-quality" for warning in run.decision.warnings),
    )
    return advice(proof.gates, training, metrics=proof.scorecard.metrics, remedies=DISTIL if run.student else PRODUCE)
