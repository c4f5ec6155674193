"""The figures of each class, beside those of all together: where classes are of unequal size, a lost small one moves the latter
by less than their intervals are wide.

N samples, M real items, R resamples. Without classes in the data there are none.
"""

from components.core.records import Metric
from components.evaluation.evaluated import Evaluated
from components.evaluation.metrics.coverage import of_samples

LEAST = 10  # real items of a class, below which nothing is said of how many of them are covered


def by_class(seen: Evaluated) -> dict[str, dict[str, Metric]]:
    """By the name of each class that the reference has, in the order of the classes:

    share_real, the class's share of the reference; share, that of the samples, as the classifier sees them; coverage, of the
    class's real items, from LEAST on; label_agreement, of the samples asked for as it, where a sampler is asked.
    """
    labels_M = seen.yardstick.real.labels_M
    if seen.probabilities is None or labels_M is None:
        return {}
    guesses_N, asked_N, wilson = seen.probabilities.argmax(axis=1), seen.drawn.labels_N, seen.boot.wilson
    near_M = labels_M[seen.yardstick.real_places]  # of the real items whose balls are taken
    found: dict[str, dict[str, Metric]] = {}
    for at, name in enumerate(seen.yardstick.dataset.classes):
        own, seen_as = int((labels_M == at).sum()), guesses_N == at
        if not own:
            continue
        found[name] = {
            "share_real": wilson(own / len(labels_M), n=len(labels_M)),
            "share": wilson(float(seen_as.mean()), n=len(seen_as)),
        }
        if (near := near_M == at).sum() >= LEAST:
            found[name]["coverage"] = seen.boot.dependent_share(of_samples(seen).covered_of(near), n=int(near.sum()))
        if asked_N is not None and (asked := asked_N == at).any():
            found[name]["label_agreement"] = wilson(float(seen_as[asked].mean()), n=int(asked.sum()))
    return found
