"""Surfaces to turn: plotly's pages, also in a browser, and VisPy's pictures and windows, drawn by software."""

import ctypes.util
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image

from gdlab import FUNCTIONS, Grid, evaluate_grid, plots
from gdlab.plots import interactive, relief, screens
from tests.browsing import chromium
from tests.test_cli import run_command

X, Y = np.linspace(0, 1, 11), np.linspace(0, 2, 21)
PLANE = Grid(X, Y, np.add.outer(Y, X))
WALK = {"walk": np.array([[0.25, 0.5], [0.5, 1.5], [9.0, 9.0]])}
SIDE = np.linspace(-1, 1, 41)
RAMP = Grid(SIDE, SIDE, np.add.outer(0 * SIDE, SIDE))
HILL = Grid(SIDE, SIDE, np.exp(-6 * np.add.outer(SIDE**2, SIDE**2)))
ALONG = {"along": np.stack([np.linspace(-0.8, 0.8, 9), np.full(9, -0.4)], axis=1)}
VIRIDIS = 255 * colormaps["viridis"](np.linspace(0, 1, 256))[:, :3]

needs_plotly = pytest.mark.skipif(not importlib.util.find_spec("plotly"), reason="the extra `interactive` is missing")


@pytest.fixture(scope="module")
def small():
    """Small pictures, for as long as this file is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screens, "SIZE", (400, 300))
        yield


def vispy(*arguments, **settings):
    """A surface in VisPy; skips if VisPy or what it draws with is missing."""
    try:
        return interactive.surface(*arguments, backend="vispy", **settings)
    except (ImportError, OSError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def ramp(small):
    """A plane that rises to the right."""
    table = vispy(RAMP)
    yield table
    table.close()


@pytest.fixture
def bare(monkeypatch):
    """A machine without displays."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return monkeypatch


def near(picture, colour, distance):
    """Which pixels have about this color, whatever light is on it."""
    tints = [one / np.linalg.norm(one, axis=-1, keepdims=True) for one in (picture + 1e-9, np.asarray(colour, float))]
    grey = np.ptp(picture, axis=-1) < 40
    return (np.linalg.norm(tints[0] - tints[1], axis=-1) < distance) & ~grey


def height_of(pixel):
    """Where in viridis a color is, whatever light is on it."""
    tints = [one / np.linalg.norm(one, axis=-1, keepdims=True) for one in (pixel.astype(float), VIRIDIS)]
    return np.argmin(np.linalg.norm(tints[0] - tints[1], axis=-1)) / 255


def test_descents_lie_on_the_surface_between_their_steps_too():
    trail = relief.drape(HILL, {"over": np.array([[-0.5, 0.0], [0.5, 0.0], [0.5, 0.4]])})["over"]
    np.testing.assert_allclose(trail.points[trail.marks, :2], [[-0.5, 0.0], [0.5, 0.0], [0.5, 0.4]])
    ground = np.exp(-6 * (trail.points[:, :2] ** 2).sum(axis=1))
    np.testing.assert_allclose(trail.points[:, 2] - ground, relief.LIFT, atol=5e-3)  # heights are from a grid
    assert trail.points[:, 2].max() > 1.0  # the first step, whose ends are at 0.22, goes over the top
    first = trail.first(1)
    np.testing.assert_allclose(first.points[-1, :2], [0.5, 0.0])
    assert len(trail.first(0).points) == 1


def test_what_is_outside_the_grid_or_not_finite_is_a_gap():
    z = PLANE.z.copy()
    z[10, 5] = np.nan
    points, faces = relief.triangles(Grid(X, Y, z))
    assert len(faces) == 2 * 10 * 20 - 6  # the triangles around one point
    assert np.isfinite(points).all()
    away = relief.drape(PLANE, {"away": np.array([[0.5, 0.5], [0.5, 3.0], [0.5, 1.0], [np.nan, 1.0], [1e308, -1e308]])})
    kept = np.isfinite(away["away"].points).all(axis=1)
    assert kept[away["away"].marks].tolist() == [True, False, True, False, False]


