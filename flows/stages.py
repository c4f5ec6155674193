"""The stages of the road as plain functions: records in, a record out, each the call of one component.

Prefect tasks (flows/produce.py), the command line and a Kubeflow pod call the same functions. Everything a stage leaves
behind stands in the run's folder and is found again when the stage is run again.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.brief import Brief
from components.core.errors import GateRefused, NotBuilt
from components.core.record import Record
from components.core.records import (
    Bundle,
    Checkpoint,
    Dataset,
    DataSpec,
    Decision,
    Facts,
    FileDigest,
    Lineage,
    Release,
    StoredBundle,
)
from flows.memo import once, recall
from flows.place import Place
from flows.runs import Exported, Produced, Proof, Run, Trained, package_version, produced_path
from flows.settings import device_for

if TYPE_CHECKING:
    from components.core.protocols import ImageSplit
    from components.core.session import GraphSampler

REFERENCE = ("validation", "test")  # what a proof compares with: nothing here was trained on
SAMPLES = {"one_pass": 2000, "few_step": 2000, "many_step": 500}  # behind a scorecard; a many-step sampler is slow
LOOKS = {"one_pass": 3, "few_step": 3, "many_step": 1}
GRID = 64


class Tracked(Record):
    """The MLflow run of a training."""

    run_id: str


def decide(brief: Brief, place: Place, *, dataset: Dataset | None) -> tuple[Facts, Decision]:
    """Facts and decision of a brief, from the measured dataset or what the brief declares."""
    from components.families import cards
    from components.policy.decide import decide as choose
    from components.policy.facts import facts as concrete
    from components.policy.tables import load_tables

    settings = place.settings
    tables = load_tables(settings.policy)
    price = settings.usd_per_gpu_hour
    facts = concrete(brief, dataset=dataset, device=device_for(brief.compute.device), usd_per_gpu_hour=price, tables=tables)
    known = {key: entry[0] for key, entry in cards().items()}
    return facts, choose(facts, cards=known, override=brief.override, tables=tables, usd_per_gpu_hour=price)


def plan(brief: Brief, place: Place) -> tuple[Facts, Decision]:
    """What `genwright plan` says: nothing is fetched."""
    from components.data.versions import describe

    return decide(brief, place, dataset=describe(brief.data, cache=place.settings.home / "data"))


def check_built(decision: Decision) -> None:
    """Raises NotBuilt when nothing here can make what was decided."""
    from components.families import find_card

    card = find_card(decision.family, decision.variant)
    if decision.mode != "scratch":
        raise NotBuilt(
            f"mode {decision.mode} for {decision.family}/{decision.variant} is not built yet",
            allowed="scratch",
            do="force it with override: {mode: scratch}",
        )
    natural = "one_pass" if card.steps == 1 else "many_step"
    if decision.delivery != natural:
        raise NotBuilt(
            f"delivery {decision.delivery} of {decision.family}/{decision.variant} is not built yet",
            allowed=natural,
            do=f"force it with override: {{delivery: {natural}}}",
        )


def fetch(brief: Brief, place: Place) -> Run:
    """Fetch the data and decide on what was measured: the inputs of everything that follows."""
    from components.data.versions import fetch as fetch_data

    dataset = fetch_data(brief.data, cache=place.settings.root / "data", mirror=place.settings.data_mirror)
    facts, decision = decide(brief, place, dataset=dataset)
    check_built(decision)
    return Run(brief=brief, dataset=dataset, facts=facts, decision=decision, genwright=package_version())


def folder_of(run: Run, place: Place) -> Path:
    return place.settings.work(run.brief.name, run.key)


def train(run: Run, place: Place) -> Trained:
    """Train in a subprocess, tracked in one MLflow run. Raises TrainingFailed; run again, it goes on from the saved state."""
    folder = folder_of(run, place)
    return once(folder / "trained.json", Trained, lambda: _train(run, place, folder), holds=_trained_holds)


def _trained_holds(trained: Trained) -> bool:
    return (Path(trained.checkpoint.path) / "weights.safetensors").exists()


def _train(run: Run, place: Place, folder: Path) -> Trained:
    from components.registry.tracking import MlflowTracker
    from components.training.supervise import supervise
    from flows.worker import Order

    settings = place.settings
    extractor = _extractor_folder(run.dataset, place)
    load_extractor(run.dataset, place)
    run_id = _tracked(run, place, folder)
    order = Order(plan=_train_plan(run, place, folder, run_id), tracking_uri=settings.mlflow_uri, extractor=str(extractor))
    order.write(folder / "order.json")
    seconds = order.plan.seconds
    try:
        supervise(
            "flows.worker",
            [str(folder / "order.json"), str(os.getpid())],
            folder=folder / "train",
            limit_s=seconds * 1.5 + 600 if seconds else None,
        )
    except BaseException:
        MlflowTracker(settings.mlflow_uri, run_id).finish("FAILED")
        raise
    return Trained(run_id=run_id, checkpoint=Checkpoint.read(folder / "train" / "finished.json"))


def _tracked(run: Run, place: Place, folder: Path) -> str:
    """The one MLflow run of this training, the same after a crash."""
    from components.registry.tracking import MlflowTracker, run_exists, start_run

    settings = place.settings
    uri = settings.mlflow_uri

    def start() -> Tracked:
        decision = run.decision
        run_id = start_run(
            uri,
            experiment=run.brief.name,
            name=f"{decision.family}-{decision.variant}-{run.key[:8]}",
            tags={"genwright.key": run.key, "genwright.dataset_md5": run.dataset.md5, "genwright.dataset_rev": run.dataset.rev},
            artifact_root=settings.artifact_root,
        )
        tracker = MlflowTracker(uri, run_id)
        tracker.params({"family": decision.family, "variant": decision.variant, "mode": decision.mode, "seed": run.brief.seed})
        run.write(folder / "run.json")
        tracker.artifact(folder / "run.json")
        return Tracked(run_id=run_id)

    return once(folder / "tracked.json", Tracked, start, holds=lambda known: run_exists(uri, known.run_id)).run_id


def _train_plan(run: Run, place: Place, folder: Path, run_id: str) -> Any:
    from components.training.plan import TrainPlan

    brief, dataset = run.brief, run.dataset
    height, width, channels = dataset.shape
    many = run.decision.delivery == "many_step"
    return TrainPlan(
        family=run.decision.family,
        variant=run.decision.variant,
        config=dict(sorted(brief.override.config.items())) if brief.override else {},  # the order in the YAML says nothing
        spec=DataSpec(
            channels=channels,
            height=height,
            width=width,
            classes=dataset.classes,
            conditional=brief.conditioning == "class",
        ),
        dataset=dataset,
        folder=str(folder / "train"),
        run_id=run_id,
        device=run.facts.device,
        seed=brief.seed,
        seconds=_seconds(run, place),
        signal_images=128 if many else 256,
    )


def _seconds(run: Run, place: Place) -> float:
    """The wall clock that the budget buys: the least of minutes, GPU hours and dollars; without any, the policy's estimate."""
    compute = run.brief.compute
    limits = [
        compute.minutes and compute.minutes * 60,
        compute.gpu_hours and compute.gpu_hours * 3600 / compute.workers,
        compute.usd and compute.usd / place.settings.usd_per_gpu_hour * 3600 / compute.workers,
    ]
    given = [limit for limit in limits if limit]
    return min(given) if given else run.decision.estimate.training_s.value


