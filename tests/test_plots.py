import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from gdlab import FUNCTIONS, evaluate_grid, plots
from gdlab.analysis.basins import DIVERGED, SETTLED_NOWHERE
from gdlab.plots.style import DARK_GROUND, DARK_PALETTE, DASHES
from gdlab.types import Grid
from tests.selection import some_of

ACKLEY = FUNCTIONS["ackley"]
GRID = evaluate_grid(ACKLEY, -3, 3, points=41)
TRACKS = {f"method {k}": np.cumsum(np.full((20, 2), 0.02 * (k + 1)), axis=0) - 2 for k in range(12)}


def test_every_picture_is_a_figure_of_its_own_without_pyplot(tmp_path):
    figures = {
        "scatter": plots.scatter(GRID, title="Ackley"),
        "contour": plots.contour(GRID, minimizers=ACKLEY.minimizers(2), title="Ackley"),
        "contour3d": plots.contour3d(GRID, title="Ackley"),
        "surface": plots.surface(GRID, title="Ackley"),
        "paths": plots.paths(GRID, TRACKS, minimizers=ACKLEY.minimizers(2)),
        "values": plots.values({"a": np.geomspace(1, 1e-3, 30)}, title="x"),
    }
    for name, figure in figures.items():
        plots.save(figure, tmp_path / f"{name}.png", dpi=60)
        with Image.open(tmp_path / f"{name}.png") as opened:
            image = np.asarray(opened.convert("RGB"))
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20, name  # something is drawn
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (border == 255).all(), f"{name}: something is cut off at the edge"
        axes = figure.axes[0]
        assert axes.get_xlabel()
        assert axes.get_ylabel()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.png" for name in figures)


def test_pyplot_is_not_imported():
    import subprocess

    code = "import sys, gdlab.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_paths_draw_every_point_start_end_and_minimizer():
    figure = plots.paths(GRID, {"one": TRACKS["method 0"]}, minimizers=ACKLEY.minimizers(2))
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_array_equal(np.stack(lines["one"].get_data(), axis=1), TRACKS["method 0"])
    np.testing.assert_array_equal(np.ravel(lines["start"].get_data()), TRACKS["method 0"][0])
    np.testing.assert_array_equal(np.ravel(lines["global minimizer"].get_data()), [0, 0])
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["one", "start", "global minimizer"]
    assert legend.get_bbox_to_anchor().x0 > axes.get_window_extent().x1  # outside
    with pytest.raises(ValueError, match=r"paths\['bad'\]: expected points of shape \(count, 2\), got shape \(3,\)"):
        plots.paths(GRID, {"bad": np.ones(3)})


def drawn_border(figure, path):
    plots.save(figure, path, dpi=60)
    with Image.open(path) as opened:
        image = np.asarray(opened.convert("RGB"))
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


@pytest.mark.parametrize("kind", some_of(["constant", "offset", "step", "infinite"], ["constant", "infinite"]))
def test_odd_grids_are_drawn(kind, tmp_path):
    x = np.linspace(-1, 1, 21)
    bowl = x**2 + x[:, None] ** 2
    z = {
        "constant": np.ones((21, 21)),
        "offset": 2.3 + 0.01 * bowl,
        "step": (x > 0.5) * np.ones((21, 1)),
        "infinite": np.where(bowl > 1.5, np.inf, bowl),
    }[kind]
    for draw in (plots.contour, plots.surface, plots.scatter, plots.contour3d):
        figure = draw(Grid(x, x, z), title="A title so long that it would not fit over these axes on one line, or two")
        assert (drawn_border(figure, tmp_path / "odd.png") == 255).all()
    if kind == "offset":
        texts = [text.get_text() for text in plots.contour(Grid(x, x, z)).axes[0].child_axes[0].get_yticklabels()]
        assert len(set(texts)) == len(texts)  # 2.300, 2.302, ..., not 2.3 eleven times
    if kind == "step":
        assert len(plots.levels(z)) > 4


def test_thirty_names_fit_the_legend(tmp_path):
    names = {f"_{k}": TRACKS["method 0"] + k / 30 for k in range(30)}
    figure = plots.paths(GRID, names, minimizers=np.empty((0, 2)))
    assert (drawn_border(figure, tmp_path / "many.png") == 255).all()
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == [*names, "start"]


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"path: expected a suffix that names the format, such as .png, got '.*noext'"):
        plots.save(plots.contour(GRID), tmp_path / "noext")
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match="grid: expected a Grid, as evaluate_grid returns, got a Function"):
        plots.contour(ACKLEY)
    with pytest.raises(TypeError, match="paths: expected a mapping from names to points, got a list"):
        plots.paths(GRID, [TRACKS["method 0"]])
    with pytest.raises(ValueError, match=r"minimizers: expected points of shape \(count, 2\), got shape \(1,\)"):
        plots.contour(GRID, minimizers=[0.0])
    with pytest.raises(ValueError, match="count: expected an integer of at least 1, got 0"):
        plots.contour3d(GRID, count=0)
    with pytest.raises(ValueError, match="images: expected frames of shape"):
        plots.write_gif(tmp_path / "x.gif", np.zeros((0,)))