@needs_plotly
def test_a_page_of_plotly(tmp_path):
    figure = interactive.surface(PLANE, WALK, title="plane")
    surface, line, dots = figure.data
    np.testing.assert_array_equal(surface.z, PLANE.z)
    # x + y, lifted by 1% of the range; points outside are left out
    np.testing.assert_allclose(dots.z, [0.75 + 0.03, 2.0 + 0.03])
    inside = np.isfinite(line.z)
    np.testing.assert_allclose(line.z[inside], line.x[inside] + line.y[inside] + 0.03)
    assert len(interactive.surface(PLANE, WALK, steps=0).data[2].z) == 1
    assert (line.legendgroup, line.name) == (dots.legendgroup, "walk")
    interactive.save(figure, tmp_path / "plane.html")
    page = (tmp_path / "plane.html").read_text()
    assert "<script src=" not in page  # no network
    assert "walk" in page


@needs_plotly
def test_a_function_is_drawn_over_its_own_domain():
    drawn = interactive.surface(FUNCTIONS["booth"]).data[0]
    expected = evaluate_grid(FUNCTIONS["booth"])
    for axis in "xyz":
        np.testing.assert_array_equal(getattr(drawn, axis), getattr(expected, axis))


def test_a_picture_has_the_colours_of_the_surface_where_its_values_are(ramp):
    ramp.turn(0, 90)
    picture = ramp.picture()
    assert picture.shape == (*screens.SIZE[::-1], 3)
    # Seen from above, the surface is a square around the middle of its part of the picture, lowest on the left.
    inside = np.flatnonzero(np.ptp(picture[140, :260], axis=-1) > 40)
    at = np.linspace(inside[0] + 2, inside[-1] - 2, 9).astype(int)
    found = [height_of(picture[140, column]) for column in at]
    # Perspective widens what is near the camera: higher parts are a little farther out.
    np.testing.assert_allclose(found, np.linspace(0, 1, 9), atol=0.12)
    assert np.all(np.diff(found) > 0)


def test_a_picture_changes_as_the_camera_turns(ramp):
    low, high = VIRIDIS[10], VIRIDIS[245]

    def column(colour):
        return np.nonzero(near(ramp.picture()[:, :260], colour, 0.1))[1].mean()

    ramp.turn(0, 40)
    front = ramp.picture()
    assert column(low) < column(high)  # the values rise to the right
    ramp.turn(180)
    assert column(low) > column(high)  # seen from behind, to the left
    assert (np.abs(ramp.picture().astype(int) - front).max(axis=-1) > 40).mean() > 0.1


def test_a_descent_is_played_step_by_step_and_hidden_by_a_hill(small):
    table = vispy(HILL, ALONG, steps=3)
    colour = 255 * np.array(to_rgb(plots.PALETTE[0]))

    def drawn(steps=None):
        if steps is not None:
            table.play(steps)
        return near(table.picture()[60:], colour, 0.15).sum()  # below the legend, which has the color too

    table.turn(0, 30)
    assert (table.steps, table.most) == (3, 8)
    first = drawn()
    assert drawn(0) < first < drawn(6) < drawn(8)
    assert drawn(100) == drawn(8)
    for key, steps in (("Left", 7), ("Right", 8), ("Space", 0), ("Space", 1), ("End", 8), ("Home", 0)):
        press(table, key)
        assert table.steps == steps, key
    table.turn(0, 10)
    seen = drawn(8)
    table.turn(180, 10)
    assert drawn() < 0.8 * seen  # the hill hides a part
    table.close()


def press(table, name):
    """Press a key in the window, or as if there were one."""
    from vispy.util import keys

    table._canvas.events.key_press(key=keys.Key(name), text="")


