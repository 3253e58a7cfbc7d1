"""Races between optimizers: arrivals, tuning on some starts and judging on others, and pictures."""

import numpy as np
import pytest
from scipy import stats

from gdlab import FUNCTIONS, OPTIMIZERS, plots, sweep
from gdlab.analysis import arrivals
from gdlab.analysis.races import race_records
from gdlab.functions import MATRIX_FUNCTIONS
from gdlab.optimizers import sgd
from gdlab.sweeps import COMPARABLE, comparable, comparable_function, tune_and_judge, tune_and_judge_matrices

FIRST = np.array([[3, -1, 5, -1], [-1, -1, -1, -1], [9, 0, 1, 2]])


def test_steps_of_many_starts():
    np.testing.assert_array_equal(arrivals.median_steps(FIRST), [4.0, np.inf, 1.5])
    np.testing.assert_array_equal(arrivals.mean_steps(FIRST, 10), [(3 + 10 + 5 + 10) / 4, 10.0, 3.0])
    many = np.where(np.arange(999) < 400, np.arange(999), -1)  # takes another code path in NumPy
    np.testing.assert_array_equal(arrivals.median_steps(np.stack([many, np.full(999, -1)])), [199.5, np.inf])


def test_a_share_has_wilsons_interval():
    record = arrivals.share_record(FIRST[0] >= 0)
    expected = stats.binomtest(2, 4).proportion_ci(method="wilson")
    assert record == {"starts": 4, "share": 0.5, "share_low": expected.low, "share_high": expected.high}
    assert arrivals.share_cells(record) == ("50.0%", f"{100 * expected.low:.1f} to {100 * expected.high:.1f}%")
    assert [arrivals.percent(share) for share in (0, 0.001, 0.5, 0.999, 1)] == ["0%", "<1%", "50%", ">99%", "100%"]


def test_the_first_point_within_the_distance_of_a_minimizer():
    path = np.array([[3.0, 0.0], [2.0, 0.0], [0.0, 0.1], [2.0, 0.0]])
    minimizers = np.array([[0.0, 0.0], [0.0, 9.0]])
    assert arrivals.first_arrival(path, minimizers, 0.2) == 2
    assert arrivals.first_arrival(path, minimizers, 5.0) == 0
    assert arrivals.first_arrival(path, minimizers, 0.01) == -1


def test_settings_are_chosen_by_share_then_steps_then_value():
    values = np.zeros((3, 4))
    assert arrivals.best_settings(FIRST, values) == 2  # all of its starts arrive
    equal = np.array([[7, 8, -1], [2, 9, -1], [-1, 3, 4]])
    assert arrivals.best_settings(equal, np.zeros((3, 3))) == 2  # medians 7.5, 5.5 and 3.5
    assert arrivals.best_settings(equal, np.zeros((3, 3)), steps=lambda first: first.max(axis=-1)) == 2
    assert arrivals.best_settings(equal, np.zeros((3, 3)), steps=lambda first: first.min(axis=-1)) == 0  # all are equal
    nothing = np.full((3, 3), -1)
    assert arrivals.best_settings(nothing, np.array([[5, 5, 5], [np.nan, 2, 2], [np.inf, np.nan, 0]])) == 1
    # With shares up to 1/3 negligible, one lucky start of three does not count, and values decide.
    lucky = np.array([[-1, -1, -1], [1, -1, -1]])
    by_value = np.array([[0, 0, 0], [1, 1, 1]])
    assert arrivals.best_settings(lucky, by_value) == 1
    assert arrivals.best_settings(lucky, by_value, negligible=1 / 3) == 0
    both = arrivals.best_settings(np.stack([equal, nothing]), np.zeros((2, 3, 3)))
    np.testing.assert_array_equal(both, [2, 0])
    with pytest.raises(ValueError, match=r"values: expected the shape .* \(3, 4\), got \(3, 3\)"):
        arrivals.best_settings(FIRST, np.zeros((3, 3)))


def test_comparable_fixes_what_a_factory_has():
    assert comparable(OPTIMIZERS["soap"], 9).keywords == {"weight_decay": 0.0, "precondition_1d": True}
    assert comparable(OPTIMIZERS["lars"], 9).keywords == {"weight_decay": 0.0, "trust_coefficient": 1.0}
    assert comparable(OPTIMIZERS["sgd"], 9).keywords == {"weight_decay": 0.0}
    assert comparable(OPTIMIZERS["demon_sgdm"], 9).keywords["total_steps"] == 9
    taken = set().union(*(comparable(factory, 9).keywords for factory in OPTIMIZERS.values()))
    assert taken == {*COMPARABLE, "total_steps"}  # every entry is used


