"""From a brief to a champion, and the retraining that asks first whether there is anything to do.

Each task is one stage (flows/stages.py): a record in, a record out. Prefect adds the order, the retries where a retry can help
(networks and object stores), and the sight of it; what is cached and what is resumed is the stages' own.
"""

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from components.core.brief import base_of, read_brief
from components.core.errors import Conflict, RegistryError, StorageError
from components.core.records import Release, StoredBundle
from components.runtime.progress import stage
from flows import stages, standing
from flows.durations import timed
from flows.embedded import interruptible
from flows.lease import lease
from flows.place import Place
from flows.retries import passing
from flows.runs import Exported, Produced, Proof, Run, Trained

network = task(
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=[1, 5, 20],
    retry_condition_fn=passing(StorageError, RegistryError, Conflict),
)
once = task(cache_policy=NO_CACHE)


@network
def fetch(brief_path: str) -> Run:
    path = Path(brief_path)
    with stage("Data", quiet_s=10.0):
        return stages.fetch(read_brief(path), Place(), base=base_of(path))


@once
def train(run: Run) -> Trained:
    return stages.train(run, Place())


@once
def export(run: Run, trained: Trained) -> Exported:
    with timed("Export", Place(), run):
        return stages.export(run, trained, Place())


@once
def prove(run: Run, trained: Trained, exported: Exported) -> Proof:
    with timed("Proof", Place(), run):
        return stages.prove(run, trained, exported, Place())


@network
def seal(run: Run, trained: Trained, exported: Exported, proof: Proof) -> StoredBundle:
    with timed("Release", Place(), run):
        return stages.seal(run, trained, exported, proof, Place())


@network
def register(run: Run, trained: Trained, stored: StoredBundle, proof: Proof) -> Release:
    return stages.register(run, trained, stored, proof, Place())


@network
def promote(run: Run, trained: Trained, stored: StoredBundle, release: Release, proof: Proof) -> Produced:
    return stages.promote_if_proven(run, trained, stored, release, proof, Place())


@flow(name="produce")
def produce(brief: str, show: bool = False) -> Produced:
    """Take the brief at a path down the whole road. Raises GateRefused when a gate does not let the candidate pass."""
    from flows import show as view

    say = view.Report(enabled=show)
    with interruptible():
        run = fetch(brief)
        with lease(run, Place()):
            say.decided(run)
            trained = train(run)
            say.trained(trained)
            exported = export(run, trained)
            say.exported(exported)
            proof = prove(run, trained, exported)
            say.proved(proof)
            stored = seal(run, trained, exported, proof)
            release = register(run, trained, stored, proof)
            produced: Produced = promote(run, trained, stored, release, proof)
    say.produced(produced)
    standing.refuse_unless_passed(produced)
    return produced


@flow(name="retrain")
def retrain(brief: str) -> str:
    """Produce again when the data, the brief or genwright has changed since; else do nothing. Returns what was done, and why."""
    with interruptible():
        run = fetch(brief)
        known = standing.standing(run, Place())
        if known is not None:
            standing.begin(run, Place())
            return standing.nothing_to_do(run, known)
        produced = produce(brief)
    return f"{produced.release.model} version {produced.release.version} was produced and promoted"