def test_a_surface_that_was_closed_and_one_without_a_display_are_one_line(small, bare, tmp_path):
    table = vispy(RAMP)
    with pytest.raises(OSError, match=r"figure: expected a display for its window, got none; save it as FILE\.png"):
        interactive.show(table)
    with pytest.raises(ValueError, match=r"path: expected the suffix \.png, got 'a\.html'"):
        interactive.save(table, "a.html")
    for wrong in (lambda: table.turn(elevation=91), lambda: table.turn("east"), lambda: table.play(-1)):
        with pytest.raises((ValueError, TypeError), match=r"^(elevation|azimuth|steps): expected"):
            wrong()
    table.close()
    with pytest.raises(ValueError, match="expected an open one"):
        interactive.save(table, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_missing_packages_and_libraries_are_one_line(bare):
    for backend, extra in (("plotly", "interactive"), ("vispy", "vispy")):
        bare.setitem(sys.modules, backend, None)
        bare.setitem(sys.modules, f"{backend}.graph_objects", None)
        for call in (interactive.require_backend, lambda name: interactive.surface(RAMP, backend=name)):
            with pytest.raises(ImportError, match=rf"^backend: .* {backend}, .*; run pip install 'gdlab\[{extra}\]'$"):
                call(backend)


def test_neither_a_display_nor_a_library_is_one_line(bare):
    pytest.importorskip("vispy", reason="the extra `vispy` is missing")
    for name in [name for name in sys.modules if name == "vispy" or name.startswith("vispy.")]:
        bare.delitem(sys.modules, name)
    bare.delenv("VISPY_GL_LIB", raising=False)
    bare.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(OSError, match=r"^backend: expected a display, EGL or OSMesa .*, got none that works; Debian's"):
        interactive.surface(RAMP, backend="vispy")


@pytest.fixture
def show(bare, capsys):
    """Run `gdlab show`; returns what it prints and its exit status."""

    return partial(run_command, bare, capsys, "show")


def test_the_command_line_saves_a_surface(show, ramp, tmp_path):
    file = tmp_path / "booth.png"
    out, status = show("booth", "--interactive", "--save", str(file))
    assert (out, status) == (f"Written to {file}\n", 0)
    with Image.open(file) as image:
        assert image.size == screens.SIZE
    _, status = show("booth", "--interactive", "--backend", "vispy")
    assert status == "gdlab: figure: expected a display for its window, got none; save it as FILE.png instead"


@needs_plotly
def test_the_command_line_writes_a_page(show, tmp_path):
    out, status = show("booth", "--interactive")
    assert status == 0
    page = re.fullmatch(r"Written to (.*\.html)\n", out)[1]
    try:
        assert os.path.getsize(page) > 1e6
    finally:
        shutil.rmtree(os.path.dirname(page))
    _, status = show("booth", "--interactive", "--save", "booth.gif")
    assert status == "gdlab: path: expected the suffix .html, got 'booth.gif'"
    _, status = show("booth", "--save", "booth.html")
    assert status == "gdlab: save: expected --interactive beside it, got none"
    _, status = show("adam", "--interactive")
    assert status.startswith("gdlab: name: no function named 'adam'; known: sphere")


IN_A_PROCESS = """
import sys
import numpy as np
from gdlab import Grid
from gdlab.plots import interactive, screens
screens.SIZE = (400, 300)
side = np.linspace(-1, 1, 41)
ramp = Grid(side, side, np.add.outer(0 * side, side))
table = interactive.surface(ramp, {"along": np.stack([side, 0 * side], axis=1)}, backend="vispy", title="ramp")
table.save(sys.argv[1])
print(table._canvas.app.backend_name, flush=True)
"""


@pytest.mark.slow
def test_osmesa_draws_the_picture_too(small, bare, tmp_path):
    library = ctypes.util.find_library("OSMesa")
    if library is None:
        pytest.skip("OSMesa is not installed")
    table = vispy(RAMP, {"along": np.stack([SIDE, 0 * SIDE], axis=1)}, title="ramp")
    table.save(tmp_path / "egl.png")
    table.close()
    bare.setenv("VISPY_GL_LIB", library)
    command = [sys.executable, "-c", IN_A_PROCESS, str(tmp_path / "osmesa.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "osmesa"
    pictures = [np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in ("egl", "osmesa")]
    assert (np.abs(pictures[0] - pictures[1]).max(axis=-1) > 40).mean() < 0.01


IN_A_WINDOW = """
from vispy.app import Timer
from vispy.util import keys
pressed = ["Home", " ", " ", "Right", "Left", "Escape"]
def press(event):
    if pressed:
        table._canvas.events.key_press(key=keys.Key(pressed.pop(0)), text="")
timer = Timer(0.05, connect=press, start=True, app=table._canvas.app)
interactive.show(table)
print(table.steps, len(pressed))
"""


@pytest.mark.slow
def test_a_window_opens_where_there_is_a_display(bare, tmp_path):
    pytest.importorskip("glfw", reason="the extra `vispy` is missing")
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip("Xvfb is not installed")
    receive, send = os.pipe()
    display = subprocess.Popen(
        [server, "-displayfd", str(send), "-screen", "0", "1280x960x24", "-noreset"],
        pass_fds=(send,),
        stderr=subprocess.DEVNULL,
    )
    try:
        os.close(send)
        with open(receive) as number:
            bare.setenv("DISPLAY", f":{number.readline().strip()}")
        command = [sys.executable, "-c", IN_A_PROCESS + IN_A_WINDOW, str(tmp_path / "window.png")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout.split() == ["Glfw", "2", "0"]  # steps: 0, 1, 2, 3, 2, and every key was used
        assert near(np.asarray(Image.open(tmp_path / "window.png")), VIRIDIS[128], 0.1).any()
    finally:
        display.terminate()
        display.wait()


NOTES = """<head><script>
const noted = [];
const note = text => { noted.push(text); document.documentElement.setAttribute("data-problems", noted.join(" | ")); };
console.error = (...parts) => note(parts.join(" "));
addEventListener("error", event => note(event.message));
addEventListener("unhandledrejection", event => note(String(event.reason)));
</script>"""


def browse(page, folder):
    """Open a page in a browser; returns its text then, the errors of its console, and a picture."""
    noting = folder / "noting.html"
    noting.write_text(page.replace("<head>", NOTES, 1))
    command = [
        chromium,
        *("--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars"),
        *("--window-size=1000,800", "--virtual-time-budget=4000", f"--user-data-dir={folder / 'profile'}"),
        *(f"--screenshot={folder / 'page.png'}", "--dump-dom", noting.as_uri()),
    ]
    text = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    problems = re.search(r'<html[^>]*data-problems="([^"]*)"', text)
    with Image.open(folder / "page.png") as image:
        return text, problems and problems[1], np.asarray(image.convert("RGB"))


@pytest.mark.slow
@needs_plotly
@pytest.mark.skipif(chromium is None, reason="chromium is not installed")
def test_a_browser_draws_the_page_without_an_error(tmp_path):
    interactive.save(interactive.surface(HILL, ALONG, title="hill"), tmp_path / "hill.html")
    text, problems, picture = browse((tmp_path / "hill.html").read_text(), tmp_path)
    assert problems is None
    assert "gl-canvas" in text
    assert near(picture[:, :800], VIRIDIS[20], 0.1).sum() > 5000  # most of the surface is low
    assert near(picture[150:, 200:800], 255 * np.array(to_rgb(plots.PALETTE[0])), 0.15).sum() > 200
    broken = "<html><head></head><body><script>console.error('bad'); missing();</script></body></html>"
    assert browse(broken, tmp_path)[1] == "bad | Uncaught ReferenceError: missing is not defined"
