"""A bundle with the whole of its proof.

A bundle holds nothing of the moment in which it was made, so that its digest is the same wherever the same brief, data and code
are run. How fast its graph was on the machine that proved it stands in the proof's record, which the store has beside it.
"""

from components.core import store_keys
from components.core.records import Bundle
from components.pipeline.run import Proof, Run, record_key
from components.pipeline.workspace import Workspace


def with_proof(bundle: Bundle, workspace: Workspace) -> Bundle:
    """The bundle with all metrics and gates of its proof; as it is where the store has that no more, and where the bundle is of
    an earlier genwright, which left nothing out."""
    key = bundle.lineage.run_key
    run = workspace.read(store_keys.run_record(bundle.model, key, "run"), Run) if key else None
    proof = workspace.read(record_key(run, "prove", beside=bundle.gates.champion), Proof) if run else None
    if proof is None or proof.scorecard.subject != bundle.scorecard.subject:
        return bundle
    return bundle.model_copy(update={"scorecard": proof.scorecard, "gates": proof.gates})
