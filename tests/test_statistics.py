import itertools
import math

import numpy as np
import pytest
from scipy import stats

from gdlab.analysis import intervals
from gdlab.analysis import statistics as st


def test_share_interval_is_wilsons():
    for hits, total in ((0, 10), (3, 10), (10, 10), (517, 1024)):
        expected = stats.binomtest(hits, total).proportion_ci(method="wilson")
        found = intervals.share_interval(hits, total)
        assert (found.low, found.high) == tuple(expected)  # bit for bit
        assert found.estimate == hits / total
    many = intervals.share_interval(np.array([[1, 5], [9, 0]]), 20, level=0.8)
    assert many.low.shape == (2, 2)
    np.testing.assert_allclose(many.high[0, 1], stats.binomtest(5, 20).proportion_ci(0.8, method="wilson").high)


def test_bootstrap_intervals_cover_the_truth():
    rng = np.random.default_rng(1)
    samples = rng.exponential(size=(400, 40))
    found = intervals.bootstrap_interval(samples, resamples=400)
    covered = np.mean((found.low <= 1) & (found.high >= 1))
    # 93% is the percentile interval's coverage here for n = 40; four standard deviations of 400 trials are 5%.
    assert 0.87 < covered < 0.98
    np.testing.assert_allclose(found.estimate, samples.mean(axis=1))
    # The normal approximation of the interval's width, 2 x 1.96 x std / sqrt(n).
    one = intervals.bootstrap_interval(rng.normal(size=4000), resamples=3000)
    assert one.high - one.low == pytest.approx(2 * 1.96 / math.sqrt(4000), rel=0.1)


def test_bootstrap_of_equal_and_infinite_samples():
    assert intervals.bootstrap_interval(np.ones(7)) == intervals.Interval(1.0, 1.0, 1.0)
    never = intervals.bootstrap_interval(
        np.array([3.0, 5.0, np.inf, np.inf, np.inf]), lambda x, axis: st.quartiles(x).median
    )
    assert never.low == 3.0  # all three lowest resampled: the median can be any sample
    assert never.high == np.inf
    with pytest.raises(ValueError, match="got NaN"):
        intervals.bootstrap_interval(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="samples: expected at least one"):
        intervals.bootstrap_interval(np.zeros((3, 0)))


def test_bootstrap_is_scipys_except_for_the_interpolation():
    samples = np.random.default_rng(4).exponential(size=(3, 31))
    found = intervals.bootstrap_interval(samples, resamples=500, seed=7)
    for row, low, high in zip(samples, found.low, found.high, strict=True):
        means = stats.bootstrap(
            (row,), np.mean, n_resamples=500, method="percentile", random_state=np.random.default_rng(7)
        ).bootstrap_distribution
        # 2.5% of 499 gaps are 12.475: the 13th value from each end.
        np.testing.assert_allclose((low, high), (np.sort(means)[12], np.sort(means)[-13]), rtol=1e-14)
        alone = intervals.bootstrap_interval(row, resamples=500, seed=7)
        assert (alone.low, alone.high) == (low, high)


@pytest.mark.parametrize("shape", [(7,), (3, 11), (5, 100)])
def test_equal_samples_give_exactly_a_point(shape):
    found = intervals.bootstrap_interval(np.full(shape, 1 / 3), resamples=50)
    np.testing.assert_array_equal(found.low, found.estimate)
    np.testing.assert_array_equal(found.high, found.estimate)


@pytest.mark.filterwarnings("error")
def test_infinite_steps_have_differences_or_an_error_but_never_nan():
    never = np.full(5, np.inf)
    assert intervals.paired_bootstrap_interval(never, never, np.median) == intervals.Interval(0.0, 0.0, 0.0)
    assert intervals.paired_bootstrap_interval(np.ones(5), never, np.median) == intervals.Interval(
        -np.inf, -np.inf, -np.inf
    )
    with pytest.raises(ValueError, match="statistic: expected a number on every resample, got NaN"):
        intervals.bootstrap_interval(np.array([-np.inf, 1.0, np.inf]))


def test_pairing_removes_what_both_share():
    rng = np.random.default_rng(2)
    common = rng.normal(scale=100, size=200)
    first, second = common + 1 + rng.normal(scale=0.1, size=200), common
    paired = intervals.paired_bootstrap_interval(first, second)
    assert paired.low > 0.9
    assert paired.high < 1.1
    assert paired.estimate == pytest.approx(np.mean(first) - np.mean(second))
    assert intervals.paired_bootstrap_interval(first, first) == intervals.Interval(0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="second: expected the shape of first"):
        intervals.paired_bootstrap_interval(first, second[:3])


