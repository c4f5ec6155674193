"""What the gates on the distances will tell of a candidate, said before anything is trained: by a plan and as a run begins."""

from contextlib import suppress

from components.core import store_keys
from components.core.brief import Brief
from components.core.errors import GenwrightError
from components.core.modality import find_modality, modality_names
from components.core.proof_items import Asked
from components.core.records import Bundle, Channel, Decision, Facts, ItemSpec, Scorecard
from components.core.stores import ObjectStore
from components.evaluation.gates import thresholds
from components.evaluation.power import LOOKS, MEASURED, REFERENCE_MAX, sentences
from components.pipeline.run import SAMPLES

HELD_OUT = 5  # of so many items one is held out, where the data is not prepared yet


def gate_power(
    brief: Brief, facts: Facts, decision: Decision, store: ObjectStore | None, item: ItemSpec | None = None
) -> tuple[str, ...]:
    """A line each; none where both gates are off or the number of items is not known. As measured on the champion that is served,
    where the store has its scorecard. `item`: of the data, where it is prepared."""
    held_out = facts.held_out or (facts.items or 0) // HELD_OUT
    if not held_out:
        return ()
    champion, looks = _champion(brief.name, store) if store is not None else None, brief.proof.looks or LOOKS
    return sentences(
        champion.metrics if champion is not None else None,
        margins=margins_of(brief),
        reference=min(held_out, REFERENCE_MAX),
        samples=SAMPLES[decision.delivery] << (looks - 1),
        looks=looks,
        unseen=_asked_of_unseen(brief, facts, item),
    )


def _asked_of_unseen(brief: Brief, facts: Facts, item: ItemSpec | None) -> Asked:
    """What the network that only a proof sees is asked; of a modality that is not here, which a plan refuses, all."""
    if facts.modality not in modality_names():
        return Asked()
    least = facts.side if item is None else min(item.shape[1:], default=None)
    return find_modality(facts.modality).asked_of_unseen(least, given=brief.proof.network is not None)


def margins_of(brief: Brief) -> dict[str, float | None]:
    """Those of the gates on the ratios of distances."""
    known = thresholds(brief.gates)
    return {gate: each for gate in MEASURED if not isinstance(each := known[gate], str)}


def _champion(model: str, store: ObjectStore) -> Scorecard | None:
    """The scorecard of the bundle that the channel names: two small objects, and no MLflow, so that a plan takes no longer."""
    with suppress(GenwrightError, ValueError):  # of another genwright, or a store that is not reached: a plan goes on without
        found = store.get(store_keys.channel(model))
        if found is None:
            return None
        sealed = store.get(store_keys.bundle_file(Channel.model_validate_json(found[0]).bundle_sha256))
        return Bundle.model_validate_json(sealed[0]).scorecard if sealed else None
    return None
