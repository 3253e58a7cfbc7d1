"""Rankings compared with formulas and tables of Demsar 2006 (JMLR 7, section 3.2.2) and SciPy's Friedman test."""

import numpy as np
import pytest
from scipy import stats

from gdlab.analysis.rankings import (
    average_ranks,
    compare_rankings,
    indistinct_groups,
    nemenyi_difference,
    rank_across_tasks,
    ranking,
)

Q05 = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
"""Demsar's table 5(a)."""


def test_critical_differences_are_those_of_the_table():
    for solvers, q in Q05.items():
        expected = q * np.sqrt(solvers * (solvers + 1) / (6 * 14))
        assert nemenyi_difference(solvers, 14) == pytest.approx(expected, abs=1e-3)
    assert nemenyi_difference(4, 14) == pytest.approx(1.25, abs=0.005)  # his example: four classifiers, 14 data sets


def test_demsars_example():
    # His table 6, AUC of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets; he finds average ranks 3.143, 2.000,
    # 2.893 and 1.964, chi^2_F = 9.28 and F_F = 3.69.
    auc = np.array(
        [
            [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.0, 0.94, 0.619, 0.972, 0.957],
            [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.0, 0.962, 0.666, 0.981, 0.978],
            [0.771, 0.59, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.0, 0.965, 0.614, 0.9751, 0.946],
            [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.0, 0.962, 0.669, 0.975, 0.970],
        ]
    )
    found = rank_across_tasks(-auc[:, :, None])
    np.testing.assert_allclose(found.rank.estimate, [3.143, 2.0, 2.893, 1.964], atol=6e-4)
    # His formula, which lacks SciPy's correction for the few ties.
    ranks = found.rank.estimate
    square = 12 * 14 / (4 * 5) * (np.sum(ranks**2) - 4 * 25 / 4)
    assert square == pytest.approx(9.28, abs=0.02)
    assert found.friedman[0] == pytest.approx(stats.friedmanchisquare(*-auc).statistic)
    assert found.friedman[1] == pytest.approx(stats.friedmanchisquare(*-auc).pvalue)
    assert np.isnan(found.rank.low).all()  # one seed


def test_friedman_with_and_without_ties_is_scipys():
    generator = np.random.default_rng(0)
    for costs in (generator.normal(size=(5, 7)), generator.integers(0, 3, (5, 7)).astype(float)):
        found = rank_across_tasks(costs[:, :, None])
        expected = stats.friedmanchisquare(*costs)
        np.testing.assert_allclose(found.friedman, (expected.statistic, expected.pvalue), rtol=1e-12)
        square = expected.statistic
        f = 6 * square / (7 * 4 - square)  # Iman and Davenport
        np.testing.assert_allclose(found.iman_davenport, (f, stats.f.sf(f, 4, 24)), rtol=1e-12)


def test_failures_are_last_and_equal_costs_share_a_rank():
    costs = np.array([[[1.0, 2.0]], [[1.0, np.inf]], [[2.0, 1.0]], [[5.0, 5.0]]])
    found = rank_across_tasks(costs)
    np.testing.assert_array_equal(found.by_task[:, 0], [1.5, 4, 1.5, 3])
    assert np.isnan(found.friedman).all()  # one task


def test_equal_seeds_in_another_order_are_a_tie():
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last digit.
    found = rank_across_tasks(np.array([[[0.1, 0.2, 0.3]], [[0.3, 0.2, 0.1]], [[0.1, 0.2, 0.2999]]]))
    np.testing.assert_array_equal(found.by_task[:, 0], [2.5, 2.5, 1])


def test_ranks_have_no_interval_below_16_seeds_or_tasks():
    costs = np.tile([[[1.0, 2.0]], [[2.0, 1.0]]], 8)
    assert np.isnan(rank_across_tasks(costs, resample_tasks=True).rank.low).all()
    assert np.isnan(rank_across_tasks(costs[..., :15]).rank.low).all()
    assert rank_across_tasks(costs).rank.low.tolist() == [1.0, 1.0]


def test_intervals_hold_the_ranks_of_many_seeds():
    # Two solvers differ in one task by less than the seeds' noise: with other seeds either may be ahead there.
    generator = np.random.default_rng(1)
    truth = np.array([[0.0, 0.0], [1.0, 0.1], [2.0, 5.0]])[:, :, None]
    found = rank_across_tasks(truth + generator.normal(0, [[[0.01], [0.5]]] * 3, (3, 2, 16)))
    assert found.rank.low[2] == found.rank.high[2] == 3.0
    assert found.rank.low[0] == 1.0
    assert found.rank.high[0] == 1.5
    assert found.rank.low[0] <= found.rank.estimate[0] <= found.rank.high[0]
    # Two solvers are ahead by turns on 16 tasks: other tasks give one of them more or fewer.
    other = rank_across_tasks(np.tile([[[1.0], [3.0]], [[2.0], [1.0]]], (1, 8, 1)), resample_tasks=True).rank
    assert (other.low < other.estimate).all()
    assert (other.estimate < other.high).all()


