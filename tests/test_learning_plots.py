import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from PIL import Image

from gdlab import plots
from gdlab.analysis.intervals import Interval
from gdlab.analysis.learning_curves import band, bands
from gdlab.plots.style import PALETTE

CURVES = bands({f"method {k}": [np.linspace(k, 10 + k + s, 50) for s in range(3)] for k in range(12)})


def spread(samples):
    return Interval(samples.mean(axis=-1), samples.min(axis=-1), samples.max(axis=-1))


def named(axes):
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


def test_mean_and_interval_over_seeds_are_drawn_at_whole_epochs_from_one():
    rows = [np.array([1.0, 2.0, 6.0]), np.array([3.0, 2.0, 10.0])]
    figure = plots.learning({"a": band(rows, spread)}, label="accuracy (%)")
    axes = figure.axes[0]
    line = named(axes)["a"]
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(line.get_ydata(), [2, 2, 8])
    (shade,) = [c for c in axes.collections if isinstance(c, PolyCollection)]
    corners = {tuple(corner) for corner in shade.get_paths()[0].vertices.tolist()}
    assert {(1, 1), (1, 3), (2, 2), (3, 6), (3, 10)} <= corners
    figure.canvas.draw()
    assert all(tick == int(tick) for tick in axes.get_xticks())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "accuracy (%)")
    assert axes.get_yscale() == "linear"


def test_one_seed_has_no_interval():
    axes = plots.learning(bands({"a": [np.arange(5.0)]})).axes[0]
    assert not axes.collections
    np.testing.assert_array_equal(named(axes)["a"].get_ydata(), np.arange(5.0))


def test_seeds_that_diverge_or_stop_end_the_mean_and_are_counted():
    rows = [np.array([4.0, 2.0, np.nan]), np.array([4.0, 3.0, 2.0]), np.array([4.0, 4.0, 3.0])]
    axes = plots.learning(bands({"a": rows, "b": [np.array([1.0, 1.0, 1.0]), np.array([3.0])]})).axes[0]
    lines = named(axes)
    assert list(lines) == ["a (1 of 3 diverged)", "b"]  # a shorter history has stopped, not failed
    np.testing.assert_array_equal(lines["a (1 of 3 diverged)"].get_ydata(), [4.0, 3.0])
    np.testing.assert_array_equal(lines["b"].get_ydata(), [2.0])
    crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in crosses] == [(2, 2.0)]
    thin = [line.get_ydata().tolist() for line in axes.get_lines() if line.get_linewidth() < 1]
    assert thin == [[3.0, 2.0], [4.0, 3.0], [1.0, 1.0, 1.0]]


def test_curves_without_a_finite_value_leave_only_their_name():
    axes = plots.learning(bands({"a": [np.array([np.nan])] * 2}), log_y=None).axes[0]
    assert list(named(axes)) == ["a (2 of 2 diverged)"]
    assert axes.get_yscale() == "linear"


@pytest.mark.parametrize(("least", "scale"), [(1e-3, "log"), (0.5, "linear"), (0.0, "linear")])
def test_the_axis_is_logarithmic_where_the_range_asks_for_it(least, scale):
    rows = [np.linspace(2.3, least, 50)] * 2
    assert plots.learning(bands({"a": rows}), log_y=None).axes[0].get_yscale() == scale
    assert plots.learning(bands({"a": rows})).axes[0].get_yscale() == "linear"


def test_panels_become_files_by_their_labels(tmp_path):
    few = {name: CURVES[name] for name in ("method 0", "method 1")}
    plots.save_learning({"training accuracy (%)": few, "test loss (nats)": few}, tmp_path / "new", title="a title")
    found = {path.name for path in (tmp_path / "new").iterdir()}
    assert found == {"training_accuracy.png", "test_loss.png", "learning.png"}


def test_notes_are_written_below_their_panels(tmp_path):
    few = {name: CURVES[name] for name in ("method 0", "method 1")}
    notes = {"b": "holds: one is better\nundecided: another one is not", "a": ""}
    figure = plots.learning_panels({"a": few, "b": few, "c": few}, notes=notes)
    FigureCanvasAgg(figure).draw()
    axes = dict(zip("abc", figure.axes, strict=False))
    texts = {name: [text.get_text() for text in each.texts] for name, each in axes.items()}
    assert texts == {"a": [], "b": [notes["b"]], "c": []}
    (note,) = axes["b"].texts
    assert note.get_window_extent().y1 < axes["b"].xaxis.label.get_window_extent().y0
    with pytest.raises(ValueError, match="notes: expected one of a; got 'b'"):
        plots.learning_panels({"a": few}, notes={"b": "a text"})
    with pytest.raises(ValueError, match="notes: expected one of a; got 'b'"):
        plots.save_learning({"a": few}, tmp_path / "nothing", notes={"b": "a text"})
    assert not (tmp_path / "nothing").exists()


def test_twelve_curves_differ_and_nothing_is_cut_off(tmp_path):
    labels = ("train (%)", "test (%)", "loss (nats)")
    figures = {
        "one": plots.learning(CURVES, title="a title\nof two lines", label="accuracy (%)"),
        "panels": plots.learning_panels(dict.fromkeys(labels, CURVES), title="a title", log_y=[False, False, None]),
    }
    for name, figure in figures.items():
        looks = {(to_hex(line.get_color()), line.get_linestyle()) for line in named(figure.axes[0]).values()}
        assert len(looks) == 12
        assert {colour for colour, _ in looks} == set(PALETTE)
        plots.save(figure, tmp_path / f"{name}.png", dpi=60)
        with Image.open(tmp_path / f"{name}.png") as opened:
            image = np.asarray(opened.convert("RGB"))
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (border == 255).all(), name
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == list(CURVES)
        assert legend.get_window_extent().x0 > max(axes.get_window_extent().x1 for axes in figure.axes)
    assert [axes.get_ylabel() for axes in figures["panels"].axes if axes.get_visible()] == list(labels)


@pytest.mark.parametrize("rows", [[], [np.ones((2, 2))], [np.empty(0)]])
def test_histories_of_another_shape_are_refused(rows):
    with pytest.raises(ValueError, match=r"histories\['a'\]: expected one vector of epochs per seed"):
        bands({"a": rows})