def test_quartiles_are_samples():
    assert st.quartiles(np.array([4.0, 1.0, 3.0, 2.0])) == (1.0, 2.0, 3.0)
    assert st.quartiles(np.array([10.0, np.inf, np.inf, np.inf])) == (10.0, np.inf, np.inf)
    np.testing.assert_array_equal(st.steps_or_never(np.array([3, -1, 0])), [3.0, np.inf, 0.0])


def test_performance_profile_by_hand():
    costs = np.array([[10.0, 20.0, np.inf, np.inf], [20.0, 10.0, 5.0, np.inf]])
    np.testing.assert_allclose(
        st.performance_profile(costs, np.array([1.0, 1.9, 2.0, 1e9])), [[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 0.75, 0.75]]
    )
    with pytest.raises(ValueError, match="costs: expected positive numbers"):
        st.performance_profile(np.array([[0.0]]), np.array([1.0]))
    # Within any ratio: the shares that are solved at all, one half and three quarters.
    np.testing.assert_array_equal(st.performance_profile(costs, np.array([np.inf])), [[0.5], [0.75]])


@pytest.mark.parametrize(("better", "best"), [("higher", max), ("lower", min)])
def test_tuning_curve_is_the_mean_over_all_choices(better, best):
    scores = np.random.default_rng(3).normal(size=(2, 7))
    found = st.tuning_curve(scores, np.arange(1, 8), better=better)
    for row, curve in zip(scores, found, strict=True):
        for k, value in enumerate(curve, start=1):
            expected = np.mean([best(choice) for choice in itertools.combinations(row, k)])
            assert value == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="budgets: expected integers from 1 to 7"):
        st.tuning_curve(scores, np.array([8]))


@pytest.mark.filterwarnings("error")
def test_tuning_curve_of_many_and_of_failed_trials():
    # Of 1 to n without gaps, the expected highest of k is k (n + 1) / (k + 1).
    n, budgets = 2000, np.array([1, 2, 50, 1000, 1999, 2000])
    expected = budgets * (n + 1) / (budgets + 1)
    np.testing.assert_allclose(st.tuning_curve(np.arange(1.0, n + 1), budgets, better="higher"), expected, rtol=1e-13)
    # Two of four trials fail: one of the 6 pairs is both failures, so the mean is inf; every triple has 3 or 5.
    losses = np.array([3.0, np.inf, 5.0, np.inf])
    found = st.tuning_curve(losses, np.arange(1, 5))
    np.testing.assert_allclose(found, [np.inf, np.inf, (3 + 3 + 3 + 5) / 4, 3.0])


def test_good_region_by_hand():
    rates = np.array([1e-3, 1e-2, 1e-1, 1.0])
    region = st.good_region(rates, np.array([0.0, 0.8, 1.0, 0.5]), share=0.9)
    # 0.9 lies halfway between 0.8 and 1, and a fifth of the way from 1 to 0.5.
    assert region.low == pytest.approx(10**-1.5)
    assert region.high == pytest.approx(10**-0.8)
    assert region.decades == pytest.approx(0.7)
    assert not region.open_low
    assert not region.open_high
    edge = st.good_region(rates[::-1], np.array([1.0, 0.95, 0.2, 0.1]))
    assert edge.open_high
    assert edge.high == pytest.approx(1.0)
    assert st.good_region(rates, np.zeros(4)) is None
    whole = st.good_region(rates, np.ones(4))
    twice = st.good_region(np.geomspace(1, 1e5, 6), np.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0]))
    assert (twice.low, twice.decades) == (pytest.approx(1.0), pytest.approx(1.1))  # the widest of three
    assert (whole.decades, whole.open_low, whole.open_high) == (pytest.approx(3.0), True, True)