def test_a_comparable_function_has_its_minimizer_off_the_origin():
    ackley = comparable_function(FUNCTIONS["ackley"])
    low, high = ackley.bounds(2)
    np.testing.assert_allclose(high - low, 10)
    (minimizer,) = ackley.minimizers(2)
    assert np.abs(minimizer).min() > 0.5
    np.testing.assert_allclose(float(ackley.fn(minimizer)), 0, atol=1e-5)
    np.testing.assert_array_equal(comparable_function(FUNCTIONS["beale"]).minimizers(2), [[3.0, 0.5]])
    no_plane = FUNCTIONS["beale"]._replace(name="cube", dim=3)
    with pytest.raises(ValueError, match="expected a function of two variables with known minimizers, got 'cube'"):
        comparable_function(no_plane)


@pytest.mark.parametrize("listed", [False, True])
def test_tuned_on_some_starts_and_judged_on_others(listed):
    # On |x|^2 gradient descent at rate 1/2 arrives in one step, at 1/4 it halves x, at 1 it never gets closer. With
    # momentum 0.9 it is slower at 1/2, and on |x - 1|^2 / 2 the rate 1 arrives in one step.
    rng = np.random.default_rng(0)
    tuning, judged = rng.uniform(2, 3, (8, 2)), rng.uniform(-3, -2, (5, 2))
    functions = {
        "bowl": FUNCTIONS["sphere"],
        "wide": FUNCTIONS["sphere"]._replace(
            name="wide", fn=lambda x: ((x - 1) ** 2).sum() / 2, minimizers=lambda dim=None: np.ones((1, 2))
        ),
    }
    factories = {name: OPTIMIZERS[name] for name in ("momentum", "nesterov")}
    settings = {"momentum": [0.9, 0.0], "learning_rate": [0.25, 0.5, 1.0]}
    if listed:
        settings = [
            {"momentum": m, "learning_rate": r} for m in settings["momentum"] for r in settings["learning_rate"]
        ]
    race = tune_and_judge(functions, factories, settings, tuning, judged, max_steps=40, target=0.01)
    assert race.tuning.sizes["start"] == 8
    assert dict(race.judged.sizes) == {"optimizer": 2, "function": 2, "trial": 1, "start": 5, "coordinate": 2}
    np.testing.assert_array_equal(race.judged.learning_rate.values[..., 0], [[0.5, 1.0]] * 2)
    np.testing.assert_array_equal(race.judged.momentum.values, np.zeros((2, 2, 1)))
    assert (race.judged.first_reached == 1).all()
    # The last setting, chosen by a custom function, gives the same as a sweep with it alone.
    last = tune_and_judge(
        functions,
        factories,
        settings,
        tuning,
        judged,
        max_steps=40,
        choose=lambda first, values: first[..., 0, 0] * 0 + 5,
    ).judged
    alone = sweep(functions, factories, {"momentum": 0.0, "learning_rate": 1.0}, judged, max_steps=40)
    np.testing.assert_array_equal(last.point.values[:, :, 0], alone.point.values)


def test_minimizers_must_be_known():
    with pytest.raises(ValueError, match="functions: expected functions whose minimizers are known"):
        tune_and_judge(
            lambda x: (x**2).sum(),
            OPTIMIZERS["sgd"],
            {"learning_rate": [0.1]},
            np.ones((1, 2)),
            np.ones((1, 2)),
            max_steps=2,
        )


def test_profiles_show_the_largest_areas_in_colour():
    ratios = np.array([1.0, 2.0, 4.0])
    shares = {"low": np.array([0.0, 0.1, 0.2]), "high": np.array([0.5, 0.6, 0.7]), "middle": np.array([0.9, 0.1, 0.1])}
    (axes,) = plots.profiles(ratios, shares, shown=2).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["high", "middle", "1 other"]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), shares["high"])
    assert axes.get_xlim() == (1.0, 4.0)
    with pytest.raises(ValueError, match=r"shares\['bad'\]: expected one share for each of 3 ratios, got shape \(2,\)"):
        plots.profiles(ratios, {"bad": np.zeros(2)})


def test_a_score_map_has_its_values_in_order():
    figure = plots.score_map(np.array([1.0, 0.01, 0.1]), np.array([[3.0, 1.0, 2.0], [0.0, 0.0, np.nan]]), ["a", "b"])
    axes = figure.axes[0]
    mesh = axes.collections[0]
    np.testing.assert_array_equal(np.ma.filled(mesh.get_array(), -1), [[1, 2, 3], [0, -1, 0]])
    edges = mesh.get_coordinates()[0, :, 0]
    np.testing.assert_allclose(edges, 10.0 ** np.array([-2.5, -1.5, -0.5, 0.5]))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert mesh.get_clim() == (0, 3)
    with pytest.raises(ValueError, match=r"scores: expected shape \(1, 2\), got \(1, 3\)"):
        plots.score_map(np.ones(2), np.ones((1, 3)), ["a"])


