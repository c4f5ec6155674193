"""FID and FD-DINOv2: the Frechet distance of a published network's features, of proofs whose brief names its file by its digest.

No other distance is called so. The counts are those of the proof and not of papers (50,000 samples), and the distance is biased
upwards by an amount that depends on them, so it compares with figures of the same counts alone.
"""

from components.core.metrics import Words
from components.core.records import Metric
from components.evaluation.distances import Gaussian, frechet_resampled
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.yardstick import Yardstick

WORDS = (
    Words("fid", "FID", "of Inception's features, at this proof's counts; no FID-50k", better="lower", order=15, proof_only=True),
    Words(
        "fd_dinov2",
        "FD-DINOv2",
        "of DINOv2 ViT-L/14's features, at this proof's counts",
        better="lower",
        order=16,
        proof_only=True,
    ),
)
NAMED = {"FID": "fid", "FD-DINOv2": "fd_dinov2"}


@once
def real(yardstick: Yardstick) -> Gaussian:
    """The held-out items."""
    assert yardstick.unseen is not None, "it is asked of proofs alone"
    return Gaussian.of(yardstick.unseen.parts[0].features_MD)


def compute(seen: Evaluated) -> dict[str, Metric]:
    """Where the network is one of them."""
    side = seen.yardstick.unseen
    if side is None or side.unseen.frechet not in NAMED:
        return {}
    (ours_ND,) = side.features(seen.drawn)
    found = frechet_resampled(ours_ND, side.parts[0].features_MD, seen.boot, real=real(seen.yardstick))
    return {NAMED[side.unseen.frechet]: seen.boot.metric(float(found[0]), found[1:], n=len(ours_ND), least=0)}
