"""Pictures of settings, checked by what their axes hold."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import LineCollection, QuadMesh

from gdlab import FUNCTIONS, linear_range, log_range, plots, sample_hyperparameters, sweep, tasks
from gdlab.analysis.importance import grid_importance, importances
from gdlab.analysis.landscapes import landscape
from gdlab.optimizers import adam, momentum
from gdlab.plots.scores import score_scale
from gdlab.training import train_many

RATES = np.geomspace(1e-3, 1.0, 4)
WIDTHS = [8, 16, 32]


def grid(axes=2, optimizers=("adam", "sgd"), seeds=3):
    """Losses that are least at 0.1 and width 32, with one setting that always diverges and one that does sometimes."""
    coords = {"optimizer": list(optimizers), "learning_rate": RATES, "width": WIDTHS, "norm": ["on", "off"]}
    names = ["optimizer", *list(coords)[1 : 1 + axes], "seed"]
    shape = [len(coords[name]) for name in names[:-1]] + [seeds]
    loss = np.broadcast_to(1 + np.log10(RATES / 0.1).reshape(-1, *[1] * axes) ** 2, shape).copy()
    if axes > 1:
        loss -= np.reshape(np.arange(3) / 10, (-1, *[1] * (axes - 1)))
    loss[:, -1, ..., 0] = np.nan
    loss[0, 0] = np.nan
    return xr.Dataset({"loss": (names, loss)}, coords={name: coords[name] for name in names[:-1]})


def search(trials=12):
    rng = np.random.default_rng(0)
    rates, momenta = 10 ** rng.uniform(-4, 0, trials), rng.uniform(0, 1, trials)
    value = (np.log10(rates) + 2) ** 2 + momenta
    value[np.argmax(rates)] = np.inf
    columns = {"learning_rate": ("trial", rates), "momentum": ("trial", momenta)}
    return xr.Dataset({"value": (("trial", "start"), np.stack([value] * 2, axis=-1))}, coords=columns)


def legend(figure):
    return [
        text.get_text()
        for one in [*figure.legends, *[f for s in figure.subfigs for f in s.legends]]
        for text in one.get_texts()
    ]


def test_one_hyperparameter_gives_a_curve_for_each_optimizer():
    figure = plots.settings(grid(axes=1), "loss", title="one")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "learning rate"
    assert figure.get_supylabel() == "loss, median over seeds"
    curves = {
        line.get_color(): line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 4
    }
    first, second = curves.values()
    np.testing.assert_allclose(first.get_ydata(), [np.nan, 2, 1, 2])  # it always diverges at the lowest rate
    np.testing.assert_allclose(second.get_ydata(), [5, 2, 1, 2])
    (cross,) = (line for line in axes.lines if line.get_marker() == "x")
    np.testing.assert_allclose(cross.get_xdata(), RATES[:1])
    assert legend(figure) == ["adam", "sgd", "diverged"]


def test_two_hyperparameters_give_a_map_for_each_optimizer():
    figure = plots.settings(grid(), "loss")
    first, second = figure.axes[:2]
    assert (first.get_title(), second.get_title()) == ("adam", "sgd")
    assert (first.get_xscale(), first.get_yscale()) == ("log", "log")  # widths have equal ratios
    (mesh,) = (one for one in second.collections if isinstance(one, QuadMesh))
    expected = 1 + np.log10(RATES / 0.1) ** 2 - np.arange(3)[:, None] / 10
    np.testing.assert_allclose(mesh.get_array().reshape(3, 4), expected)
    (mesh,) = (one for one in first.collections if isinstance(one, QuadMesh))
    np.testing.assert_array_equal(mesh.get_array().reshape(3, 4).mask[:, 0], True)
    star = next(line for line in second.lines if line.get_marker() == "*")
    np.testing.assert_allclose([*star.get_xdata(), *star.get_ydata()], [0.1, 32])
    assert legend(figure) == ["diverged", "some seeds diverged"]


@pytest.mark.parametrize(("ds", "variable"), [(grid(axes=3), "loss"), (search(), "value")])
def test_more_hyperparameters_or_trials_give_parallel_coordinates_importance_and_marginals(ds, variable):
    figure = plots.settings(ds, variable)
    found = landscape(ds, variable)
    lines, bars, *curves = figure.axes
    titles = [text.get_text() for text in lines.texts]
    names = [axis.name.replace("_", " ") for axis in found.axes]
    assert set(names) <= set(titles)
    assert ("optimizer" in titles) == (len(found.groups) > 1)
    assert "diverged" in titles
    drawn = sum(len(one.get_segments()) for one in lines.collections if isinstance(one, LineCollection))
    assert drawn == found.typical().size
    assert [axes.get_xlabel() for axes in curves if axes.get_visible()] == names
    most = max(importances(found).values(), key=lambda one: one.total.estimate.max())
    assert bars.get_yticklabels()[-1].get_text() == most.names[int(np.argmax(most.total.estimate))].replace("_", " ")


def test_lines_of_good_settings_are_dark_and_lie_above_and_a_large_search_is_thinned_out():
    ds = search(60)
    figure = plots.parallel(landscape(ds, "value"), shown=20)
    failed, others = (one for one in figure.axes[0].collections if isinstance(one, LineCollection))
    assert len(failed.get_segments()) + len(others.get_segments()) == 20
    ends = [segment[-1, 1] for segment in others.get_segments()]
    assert ends == sorted(ends, reverse=True)  # lower is better, and the last line lies above
    assert others.get_colors()[-1, :3].sum() < others.get_colors()[0, :3].sum()
    assert "20 of 60 settings" in [text.get_text() for text in figure.axes[0].texts]
    best = int(np.argmin(ds.value.values[:, 0]))
    height = landscape(ds, "value").axes[0].places(ds.learning_rate.values[best])
    assert others.get_segments()[-1][0, 1] == pytest.approx(height, abs=0.03)


def test_importance_is_drawn_with_the_largest_at_the_top():
    scores = np.add.outer(np.arange(3.0), 10 * np.arange(4.0))[..., None] + np.zeros(2)
    figure = plots.importance({"adam": grid_importance(scores, ("small", "large"))})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["small", "large"]
    assert axes.lines[0].get_xdata()[1] > 0.98
    assert legend(figure) == ["alone", "with interactions"]


def test_the_scale_is_logarithmic_for_losses_of_many_magnitudes_and_leaves_out_the_worst_tenth():
    scale = score_scale(np.append(np.geomspace(1e-6, 1, 19), 1e30), higher=False)
    assert scale.logarithmic
    assert scale.low == pytest.approx(1e-6)
    assert scale.high < 1.0
    assert scale.extend == "max"
    assert not score_scale(np.linspace(0.4, 0.9, 5), higher=True).logarithmic
    np.testing.assert_allclose(score_scale(np.linspace(0, 1, 11), higher=True).places(np.array([0.1, 1.0])), [0, 1])
    assert score_scale(np.array([np.inf]), higher=False).high == 1.0
    assert scale.colors()(0.0)[:3] < scale.colors()(1.0)[:3]
    better = score_scale(np.linspace(0, 1, 11), higher=True).colors()
    assert better(1.0)[:3] < better(0.0)[:3]
    np.testing.assert_array_equal(scale.drawable(np.array([0.0, 0.1, np.inf])), [scale.low, 0.1, np.nan])


def test_many_optimizers_share_one_map_with_the_first_one_at_the_top():
    names = [f"method {number}" for number in range(13)]
    loss = np.arange(13.0)[:, None] + np.abs(np.arange(4) - 2)
    ds = xr.Dataset({"loss": (("optimizer", "trial"), loss)}, {"optimizer": names, "learning_rate": ("trial", RATES)})
    axes = plots.settings(ds, "loss").axes[0]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    (mesh,) = (one for one in axes.collections if isinstance(one, QuadMesh))
    np.testing.assert_array_equal(mesh.get_array().reshape(13, 4), loss)
    axes.figure.draw_without_rendering()
    assert [text.get_text() for text in axes.get_yticklabels()] == names


@pytest.mark.thorough
def test_what_sweeps_and_many_trainings_return_can_be_drawn(tmp_path):
    starts = np.random.default_rng(0).uniform(-2, 2, (6, 2)).astype(np.float32)
    ranges = {"learning_rate": log_range(1e-4, 10), "b1": linear_range(0, 0.99)}
    swept = sweep(FUNCTIONS["rosenbrock"], adam, sample_hyperparameters(ranges, 16), starts, max_steps=50)
    grid = {"learning_rate": np.geomspace(1e-3, 1, 4), "momentum": [0.0, 0.9]}
    trained = train_many(tasks.digits_mlp(hold_out=300), {"momentum": momentum}, grid, seeds=2, epochs=1)
    for number, (ds, variable, axes) in enumerate(
        ((swept, "value", 4), (swept, "reached", 4), (trained, "test_loss", 2))
    ):
        figure = plots.settings(ds, variable)
        assert len(figure.axes) == axes
        plots.save(figure, tmp_path / f"{number}.png", dpi=60)


def test_what_cannot_be_drawn_is_refused_in_one_line():
    functions = grid().rename(optimizer="function")
    for call, answer in (
        (lambda: plots.settings(functions, "loss"), "ds: expected one function, since .* got 2; select one"),
        (lambda: plots.setting_maps(landscape(grid(axes=1), "loss")), "landscape: expected a grid of two hyperpar"),
        (lambda: plots.setting_maps(landscape(search(), "value")), "got 2 of a search; plots.settings chooses"),
        (
            lambda: plots.importance(
                {"a": grid_importance(np.ones((2, 1)), ("x",)), "b": grid_importance(np.ones((2, 1)), ("y",))}
            ),
            "importances: expected the same hyperparameters in all",
        ),
    ):
        with pytest.raises(ValueError, match=answer):
            call()
