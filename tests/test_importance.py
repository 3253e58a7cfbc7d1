"""Sobol's indices against functions whose indices are known in closed form."""

import numpy as np
import pytest
from scipy.stats import qmc

from gdlab.analysis.importance import grid_importance, importances, search_importance
from gdlab.analysis.landscapes import Axis, Landscape

ENDS = np.array([-np.pi, np.pi])
AXES = [Axis(name, ENDS, False) for name in "abc"]


def ishigami(x, a=7.0, b=0.1):
    """Ishigami and Homma 1990."""
    return np.sin(x[..., 0]) + a * np.sin(x[..., 1]) ** 2 + b * x[..., 2] ** 4 * np.sin(x[..., 0])


def ishigami_indices(a=7.0, b=0.1):
    """The first-order and total indices: the integrals of the squared parts over [-pi, pi]^3."""
    alone = 0.5 * (1 + b * np.pi**4 / 5) ** 2, a**2 / 8, 0.0
    both = b**2 * np.pi**8 * (1 / 18 - 1 / 50)
    variance = sum(alone) + both
    return np.array(alone) / variance, np.array([alone[0] + both, alone[1], both]) / variance


def midpoints(count):
    return np.pi * (2 * (np.arange(count) + 0.5) / count - 1)


def test_a_grid_has_the_indices_of_the_ishigami_function():
    grid = np.stack(np.meshgrid(*[midpoints(40)] * 3, indexing="ij"), axis=-1)
    first, total = ishigami_indices()
    found = grid_importance(ishigami(grid)[..., None], ("a", "b", "c"))
    np.testing.assert_allclose(found.first.estimate, first, atol=3e-3)
    np.testing.assert_allclose(found.total.estimate, total, atol=3e-3)
    assert found.names == ("a", "b", "c")
    assert found.explained == 1
    assert np.isnan(found.first.low).all()  # one seed says nothing about others


@pytest.mark.parametrize(("trials", "tolerance"), [(64, 0.09), (128, 0.03)])
def test_a_search_has_the_indices_of_the_ishigami_function(trials, tolerance):
    points = np.pi * (2 * qmc.Halton(3, seed=1).random(trials) - 1)
    first, total = ishigami_indices()
    found = search_importance(points, ishigami(points)[:, None], AXES, resamples=25)
    np.testing.assert_allclose(found.first.estimate, first, atol=tolerance)
    np.testing.assert_allclose(found.total.estimate, total, atol=tolerance)
    assert found.explained > 0.5
    for interval in (found.first, found.total):
        assert (interval.low <= interval.high).all()
        assert (interval.low[:2] > 0.1).all()  # the first two matter; nothing says that the third one does, alone
    assert found.first.high[2] < 2 * tolerance + 0.1


def test_a_sum_has_no_interactions_and_a_product_of_centered_numbers_nothing_else():
    x, y = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 7), indexing="ij")
    alone = grid_importance((x + 2 * y)[..., None], ("x", "y"))
    # The variances of 5 and of 7 even values on [-1, 1] are 1/2 and 4/9.
    np.testing.assert_allclose(alone.first.estimate, [0.5 / (0.5 + 16 / 9), (16 / 9) / (0.5 + 16 / 9)])
    np.testing.assert_allclose(alone.total.estimate, alone.first.estimate)
    both = grid_importance((x * y)[..., None], ("x", "y"))
    np.testing.assert_allclose(both.first.estimate, [0, 0], atol=1e-12)
    np.testing.assert_allclose(both.total.estimate, [1, 1])


def test_labels_are_no_numbers():
    rng = np.random.default_rng(0)
    axes = [Axis("kind", np.arange(3.0), False, ("u", "v", "w")), Axis("x", np.array([0.0, 1.0]), False)]
    points = np.stack([np.arange(90) % 3, rng.permutation(np.linspace(0, 1, 90))], axis=-1)
    effect = np.array([0.0, 1.0, 0.0])[points[:, 0].astype(int)]  # not monotone, of variance 2/9
    found = search_importance(points, (effect + points[:, 1])[:, None], axes, resamples=5)
    parts = np.array([2 / 9, 1 / 12])
    np.testing.assert_allclose(found.first.estimate, parts / parts.sum(), atol=0.02)
    assert found.explained > 0.99


def test_a_hyperparameter_with_two_values_beside_others_that_are_scattered():
    rng = np.random.default_rng(0)
    x = np.tile(rng.permutation(np.linspace(0, 1, 40)), 2)
    points = np.stack([x, np.repeat([64.0, 1024.0], 40)], axis=-1)
    axes = [Axis("x", np.array([0.0, 1.0]), False), Axis("width", np.array([64.0, 1024.0]), True)]
    found = search_importance(points, (x**2 + (points[:, 1] > 100))[:, None], axes, resamples=5)
    parts = np.array([1 / 5 - 1 / 9, 1 / 4])  # the variances of x^2 for an even x, and of a fair coin
    np.testing.assert_allclose(found.first.estimate, parts / parts.sum(), atol=0.02)
    np.testing.assert_allclose(found.total.estimate, found.first.estimate, atol=0.01)


def test_settings_that_share_a_trial_do_not_predict_each_other():
    rng = np.random.default_rng(1)
    x = np.repeat(rng.uniform(0, 1, 24), 2)
    points = np.stack([x, np.tile([1.0, 2.0], 24)], axis=-1)
    noise = np.repeat(rng.normal(size=24), 2)  # of the trial, so that only its other setting could predict it
    axes = [Axis("x", np.array([0.0, 1.0]), False), Axis("width", np.array([1.0, 2.0]), False)]
    assert search_importance(points, noise[:, None], axes, resamples=2).explained < 0.1
    line = search_importance(points, (noise / 10 + 3 * x)[:, None], axes, resamples=2)
    assert 0.9 < line.explained < 1 - 0.005


def test_noise_is_explained_by_nothing_and_equal_scores_have_no_importance():
    rng = np.random.default_rng(0)
    points = rng.uniform(-np.pi, np.pi, (60, 3))
    noise = search_importance(points, rng.normal(size=(60, 1)), AXES, resamples=5)
    assert noise.explained < 0.1
    for found in (
        search_importance(points, np.ones((60, 2)), AXES, resamples=5),
        grid_importance(np.ones((3, 4, 2)), ("x", "y")),
    ):
        assert not found.first.estimate.any()
        assert not found.total.high.any()


def test_the_interval_of_seeds_covers_what_seeds_disagree_about():
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, 6), np.linspace(-1, 1, 6), indexing="ij")
    scores = x[..., None] * rng.normal(1, 0.5, 8) + y[..., None] * rng.normal(1, 0.5, 8)
    found = grid_importance(scores, ("x", "y"))
    assert (found.first.low < found.first.estimate).all()
    assert (found.first.estimate < found.first.high).all()


def test_failed_runs_count_as_the_worst_ones_whatever_the_others_are_worth():
    losses = np.exp(np.linspace(0, 30, 12)).reshape(4, 3, 1)
    losses[3] = np.inf
    axes = (Axis("x", np.arange(4.0), False), Axis("y", np.arange(3.0), False))
    points = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0), indexing="ij"), axis=-1).reshape(1, 12, 2)
    found = importances(Landscape("loss", axes, ("",), points, losses.reshape(1, 12, 1), (4, 3), "", False, False))
    # The ranks are 1 to 9 row by row, and 11 three times.
    ranks = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [11, 11, 11]])
    assert found[""].first.estimate[0] == pytest.approx(ranks.mean(axis=1).var() / ranks.var())