def test_levels_are_linear_for_even_values_and_logarithmic_for_skewed_ones():
    even = plots.levels(GRID.z)
    assert even[0] == GRID.z.min()
    assert even[-1] == GRID.z.max()
    assert np.ptp(np.diff(even[1:-1])) < 1e-9
    rosenbrock = evaluate_grid(FUNCTIONS["rosenbrock"], points=101)
    skewed = plots.levels(rosenbrock.z)
    steps = np.diff(skewed)
    assert (steps > 0).all()
    assert steps[-1] > 100 * steps[1]
    assert 5 <= len(skewed) <= 30
    assert (np.diff(plots.levels(np.ones((3, 3)))) > 0).all()  # a constant function can be drawn
    with pytest.raises(ValueError, match="z: expected at least one finite value"):
        plots.levels(np.full((2, 2), np.nan))


# OKLab (Ottosson 2020) and the matrices of Machado, Oliveira & Fernandes 2009, table for severity 1.0.
VISIONS = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def oklab(colours, vision):
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(VISIONS[vision]), 0, 1)
    cones = np.cbrt(
        seen
        @ np.transpose(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        )
    )
    return cones @ np.transpose(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )


@pytest.mark.parametrize("vision", VISIONS)
def test_twelve_line_styles_stay_apart_for_every_colour_vision(vision):
    styles = [plots.line_style(k) for k in range(12)]
    lab = oklab([style["color"] for style in styles], vision)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    dash = [DASHES.index(style["linestyle"]) for style in styles]
    for i in range(12):
        for j in range(i):
            assert distance[i, j] > (0.15 if dash[i] == dash[j] else 0.075), (i, j)
    white = np.linalg.norm(lab - oklab(["white"], vision), axis=1)
    assert white.min() > 0.15