def test_groups_are_the_largest_within_the_difference():
    ranks = np.array([3.0, 1.0, 1.8, 4.5])
    assert indistinct_groups(ranks, 1.25) == [[1, 2], [2, 0]]
    assert indistinct_groups(ranks, 2.0) == [[1, 2, 0], [0, 3]]
    assert indistinct_groups(ranks, 0.5) == []
    assert indistinct_groups(ranks, 10.0) == [[1, 2, 0, 3]]
    assert indistinct_groups(np.array([1.5, 1.5, 3.0]), 0.0) == [[0, 1]]


def test_average_ranks_share_ties():
    np.testing.assert_allclose(
        average_ranks(np.array([[3.0, 1.0], [2.0, 1.0], [1.0, 5.0]]), better="higher"), [1.75, 2.25, 2.0]
    )
    failed = np.array([[-np.inf], [-np.inf], [0.1]])
    np.testing.assert_allclose(average_ranks(failed, better="higher"), [2.5, 2.5, 1.0])
    np.testing.assert_allclose(average_ranks(-failed), [2.5, 2.5, 1.0])  # of costs the lower one is better


def test_ranking_by_hand():
    # Means 2, 4, 4, -inf; the two of 4 keep their order. By sample: ranks (3, 1, 2, 4) and (2, 3, 1, 4).
    scores = np.array([[1.0, 3.0], [6.0, 2.0], [2.0, 6.0], [5.0, -np.inf]])
    found = ranking(scores, better="higher")
    assert found.order.tolist() == [1, 2, 0, 3]
    np.testing.assert_array_equal(found.mean, [4, 4, 2, -np.inf])
    np.testing.assert_array_equal(found.rank, [(1 + 3) / 2, (3 + 1) / 2, (4 + 2) / 2, (2 + 4) / 2])
    np.testing.assert_array_equal(found.behind.estimate, [0, 0, 2, np.inf])
    np.testing.assert_array_equal(found.ahead.estimate, [0, 2, np.inf, np.nan])
    # Differences (4, -4), (5, -1) and (1, inf) to the best; half the difference of two samples is their mean's error.
    t = stats.t.ppf(0.975, 1)
    np.testing.assert_allclose(found.behind.low, [0, -4 * t, 2 - 3 * t, -np.inf])
    np.testing.assert_allclose(found.behind.high, [0, 4 * t, 2 + 3 * t, np.inf])
    np.testing.assert_allclose(found.ahead.low, [-4 * t, 2 - t, -np.inf, np.nan])
    costs = ranking(-scores)
    np.testing.assert_array_equal(costs.mean, -found.mean)
    for field in ("order", "rank"):
        np.testing.assert_array_equal(getattr(costs, field), getattr(found, field))
    np.testing.assert_array_equal(costs.behind, found.behind)
    np.testing.assert_array_equal(costs.ahead, found.ahead)
    alone = ranking(scores[:, :1], better="higher")
    assert alone.order.tolist() == [1, 3, 2, 0]
    assert np.isnan([alone.behind.low, alone.ahead.high]).all()
    assert ranking(scores[:1], better="higher").ahead.estimate.shape == (1,)


def test_compare_rankings_by_hand():
    first = np.array([[4.0, 4.2], [3.0, 3.3], [2.0, 2.1], [1.0, 1.1]])
    same = compare_rankings(first, 10 * first, better="higher")
    assert (same.tau, same.reversed, same.significant) == (pytest.approx(1), [], [])
    # The second is 1, 0, 2, 3, significantly; and 3 before 2 only in the mean. Two of six pairs: tau = (4 - 2) / 6.
    second = np.array([[3.0, 3.0], [4.0, 4.0], [1.0, 1.0], [2.0, 0.5]])
    found = compare_rankings(first, second, better="higher")
    assert (found.tau, found.reversed, found.significant) == (pytest.approx(1 / 3), [(0, 1), (2, 3)], [True, False])
    assert compare_rankings(first[:, :1], second, better="higher").significant == [False, False]


def test_bad_input_raises_an_error_of_one_line():
    fair = np.ones((3, 2, 2))
    for call, answer in (
        (lambda: rank_across_tasks(fair[:, 0]), r"costs: expected shape \(solvers, tasks, seeds\)"),
        (lambda: rank_across_tasks(fair[:1]), "at least 2 solvers"),
        (lambda: rank_across_tasks(fair * np.nan), "got NaN; leave out incomplete tasks"),
        (lambda: rank_across_tasks(fair * -np.inf), r"or inf for a failure \(lower is better\), got -inf"),
        (lambda: rank_across_tasks(fair, level=1.0), r"level: expected a number in \(0, 1\)"),
        (lambda: indistinct_groups(np.array([1.0, np.nan]), 1.0), "ranks: expected a vector of finite numbers"),
        (lambda: indistinct_groups(np.ones(2), -1.0), "difference: expected a number in"),
        (lambda: ranking(np.ones(3)), "scores: expected numbers of shape"),
        (lambda: compare_rankings(np.ones((2, 2)), np.ones((3, 2))), "second: expected as many solvers as first"),
        (lambda: average_ranks(np.ones(3)), "scores: expected numbers of shape"),
        (lambda: average_ranks(fair[0], better="more"), "better: expected one of lower, higher; got 'more'"),
        (lambda: nemenyi_difference(1, 3), "solvers: expected an integer of at least 2"),
    ):
        with pytest.raises((TypeError, ValueError), match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
