"""The scorecard: every metric of one artifact under one protocol (two beside each other: pair.py)."""

from typing import TYPE_CHECKING

from components.core.errors import DataError
from components.core.modality import find_modality
from components.core.protocols import ImageSampler, ImageSplit
from components.core.records import Dataset, Metric, Scorecard
from components.evaluation.distances import frechet_resampled, kid, ratio
from components.evaluation.diversity import classifier_metrics, closeness, duplicates, memorised, pairwise_diversity
from components.evaluation.manifold import Hits, Manifold, hits
from components.evaluation.samples import Drawn, draw_samples, latency_p95
from components.evaluation.yardstick import Yardstick, make_yardstick
from components.runtime.progress import Report

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor


def score(
    sampler: ImageSampler,
    *,
    dataset: Dataset,
    train: ImageSplit,
    reference: ImageSplit,
    extractor: "Extractor",
    seed: int = 0,
    samples: int = 2000,
    reference_split: str = "validation",
    conditional: bool = False,
    timed: ImageSampler | None = None,
    device: str = "cpu",
    resamples: int = 200,
    level: float = 0.95,
    progress: Report | None = None,
) -> Scorecard:
    """Measure one artifact.

    `reference` holds images that were not trained on; `reference_split` is its name in the protocol. A `conditional` sampler
    is asked for every class equally often. `timed` is the artifact with batches of one, for latency_p95_ms.
    Raises DataError when there are too few images or samples.
    """
    yardstick = make_yardstick(
        dataset=dataset,
        train=train,
        reference=reference,
        extractor=extractor,
        seed=seed,
        samples=samples,
        reference_split=reference_split,
        resamples=resamples,
        level=level,
    )
    return score_against(
        yardstick, sampler, classes=asked_classes(dataset, conditional), timed=timed, device=device, progress=progress
    )


def score_against(
    yardstick: Yardstick,
    sampler: ImageSampler,
    *,
    classes: int | None = None,
    timed: ImageSampler | None = None,
    device: str = "cpu",
    progress: Report | None = None,
) -> Scorecard:
    """Measure one artifact with a yardstick at hand; several artifacts (a bake-off) share one."""
    protocol = yardstick.protocol
    drawn = draw_samples(sampler, seed=protocol.seed, samples=protocol.samples, classes=classes, progress=progress)
    return make_card(drawn, yardstick, measure(drawn, yardstick)[0], classes=classes, timed=timed, device=device)


def measure(drawn: Drawn, yardstick: Yardstick) -> tuple[dict[str, Metric], Hits]:
    """All metrics of these images, and which images of the real manifold they reach."""
    real, boot, n = yardstick.real, yardstick.real.boot, len(drawn.images)
    features = real.extractor.features(drawn.images)
    probabilities = real.extractor.probabilities(drawn.images)
    vectors = find_modality(yardstick.train.item.modality).vectors
    fd = frechet_resampled(features, real.features_MD, boot, real=real.gaussian)
    reached = hits(Manifold.of(features[: len(yardstick.manifold.points_ND)]), yardstick.manifold)
    metrics = {
        "fd": boot.metric(float(fd[0]), fd[1:], n=n, better="lower", least=0),
        "fd_noise_ratio": ratio(fd, yardstick.fd_noise, boot, n=n),
        "kid": kid(features, real.features_MD, boot),
        **reached.metrics(boot),
        "diversity": pairwise_diversity(features, real.features_MD, boot),
        "duplicates": duplicates(vectors(drawn.images[: yardstick.duplicate_items]), bound=yardstick.duplicate_bound, boot=boot),
        "memorised": memorised(closeness(drawn.images, yardstick.train), bound=yardstick.copy_bound, boot=boot),
    }
    if probabilities is not None:
        metrics |= classifier_metrics(probabilities, boot, labels_N=drawn.labels_N)
    return metrics | yardstick.metrics, reached


def make_card(
    drawn: Drawn,
    yardstick: Yardstick,
    metrics: dict[str, Metric],
    *,
    classes: int | None,
    timed: ImageSampler | None,
    device: str,
) -> Scorecard:
    speed = yardstick.real.boot.mean(drawn.items_per_s, stream="throughput", better="higher")
    measured = {**metrics, "throughput_per_s": speed}
    if timed is not None:
        measured["latency_p95_ms"] = latency_p95(timed, boot=yardstick.real.boot, classes=classes)
    return Scorecard(subject=drawn.subject, protocol=yardstick.protocol, metrics=measured, device=device)


def asked_classes(dataset: Dataset, conditional: bool) -> int | None:
    """How many classes a sampler is asked for, None when it takes none."""
    if conditional and not dataset.classes:
        raise DataError(f"{dataset.name}: has no classes, but the model is conditional", do="prepare the data with labels")
    return len(dataset.classes) if conditional else None


def deterministic(card: Scorecard) -> dict[str, Metric]:
    """The metrics that the same artifact and protocol give again to the last bit: all but the timed ones."""
    return {name: metric for name, metric in card.metrics.items() if name not in ("throughput_per_s", "latency_p95_ms")}