def _extractor_folder(dataset: Dataset, place: Place) -> Path:
    return place.settings.root / "extractors" / dataset.md5


def load_extractor(dataset: Dataset, place: Place) -> Any:
    """The feature extractor of a dataset version, trained when there is none yet.

    Its seed is not the brief's: numbers of every brief on the same data compare, because one yardstick measures them all.
    """
    from filelock import FileLock

    from components.data.shards import open_split
    from components.evaluation.extractor import train_extractor

    dest = _extractor_folder(dataset, place)
    dest.mkdir(parents=True, exist_ok=True)
    with FileLock(dest / ".lock"):  # two models on the same data may start at the same time
        return train_extractor(
            open_split(dataset.path, "train"), classes=len(dataset.classes), dest=dest, dataset_md5=dataset.md5
        )


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
        graph = export_graph(family, path)
        parity = check_parity(family, path, graph)
        return Exported(
            path=str(path),
            file=FileDigest(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size),
            condition=graph.condition,
            output=graph.output,
            opset=graph.opset,
            nodes=graph.nodes,
            parity=parity.differences,
        )

    return once(folder / "exported.json", Exported, make, holds=lambda known: Path(known.path).exists())


def prove(run: Run, trained: Trained, exported: Exported, place: Place) -> Proof:
    """Score the exported graph, beside the champion where there is one, and let the gates speak."""
    folder = folder_of(run, place)
    champion = champion_of(run.brief.name, place)

    def holds(known: Proof) -> bool:
        stored = recall(folder / "stored.json", StoredBundle)
        reigns = champion is not None and stored is not None and champion.bundle_sha256 == stored.sha256
        return Path(known.page).exists() and (reigns or known.gates.champion == (champion and champion.bundle_sha256))

    from flows.proving import prove_graph

    return once(folder / "proof.json", Proof, lambda: prove_graph(run, trained, exported, champion, place, folder), holds=holds)


