import numpy as np
import pytest

from gdlab import plots
from gdlab.analysis.intervals import Interval, bootstrap_interval

RATES = np.geomspace(1e-4, 1.0, 5)


def test_sensitivity_shows_means_intervals_and_the_best_rate():
    scores = {
        "one": np.array([[0.1, 0.2], [0.5, 0.7], [0.9, 0.8], [0.4, 0.4], [0.1, 0.1]]),
        "two": np.full((5, 2), 0.3),
    }
    intervals = {name: bootstrap_interval(each) for name, each in scores.items()}
    figure = plots.sensitivity(RATES, intervals, labels=("rate", "accuracy"), chance=0.1)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_allclose(lines["one"].get_ydata(), [0.15, 0.6, 0.85, 0.4, 0.1])
    dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose([dot.get_xdata()[0] for dot in dots], [RATES[2], RATES[0]])
    assert len(axes.collections) == 1  # for the other, all seeds agree
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "rate", "accuracy")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    alone = {"one": bootstrap_interval(np.zeros((5, 1)))}
    assert len(plots.sensitivity(RATES, alone).axes[0].collections) == 0  # one seed: no interval


def test_interval_panels_share_axes_and_show_each_interval():
    one = Interval(np.arange(5.0), np.arange(5.0) - 1, np.arange(5.0) + 1)
    scores = {"a": one, "b": Interval(*np.zeros((3, 5)))}
    figure = plots.interval_panels(
        RATES, dict.fromkeys(("p", "q", "r"), scores), labels=("dim", "digits"), columns=2, ticks=True
    )
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == ["p", "q", "r"]
    assert len(figure.axes) == 4
    for axes in shown:
        np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), one.estimate)
        heights = axes.collections[0].get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == (-1.0, 5.0)
        np.testing.assert_array_equal(axes.get_xticks(), RATES)
    assert len({axes.get_ylim() for axes in shown}) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    with pytest.raises(ValueError, match="panels: expected the same names in all"):
        plots.interval_panels(RATES, {"p": scores, "q": {"a": one}})


def test_loss_maps_share_a_scale_and_leave_what_diverged_white():
    one = np.tile(np.array([2.0, 0.5, 0.1, 3.0, np.nan])[:, None], (1, 3))
    figure = plots.loss_maps(RATES, {"a": one, "b": one * 2, "c": one * 40}, ceiling=5.0, columns=2)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["a", "b", "c"]
    meshes = [axes.collections[0] for axes in panels]
    assert {(mesh.norm.vmin, mesh.norm.vmax) for mesh in meshes} == {(0.1, 5.0)}
    drawn = meshes[0].get_array()
    assert drawn.shape == (3, 5)
    assert np.ma.getmaskarray(drawn)[:, 4].all()
    np.testing.assert_allclose(drawn[:, :4], one.T[:, :4])
    dots = [line.get_xdata()[0] for line in panels[0].get_lines()]
    assert dots == [RATES[2]] * 3
    assert len(plots.loss_maps(RATES[:1], {"a": one[:1]}).axes[0].collections) == 1


def test_bad_input_raises_an_error_of_one_line():
    for call, answer in (
        (
            lambda: plots.sensitivity(RATES, {"a": Interval(*np.zeros((3, 4)))}),
            r"scores\['a'\]\.estimate: expected finite .* \(5,\), got shape \(4,\)",
        ),
        (lambda: plots.sensitivity(RATES, {"a": Interval(*np.full((3, 5), np.nan))}), "expected finite numbers"),
        (lambda: plots.loss_maps(RATES, {"a": np.full((5, 2), np.inf)}), "losses: expected at least one finite value"),
    ):
        with pytest.raises(ValueError, match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