@pytest.mark.parametrize("vision", VISIONS)
def test_twelve_line_styles_stay_apart_on_a_dark_page_too(vision):
    lab = oklab(DARK_PALETTE, vision)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    for i in range(12):
        for j in range(i):
            assert distance[i, j] > (0.15 if i // 4 == j // 4 else 0.075), (i, j)
    ground = oklab([to_hex(DARK_GROUND(place)) for place in (0.0, 0.5, 1.0)], vision)
    assert np.linalg.norm(lab[:, None] - ground[None], axis=-1).min() > 0.15


def test_race_shows_each_path_up_to_the_same_step_and_the_gif_plays(tmp_path):
    images = plots.race(GRID, {"a": TRACKS["method 3"], "b": TRACKS["method 11"][:5]}, frames=50, title="race", dpi=60)
    assert images.shape[0] == 20  # 20 points, fewer than frames: all are shown
    assert images.dtype == np.uint8
    assert all((images[k] != images[k + 1]).any() for k in range(19))
    long = {"a": np.zeros((500, 2)) + np.linspace(0, 1, 500)[:, None]}
    assert 30 <= len(plots.race(GRID, long, frames=40, tail=5, dpi=40)) <= 40
    plots.write_gif(tmp_path / "race.gif", images, frames_per_second=10, hold=1.5)
    with Image.open(tmp_path / "race.gif") as gif:
        assert gif.n_frames == 20
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == 100
        gif.seek(19)
        assert gif.info["duration"] == 1600
        colours = {tuple(c) for c in np.unique(np.asarray(gif.convert("RGB")).reshape(-1, 3), axis=0)}
    for exact in (plots.PALETTE[0], plots.PALETTE[1]):  # quantization keeps the colours of the lines
        assert tuple(round(255 * v) for v in to_rgb(exact)) in colours
    assert [path.name for path in tmp_path.iterdir()] == ["race.gif"]
    with pytest.raises(ValueError, match="expected at least one path of two points or more, got 1 points"):
        plots.race(GRID, {"a": np.zeros((1, 2))})
    with pytest.raises(ValueError, match="frames: expected an integer of at least 2, got 1"):
        plots.race(GRID, TRACKS, frames=1)


def test_basins_colour_each_start_by_its_minimum():
    minima = np.array([[0.0, 0.0], [1.0, 1.0]])
    labels = np.array([[0, 1, 1], [SETTLED_NOWHERE, DIVERGED, 0]])
    steps = np.where(labels >= 0, 10.0, np.nan)
    figure = plots.basins({"a": plots.Basins(labels, steps, "note")}, minima, [0], (0, 3, 0, 2), title="T")
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    expected = [to_rgb(c) for c in (plots.PALETTE[0], plots.PALETTE[1], "#c9c9c9", "#000000")]
    np.testing.assert_allclose(drawn[0], [expected[0], expected[1], expected[1]])
    np.testing.assert_allclose(drawn[1], [expected[2], expected[3], expected[0]])
    assert figure.axes[0].get_title() == "a\nnote"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "diverges" in texts
    with pytest.raises(ValueError, match=r"atlas\['a'\]: expected labels below 1"):
        plots.basins({"a": plots.Basins(labels, steps)}, minima[:1], [0], (0, 3, 0, 2))
    with pytest.raises(ValueError, match="atlas: expected at least one map"):
        plots.basins({}, minima, [0], (0, 3, 0, 2))


def test_many_basins_have_colours_by_place():
    x = np.arange(-5.0, 6)
    minima = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    best = int(np.flatnonzero((minima == 0).all(axis=1))[0])
    colours = plots.atlas.basin_colours(minima, [best], (-5.5, 5.5, -5.5, 5.5))
    assert colours.shape == (121, 3)
    assert len(np.unique(np.round(colours, 2), axis=0)) > 100
    # Neighbours along an axis are distinguishable, and so is the global minimum from all others.
    grid = colours.reshape(11, 11, 3)
    assert np.abs(np.diff(grid, axis=0)).max(axis=-1).min() > 0.02
    assert np.abs(np.delete(colours, best, axis=0) - colours[best]).max(axis=-1).min() > 0.3


def test_maps_draw_lines_over_cells():
    x, y = np.linspace(1, 2, 3), np.linspace(0, 1, 4)
    z = np.arange(12.0).reshape(4, 3)
    panel = plots.Map(x, y, z, {"line": (x, y[:3])}, {"point": (1.5, 0.5)})
    figure = plots.maps({"p": panel}, labels=("a", "b"), colour_label="c", limits=(0, 5), log_x=True)
    axes = figure.axes[0]
    np.testing.assert_array_equal(np.asarray(axes.collections[0].get_array()).ravel(), z.ravel())
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["line", "point"]
    with pytest.raises(ValueError, match="panels: expected at least one map, got none"):
        plots.maps({}, labels=("a", "b"), colour_label="c")
    with pytest.raises(ValueError, match=r"panels\['p'\]: expected z of shape \(4, 3\)"):
        plots.maps({"p": panel._replace(z=z.T)}, labels=("a", "b"), colour_label="c")


@pytest.mark.parametrize("size", [1e-300, 1e300, 1.7e308])
def test_values_near_the_bounds_of_float_are_drawn_or_refused(size):
    x = np.linspace(-1, 1, 11)
    z = np.tile(size * x, (11, 1))
    cells = {"cells": plots.Map(x, x, z)}
    draws = {
        "grid.z": lambda: plots.contour(Grid(x, x, z)),
        "series": lambda: plots.curves({"a": (x, size * x)}, log_x=False, log_y=False),
        "values": lambda: plots.heatmap(z, list("abcdefghijk"), list("abcdefghijk")),
        "panels": lambda: plots.maps(cells, labels=("x", "y"), colour_label="z"),
    }
    for name, draw in draws.items():
        if size > 1e307:
            with pytest.raises(ValueError, match=rf"^{name}.*: expected numbers up to 1e\+307 in size, got 1.7e\+308$"):
                draw()
        else:
            FigureCanvasAgg(draw()).draw()


def test_what_cannot_be_written_is_refused_before_it_is_drawn(tmp_path):
    images, figure = np.zeros((2, 8, 8, 3), np.uint8), plots.values({"a": [2.0, 1.0]})
    for call, answer in (
        (
            lambda: plots.write_gif(tmp_path / "a.gif", images / 255),
            "images: expected frames of dtype uint8, from 0 to",
        ),
        (lambda: plots.write_gif(tmp_path / "a.gif", images[..., 0]), "images: expected frames of shape"),
        (lambda: plots.write_gif(tmp_path / "a.mp4", images), "path: expected the suffix .gif, got '.*a.mp4'"),
        (lambda: plots.save(figure, tmp_path / "a.nonsense"), "path: expected one of the suffixes .* .png "),
        (lambda: plots.save(figure, tmp_path / "a.png", dpi=-1), r"dpi: expected a number in \(0, inf\), got -1"),
        (lambda: plots.save(None, tmp_path / "a.png"), "figure: expected a matplotlib figure, got None"),
        (lambda: plots.values({"a": [np.nan, np.nan]}), r"series\['a'\]: expected at least one finite point, got none"),
        (lambda: plots.values({}), "series: expected a mapping from names to values with at least 1 entry, got 0"),
    ):
        with pytest.raises((ValueError, TypeError), match=answer):
            call()
    assert list(tmp_path.iterdir()) == []
