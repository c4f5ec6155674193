import numpy as np
import pytest

from components.evaluation.bootstrap import Bootstrap, quantile_metric

BOOT = Bootstrap(seed=0, resamples=200)


def test_a_resample_draws_as_many_items_as_there_are_and_repeats_with_its_stream() -> None:
    counts = BOOT.counts(50, stream="a")
    assert (counts.sum(axis=1) == 50).all()
    assert (counts == Bootstrap(seed=0, resamples=200).counts(50, stream="a")).all()
    assert (counts != BOOT.counts(50, stream="b")).any()
    assert (counts != Bootstrap(seed=1, resamples=200).counts(50, stream="a")).any()


def test_the_interval_of_a_mean_holds_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(200):
        metric = Bootstrap(seed=trial, resamples=200, level=0.9).mean(rng.exponential(2.0, 120), stream="x")
        held += metric.low <= 2.0 <= metric.high
    assert 0.83 <= held / 200 <= 0.95  # 0.9 give or take three deviations; skewed items cost a little


def test_the_interval_narrows_with_the_root_of_the_count() -> None:
    rng = np.random.default_rng(2)
    widths = [BOOT.mean(rng.normal(size=n), stream="x") for n in (100, 1600)]
    assert (widths[0].high - widths[0].low) / (widths[1].high - widths[1].low) == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize("hit", [False, True])
def test_a_share_that_nobody_or_everybody_hits_still_has_an_interval(hit: bool) -> None:
    metric = BOOT.share(np.full(50, hit), stream="x")
    assert metric.value == float(hit)
    assert metric.high - metric.low == pytest.approx(1.96**2 / (50 + 1.96**2), rel=1e-3)  # Wilson
    assert 0 <= metric.low <= metric.high <= 1


def test_a_quantile_is_one_of_the_items() -> None:
    values = np.arange(1.0, 101.0)
    metric = quantile_metric(values[::-1].copy(), 0.95, BOOT, stream="x")
    assert metric.value == 95
    assert 85 <= metric.low < 95 < metric.high <= 100
    assert {metric.low % 0.5, metric.high % 0.5} == {0.0}