def test_students_interval_by_hand():
    # 1, 2, 6: mean 3, standard deviation sqrt(7), and 4.302653 is the 97.5% quantile of Student's t with 2 degrees.
    found = intervals.mean_interval(np.array([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]]))
    half = 4.302652729911275 * np.sqrt(7 / 3)
    np.testing.assert_allclose(found, [[3, 5], [3 - half, 5], [3 + half, 5]])
    alone = intervals.mean_interval(np.array([2.0]))
    assert alone.estimate == 2
    assert np.isnan([alone.low, alone.high]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intervals.mean_interval(np.array([1.0, np.inf])), "samples: expected at least one finite number"),
        (lambda: intervals.share_interval(5, 4), "hits: expected counts from 0 to 4"),
        (lambda: intervals.share_interval(5, 0), "total: expected an integer of at least 1"),
        (lambda: intervals.bootstrap_interval(np.ones(3), level=1.0), "level: expected a number in"),
        (lambda: st.good_region(np.ones(3), np.ones(2)), "scores: expected one score per rate"),
        (lambda: st.good_region(np.array([-1.0]), np.ones(1)), "rates: expected finite numbers above 0, got -1"),
        (lambda: st.tuning_curve(np.ones(3), np.array([1]), better="more"), "better: expected one of"),
        (lambda: st.performance_profile(np.ones(3), np.ones(1)), "costs: expected shape"),
        (
            lambda: st.performance_profile(np.ones((1, 1)), np.array([0.5])),
            "ratios: expected a vector of numbers of at",
        ),
        (lambda: st.tuning_curve(np.array([1.0, np.nan]), np.array([1])), "scores: expected numbers, got NaN"),
        (lambda: st.quartiles(np.array([1.0, np.nan])), "samples: expected numbers, got NaN"),
        (
            lambda: st.good_region(np.array([1.0, np.inf]), np.ones(2)),
            "rates: expected finite numbers above 0, got inf",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_intervals_over_few_seeds_are_students():
    samples = np.random.default_rng(0).normal(size=(3, 5))
    for found in (intervals.seeds_interval(samples), intervals.paired_seeds_interval(samples, np.zeros((3, 5)))):
        for row, low, high in zip(samples, found.low, found.high, strict=True):
            expected = stats.ttest_1samp(row, 0.0).confidence_interval(0.95)
            np.testing.assert_allclose((low, high), expected, rtol=1e-12)
    many = np.random.default_rng(1).normal(size=(2, intervals.FEW))
    np.testing.assert_array_equal(intervals.seeds_interval(many), intervals.bootstrap_interval(many))
    np.testing.assert_array_equal(intervals.paired_seeds_interval(*many), intervals.paired_bootstrap_interval(*many))


def test_intervals_over_few_seeds_of_failed_and_equal_runs():
    assert intervals.seeds_interval(np.ones(3)) == intervals.Interval(1.0, 1.0, 1.0)
    assert intervals.seeds_interval(np.full(3, np.inf)) == intervals.Interval(np.inf, np.inf, np.inf)
    assert intervals.seeds_interval(np.array([1.0, np.inf])) == intervals.Interval(np.inf, -np.inf, np.inf)
    assert intervals.paired_seeds_interval(np.full(3, np.inf), np.ones(3)) == intervals.Interval(np.inf, np.inf, np.inf)
    both = intervals.paired_seeds_interval(np.array([np.inf, 1.0]), np.array([2.0, np.inf]))
    assert both == intervals.Interval(0.0, -np.inf, np.inf)
    assert np.isnan(intervals.seeds_interval(np.ones(1)).low)
    for call, answer in (
        (lambda: intervals.seeds_interval(np.array([1.0, np.nan])), "got NaN"),
        (lambda: intervals.seeds_interval(np.ones((2, 0))), "expected at least one sample"),
        (
            lambda: intervals.paired_seeds_interval(np.ones(2), np.ones(3)),
            r"second: expected the shape of first, \(2,\), got \(3,\)",
        ),
    ):
        with pytest.raises(ValueError, match=answer):
            call()


@pytest.mark.thorough
@pytest.mark.parametrize("count", [2, 3, 5, 8, 15, 16])
def test_printed_intervals_hold_the_mean_as_often_as_they_say(count):
    # 20,000 simulated normal samples: two standard deviations of the share are 0.3%.
    first, second = np.random.default_rng(count).normal(size=(2, 20_000, count))
    least = 0.945 if count < intervals.FEW else 0.91  # the percentile bootstrap's, from 16 on
    for found in (
        intervals.seeds_interval(first, resamples=500),
        intervals.paired_seeds_interval(first, first + 0.5 * second, resamples=500),
        *([intervals.mean_interval(first)] if count < intervals.FEW else []),
    ):
        held = np.mean((found.low <= 0) & (found.high >= 0))
        assert least < held < 0.955
    claimed = {2: 0.51, 3: 0.75, 5: 0.83, 8: 0.88, 16: 0.93}  # what the docstring says of the alternative
    if count in claimed:
        bootstrap = intervals.bootstrap_interval(first[:4000], resamples=500)
        share = np.mean((bootstrap.low <= 0) & (bootstrap.high >= 0))
        assert share == pytest.approx(claimed[count], abs=0.03)