def champion_of(model: str, place: Place) -> Release | None:
    """The reigning release, or None."""
    return place.versions.by_alias(model, "champion") if model in place.versions.models() else None


def seal(run: Run, trained: Trained, exported: Exported, proof: Proof, place: Place) -> StoredBundle:
    """Seal the bundle and put it into the object store, under its digest."""
    import shutil

    from components.core.bundles import seal_bundle
    from components.core.files import sha256_of
    from components.delivery.bundles import put_bundle
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
        variant=run.decision.variant,
        spec=trained.checkpoint.spec,
        noise=family.noise_inputs(),
        condition=exported.condition,
        output=exported.output,
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
        ),
        scorecard=proof.scorecard,
        gates=proof.gates,
    )
    seal_bundle(place_of_bundle, bundle)
    stored = put_bundle(place.store, place_of_bundle)
    stored.write(folder / "stored.json")
    return stored


def register(run: Run, trained: Trained, stored: StoredBundle, proof: Proof, place: Place) -> Release:
    """A registered version with the alias candidate: the same one when it is run again."""
    from components.registry.versions import CANDIDATE, CHAMPION

    decision = run.decision
    release = place.versions.register(
        run.brief.name,
        bundle=stored,
        run_id=trained.run_id,
        description=f"{decision.family}/{decision.variant} on {run.dataset.name} at {run.dataset.md5[:8]}",
        tags={"verdict": proof.gates.verdict, "family": decision.family, "variant": decision.variant},
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
    )
    produced.write(produced_path(folder_of(run, place)))
    return produced


def evidence(bundle: Bundle) -> dict[str, Any]:
    """What the ledger keeps of a proof."""
    metrics = bundle.scorecard.metrics
    shown: dict[str, Any] = {
        name: metrics[name].model_dump(include={"value", "low", "high", "n"}) for name in ("fd", "fd_ratio") if name in metrics
    }
    return {"verdict": bundle.gates.verdict, "beside": bundle.gates.champion, "scorecard": bundle.scorecard.digest(), **shown}


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
    return reigns or known.gates.champion == (champion and champion.bundle_sha256)


def refuse_unless_passed(produced: Produced) -> None:
    """Raises GateRefused with what the gates said."""
    if produced.gates.verdict != "pass":
        said = [f"{gate.gate} {gate.verdict} ({gate.text})" for gate in produced.gates.gates if gate.verdict != "pass"]
        raise GateRefused(
            f"{produced.release.model} version {produced.release.version} stays a candidate: {'; '.join(said)}",
            do="train longer, change the brief, or promote it by hand with --force --why",
        )


def open_graph(bundle: Bundle, folder: Path, *, batch: int, device: str = "cpu") -> "GraphSampler":
    """The graph of a bundle as a sampler."""
    from components.core.session import GraphSampler

    return GraphSampler(
        folder / "model.onnx", noise=bundle.noise, condition=bundle.condition, output=bundle.output, batch=batch, device=device
    )


def held_out(dataset: Dataset) -> "ImageSplit":
    """The images that were not trained on."""
    from components.data.joined import JoinedSplit
    from components.data.shards import open_split

    return JoinedSplit([open_split(dataset.path, "validation"), open_split(dataset.path, "test")])


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