def test_panels_of_curves_share_a_legend():
    x = np.array([1.0, 2.0])
    rows = {row: {column: {"one": (x, x), "two": (x, 2 * x)} for column in ("left", "right")} for row in ("top", "low")}
    figure = plots.curve_panels(rows, labels=("h", "error"), limits={"low": (0.5, 8.0)}, guides={"top": [(x, x, "g")]})
    top_left, top_right, low_left, low_right = figure.axes
    assert (top_left.get_title(), top_right.get_title(), low_left.get_title()) == ("left", "right", "")
    assert (top_left.get_ylabel(), low_left.get_ylabel(), low_right.get_xlabel()) == ("error, top", "error, low", "h")
    assert low_right.get_ylim() == (0.5, 8.0)
    assert (len(top_left.get_lines()), len(low_left.get_lines())) == (3, 2)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    with pytest.raises(ValueError, match="rows: expected the same columns in all rows"):
        plots.curve_panels({"top": {"left": {"one": (x, x)}}, "low": {"right": {"one": (x, x)}}}, labels=("h", "error"))


def bowls():
    """Two functions of matrices in which every step of gradient descent multiplies the gap by (1 - rate)^2."""
    make = MATRIX_FUNCTIONS["kronecker_quadratic"]
    found = {"square": make(2, 2, condition=1.0, rotated=False), "wide": make(2, 3, condition=1.0, rotated=False)}
    # A minimum of -7 must not matter.
    found["wide"] = found["wide"]._replace(fn=lambda x: (x**2).sum() / 2 - 7, minimum=-7.0)
    return found


def test_a_race_on_matrices_counts_the_steps_to_a_share_of_the_first_gap():
    functions = bowls()
    starts = {name: np.arange(1, 1 + 3 * one.minimizer.size, dtype=np.float32) for name, one in functions.items()}
    starts = {name: points.reshape(3, *functions[name].minimizer.shape) for name, points in starts.items()}
    judged = {name: -points[:2] for name, points in starts.items()}
    rates = [{"learning_rate": rate} for rate in (0.5, 0.25, 0.9, 3.0)]
    factories = {"sgd": sgd, "half": lambda learning_rate: sgd(learning_rate / 2)}
    race = tune_and_judge_matrices(functions, factories, rates, starts, judged, max_steps=12, gap=1e-3)
    assert race.tuning.first_reached.dims == ("optimizer", "function", "trial", "start")
    assert race.tuning.function.values.tolist() == ["square", "wide"]
    # (1 - rate)^(2 n) <= 1e-3 first for n = 5, 13, 2 and never; with half the rate for n = 13, 26, 6 and 5.
    first = np.array([[5, -1, 2, -1], [-1, -1, 6, 5]])
    np.testing.assert_array_equal(race.tuning.first_reached[..., 0], np.stack([first, first], axis=1))
    np.testing.assert_array_equal(race.judged.learning_rate[..., 0], [[0.9, 0.9], [3.0, 3.0]])
    np.testing.assert_array_equal(race.judged.first_reached[..., 0, 0], [[2, 2], [5, 5]])
    assert race.judged.sizes["start"] == 2
    assert race.judged.attrs["point_steps"] == 2 * 2 * 2 * 12
    records = race_records(*race)
    assert [one["optimizer"] for one in records] == ["sgd", "half"]
    assert records[0]["steps_median"] == 2
    assert records[1]["functions"]["wide"] == {
        "learning_rate": 3.0,
        "share": 1.0,
        "median_steps": 5.0,
        "good_decades": pytest.approx(records[1]["functions"]["square"]["good_decades"]),
    }


def test_starts_of_another_form_are_refused_by_name():
    functions = bowls()
    good = {name: one.minimizer[None].astype(np.float32) for name, one in functions.items()}
    for given, answer in (
        (
            {"square": good["square"]},
            r"tuning_starts: expected starts for each of \['square', 'wide'\], got starts for",
        ),
        (good | {"wide": np.ones((4, 3, 2))}, r"tuning_starts\['wide'\]: expected starts of shapes \[\(2, 3\)\]"),
        (good | {"wide": {"x": np.ones((4, 2, 3))}}, r"tuning_starts\['wide'\]: expected starts of shapes"),
    ):
        with pytest.raises(ValueError, match=answer):
            tune_and_judge_matrices(functions, sgd, {"learning_rate": 0.1}, given, good, max_steps=2)
