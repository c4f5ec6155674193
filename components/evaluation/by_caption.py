"""The figures of each kind of caption, beside those of all together: a word that many captions have, and the items asked by it.

N samples, M real items. Only of models that are asked by a text.
"""

from components.core.records import Metric
from components.core.records.condition import items_asked
from components.evaluation.chosen import places
from components.evaluation.evaluated import Evaluated
from components.evaluation.metrics.kid import kid
from components.evaluation.metrics.text_agreement import captions_of, gallery, of_samples
from components.evaluation.power import REFERENCE_MAX
from components.evaluation.retrieval import kinds_of

LEAST, MOST = 32, 8  # real items of a kind, below which nothing is said of its distance; kinds


def by_caption(seen: Evaluated) -> dict[str, dict[str, Metric]]:
    """By each word: share_real, of the held-out items; kid, the distance of the samples that were asked for by such a
    caption to the held-out items of such; text_r5 of these samples."""
    found, shown = of_samples(seen), gallery(seen.yardstick)
    if found is None or shown is None:
        return {}
    yardstick, seed = seen.yardstick, seen.yardstick.protocol.seed
    captions = captions_of(yardstick)
    real_M = places(len(captions), REFERENCE_MAX, seed=seed)  # the items whose features the yardstick has
    asked_N = items_asked(yardstick.reference, len(seen.items), seed=seed)
    told: dict[str, dict[str, Metric]] = {}
    for word, has in kinds_of(captions, least=LEAST, most=MOST).items():
        ours_N, theirs_M = has[asked_N], has[real_M]
        if min(ours_N.sum(), theirs_M.sum()) < LEAST:
            continue
        told[word] = {
            "share_real": seen.boot.wilson(float(theirs_M.mean()), n=len(theirs_M)),
            "kid": kid(seen.features[ours_N], yardstick.real.features_MD[theirs_M], seen.boot),
        }
        of_word = has[shown.items_G]
        asked = found.five.count_G[of_word].sum()
        if asked:
            told[word]["text_r5"] = seen.boot.wilson(float(found.five.hits_G[of_word].sum() / asked), n=int(of_word.sum()))
    return told
