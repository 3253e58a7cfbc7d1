"""Reading how a score depends on hyperparameters from datasets of several forms."""

import numpy as np
import pytest
import xarray as xr

from gdlab.analysis.landscapes import is_logarithmic, landscape

RATES = np.geomspace(1e-3, 1.0, 4)


def grid(**changed):
    scores = np.arange(2 * 4 * 3 * 5.0).reshape(2, 4, 3, 5)
    variables = {"loss": (("optimizer", "learning_rate", "width", "seed"), scores)} | changed
    labels = {"optimizer": ["adam", "sgd"], "learning_rate": RATES, "width": [64, 128, 256], "seed": range(5)}
    return xr.Dataset(variables, coords=labels)


def search(**changed):
    columns = {"learning_rate": ("trial", RATES), "b1": ("trial", [0.0, 0.5, 0.9, 0.7]), "b2": ("trial", [0.9] * 4)}
    scores = np.arange(4 * 3.0).reshape(4, 3)
    return xr.Dataset({"value": (("trial", "start"), scores)} | changed, coords=columns | {"trial": range(4)})


def test_a_grid_is_read_in_the_order_of_its_axes():
    found = landscape(grid(), "loss")
    assert found.groups == ("adam", "sgd")
    assert [(axis.name, axis.logarithmic) for axis in found.axes] == [("learning_rate", True), ("width", True)]
    assert found.shape == (4, 3)
    assert found.scores.shape == (2, 12, 5)
    np.testing.assert_array_equal(found.points[1, :4], [[1e-3, 64], [1e-3, 128], [1e-3, 256], [1e-2, 64]])
    np.testing.assert_array_equal(found.typical()[0, :2], [2.0, 7.0])  # medians of 0 to 4 and 5 to 9
    np.testing.assert_array_equal(found.best(), [0, 0])
    np.testing.assert_array_equal(landscape(grid(), "loss", better="higher").best(), [11, 11])
    turned = landscape(grid().transpose("seed", "width", "learning_rate", "optimizer"), "loss")
    assert [axis.name for axis in turned.axes] == ["width", "learning_rate"]
    np.testing.assert_array_equal(turned.typical()[0, :2], [2.0, 17.0])


def test_a_search_has_the_hyperparameters_that_differ():
    found = landscape(search(), "value")
    assert [(axis.name, axis.logarithmic) for axis in found.axes] == [("learning_rate", True), ("b1", False)]
    assert found.shape is None
    np.testing.assert_array_equal(found.points[0], np.stack([RATES, [0.0, 0.5, 0.9, 0.7]], axis=-1))
    np.testing.assert_allclose(found.axes[0].places(RATES), [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(found.axes[1].places(0.45), 0.5)


def test_runs_that_failed_score_worst():
    diverged = ("trial", "start"), np.array([[0, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]], bool)
    ds = search(diverged=diverged)
    ds.value[3, 0] = np.nan
    found = landscape(ds, "value")
    np.testing.assert_array_equal(found.typical(), [[1, np.inf, 8, 11]])
    np.testing.assert_allclose(found.failed(), [[0, 2 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_array_equal(landscape(ds, "value", better="higher").typical(), [[1, -np.inf, 7, 10]])
    # Four runs share the worst of twelve ranks, (9 + 10 + 11 + 12) / 4.
    assert (found.ranks()[np.isinf(found.scores)] == 10.5 / 12).all()


def test_the_last_epoch_counts_and_flags_become_shares():
    history = ("learning_rate", "seed", "epoch"), np.arange(4 * 2 * 3).reshape(4, 2, 3)
    arrived = ("learning_rate", "seed"), np.array([[0, 1], [1, 1], [0, 0], [0, 0]], bool)
    ds = xr.Dataset({"loss": history, "reached": arrived}, coords={"learning_rate": RATES})
    np.testing.assert_array_equal(landscape(ds, "loss").scores[0], [[2, 5], [8, 11], [14, 17], [20, 23]])
    found = landscape(ds, "reached")
    assert found.flags
    assert found.higher
    np.testing.assert_array_equal(found.typical(), [[0.5, 1.0, 0.0, 0.0]])


def test_labels_are_counted_in_their_order():
    scores = ("norm", "learning_rate"), np.zeros((3, 4))
    ds = xr.Dataset({"loss": scores}, coords={"norm": ["layer", "batch", "none"], "learning_rate": RATES})
    axis = landscape(ds, "loss").axes[0]
    assert axis.labels == ("layer", "batch", "none")
    np.testing.assert_array_equal(axis.values, [0, 1, 2])
    np.testing.assert_array_equal(landscape(ds, "loss").points[0, ::4, 0], [0, 1, 2])


def test_a_marginal_is_over_the_other_hyperparameters_and_has_a_band_over_seeds():
    found = landscape(grid(), "loss")
    by_width = found.marginal(1, group=0)
    np.testing.assert_array_equal(by_width.values, [64, 128, 256])
    # Width 64 has the scores 0, 15, 30, 45 plus the seed's number; their median is 22.5 for the first seed.
    np.testing.assert_array_equal(by_width.typical.estimate, [24.5, 29.5, 34.5])
    np.testing.assert_array_equal(by_width.best, [2, 7, 12])
    assert (by_width.typical.low >= [22.5, 27.5, 32.5]).all()
    assert (by_width.typical.high <= [26.5, 31.5, 36.5]).all()
    binned = landscape(search(), "value").marginal(0)
    np.testing.assert_array_equal(binned.values, RATES[[0, 2]])  # the lower of the two in each of two bins
    np.testing.assert_array_equal(binned.typical.estimate, [2.5, 8.5])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.geomspace(1e-4, 1, 9), True),
        ([16, 32, 64], True),
        ([16, 64], False),
        ([1e-3, 1e-2, 0.1, 0.3, 1.0], True),
        (np.linspace(0.5, 0.99, 8), False),
        (np.linspace(0.001, 1, 8), False),
        ([0.0, 1e-4, 1e-2], False),
        ([1.0, 2.0, 4.0, 9.0], False),
    ],
)
def test_logarithmic_axes_are_recognized(values, expected):
    assert is_logarithmic(np.asarray(values, float)) == expected


def test_what_cannot_be_read_is_refused_in_one_line():
    wide = {"path": (("trial", "start", "coordinate"), np.zeros((4, 3, 2)))}
    one = grid().isel(learning_rate=0, width=0)
    for call, answer in (
        (lambda: landscape(search(), "loss"), "variable: expected one of value, got 'loss'"),
        (lambda: landscape(search(**wide), "path"), "along 'coordinate'; select an entry"),
        (lambda: landscape(grid(w=(("learning_rate", "w_0"), np.zeros((4, 2)))), "w"), "along 'w_0'; select an entry"),
        (lambda: landscape(one, "loss"), "ds: expected a hyperparameter with several values"),
        (lambda: landscape(search().drop_vars(["learning_rate", "b1", "b2"]), "value"), "each trial among its coord"),
        (lambda: landscape(search(), "value", better="more"), "better: expected one of lower, higher"),
    ):
        with pytest.raises(ValueError, match=answer):
            call()
