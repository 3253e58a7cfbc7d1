"""The page on which the paths of sweeps are explored, in a browser: sliders, drags, keys, themes and widths."""

import re
import time
from functools import partial

import numpy as np
import pytest

from gdlab import FUNCTIONS, sweep
from gdlab.optimizers import adam, momentum, sgd
from gdlab.plots import interactive
from tests.browsing import settle
from tests.test_explorer import HOSTILE

pytestmark = pytest.mark.slow

STARTS = np.array([[-3.0, 2.0], [1.0, -2.5], [3.5, 3.5], [-1.0, -4.0]], np.float32)


@pytest.fixture(scope="module")
def runs():
    """A sweep on a function with four minima, of which one setting diverges."""
    factories = {"sgd": sgd, "momentum": partial(momentum, momentum=0.5), HOSTILE: adam}
    rates = {"learning_rate": [0.001, 0.01, 0.1]}
    return sweep(FUNCTIONS["himmelblau"], factories, rates, STARTS, max_steps=40, record="path", progress=False)


@pytest.fixture
def visit(open_file, runs, tmp_path):
    """Open the page, with settings of the browser."""

    def visit(width=1200, height=900, scheme="light", page=None, touch=False):
        file = tmp_path / "page.html"
        interactive.save(page or interactive.explore(FUNCTIONS["himmelblau"], runs), file)
        tab = open_file(file, width=width, height=height, color_scheme=scheme, has_touch=touch)
        tab.wait_for_selector("#rows tr")
        return tab

    return visit


def until(tab, expression, seconds=15):
    """Wait until an expression is true on the page, whose policy forbids that the page itself evaluates text."""
    end = time.monotonic() + seconds
    while not tab.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.05)


def slide(tab, axis, position):
    """Move a slider as its user would, and wait for the drawing."""
    move = "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', {bubbles: true})); }"
    tab.eval_on_selector(f'input[data-axis="{axis}"]' if axis != "step" else "#step", move, position)
    settle(tab)


def ends(tab):
    """The centers of the dots at the ends of the paths that are shown, in pixels of the map."""
    script = "dots => dots.map(dot => { const to = dot.transform.baseVal.consolidate()?.matrix ?? {e: 0, f: 0};"
    return tab.eval_on_selector_all(
        "#map .end circle", script + "return [dot.cx.baseVal.value + to.e, dot.cy.baseVal.value + to.f]; })"
    )


def pixel(tab, point):
    """Where a point of the function's domain lies on the map, from the frame that is drawn around it."""
    frame = tab.eval_on_selector("#map svg rect", "one => ['x', 'y', 'width', 'height'].map(k => one[k].baseVal.value)")
    share = (np.asarray(point, float) + 5) / 10  # the domain is [-5, 5]^2
    return np.array([frame[0] + share[0] * frame[2], frame[1] + (1 - share[1]) * frame[3]])


def on_screen(tab, point):
    """Where a point of the function's domain lies in the window."""
    box = tab.locator("#map").bounding_box()
    left, top = pixel(tab, point)
    return [box["x"] + left, box["y"] + top]


def shown(tab):
    """The table: a row of texts for each optimizer."""
    return [
        row.split("\t")
        for row in tab.eval_on_selector_all(
            "#rows tr", "rows => rows.map(row => [...row.children].map(cell => cell.textContent).join('\\t'))"
        )
    ]


def test_sliders_move_the_paths_to_those_of_the_dataset(visit, runs):
    tab = visit()
    for rate, start, step in ((0, 0, 40), (1, 2, 7), (2, 3, 0), (1, 1, 40)):
        slide(tab, "learning_rate", rate)
        slide(tab, "start", start)
        slide(tab, "step", step)
        dots, rows = ends(tab), shown(tab)
        one = runs.isel(learning_rate=rate, start=start)
        for place, name in enumerate(("sgd", "momentum", HOSTILE)):
            own = one.sel(optimizer=name)
            point, value = own.point.values[step], float(own.value[step])
            assert rows[place][0] == name
            assert rows[place][1] == f"learning_rate {['0.001', '0.01', '0.1'][rate]}"
            if np.isfinite(value):
                assert float(rows[place][2]) == pytest.approx(value, rel=1e-3, abs=1e-12)
                if np.abs(point).max() < 5:
                    assert np.abs(np.array(dots) - pixel(tab, point)).max(axis=1).min() < 0.5
            else:
                assert rows[place][2:4] == ["not finite", "far away"]
                assert rows[place][4].startswith("diverged after step ")
    assert tab.problems == []
    assert len(tab.requests) == 1  # the page itself


def test_a_drag_of_the_start_picks_the_nearest_one(visit):
    tab = visit()
    slide(tab, "start", 0)
    tab.mouse.move(*on_screen(tab, STARTS[0]))
    tab.mouse.down()
    for target in ([2.0, -3.5], [4.5, 1.0], [-1.5, -2.5]):
        tab.mouse.move(*on_screen(tab, target), steps=5)
        settle(tab)
        expected = np.linalg.norm(STARTS - target, axis=1).argmin()
        assert tab.input_value('input[data-axis="start"]') == str(expected)
    tab.mouse.up()
    tab.mouse.move(*on_screen(tab, STARTS[2]))
    settle(tab)
    assert tab.input_value('input[data-axis="start"]') == "3"  # the button is up
    tab.mouse.click(*on_screen(tab, STARTS[1]))
    settle(tab)
    assert tab.input_value('input[data-axis="start"]') == "1"
    assert tab.problems == []


def test_a_touch_drags_the_start_too(visit):
    tab = visit(375, 800, touch=True)
    touch = """(node, [type, x, y]) => {
      const touch = new Touch({identifier: 1, target: node, clientX: x, clientY: y});
      const about = {touches: type === "touchend" ? [] : [touch], changedTouches: [touch]};
      node.dispatchEvent(new TouchEvent(type, {...about, bubbles: true, cancelable: true}));
    }"""
    for kind, point in (
        ("touchstart", STARTS[0]),
        ("touchmove", [0.0, -1.0]),
        ("touchmove", [3.0, 3.0]),
        ("touchend", [3.0, 3.0]),
    ):
        tab.eval_on_selector("#map .handle", touch, [kind, *on_screen(tab, point)])
        settle(tab)
    assert tab.input_value('input[data-axis="start"]') == "2"
    assert tab.problems == []


def test_it_plays_and_pauses(visit):
    tab = visit()
    assert tab.text_content("#step-text") == "40 of 40"
    tab.click("#play")
    settle(tab)
    assert tab.text_content("#play") == "Pause"
    until(tab, "document.getElementById('step').value > 2 && document.getElementById('step').value < 40")
    tab.click("#play")
    settle(tab)
    paused = tab.input_value("#step")
    time.sleep(0.6)
    assert tab.input_value("#step") == paused
    assert tab.text_content("#play") == "Play"
    assert 2 < int(paused) < 40
    tab.click("#play")
    until(tab, "document.getElementById('step').value == 40")
    settle(tab)
    assert tab.text_content("#play") == "Play"
    assert tab.problems == []


def test_the_keyboard_and_a_screen_reader_reach_everything(visit):
    tab = visit()
    reached = []
    for _ in range(30):
        tab.keyboard.press("Tab")
        reached.append(
            tab.evaluate(
                "document.activeElement.id || document.activeElement.dataset.axis || document.activeElement.type"
            )
        )
    assert {"theme", "play", "step", "every", "checkbox"} <= set(reached)
    tab.focus('input[data-axis="learning_rate"]')
    tab.keyboard.press("Home")
    tab.keyboard.press("ArrowRight")
    settle(tab)
    assert tab.get_attribute('input[data-axis="learning_rate"]', "aria-valuetext") == "0.01"
    tab.focus("#play")
    tab.keyboard.press("Space")
    settle(tab)
    assert tab.text_content("#play") == "Pause"
    tab.keyboard.press("Space")
    unnamed = tab.evaluate("[...document.querySelectorAll('input')].filter(one => !one.labels.length).length")
    assert unnamed == 0
    until(tab, "document.getElementById('said').textContent.includes('start')")
    assert "sgd" in tab.text_content("#said")
    assert "Paths of sgd" in tab.get_attribute("#map", "aria-label")


def test_optimizers_can_be_hidden_and_all_starts_be_shown(visit):
    tab = visit()
    assert len(ends(tab)) == len(shown(tab)) == 3
    lines = tab.locator("#map svg path").count()
    tab.uncheck("#optimizers label:nth-of-type(2) input")
    settle(tab)
    assert [row[0] for row in shown(tab)] == ["sgd", HOSTILE]
    assert len(ends(tab)) == 2
    tab.check("#every")
    settle(tab)
    assert tab.locator("#map svg path").count() > lines
    for box in tab.locator("#optimizers input").all():
        box.uncheck()
    settle(tab)
    assert shown(tab) == []
    assert tab.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 768, 1280])
def test_it_fits_every_width_in_light_and_dark(visit, width, scheme):
    tab = visit(width, 800, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width

    def brightness():
        colours = tab.evaluate(
            "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
        )
        return [np.mean([int(number) for number in re.findall(r"\d+", text)[:3]]) for text in colours]

    page, ink = brightness()
    assert (page > 200 and ink < 80) if scheme == "light" else (page < 40 and ink > 200)
    first = tab.eval_on_selector("#map svg [aria-label=contour] path:last-child", "one => one.getAttribute('fill')")
    tab.click("#theme")
    settle(tab)
    other, _ = brightness()
    assert abs(other - page) > 150
    assert (
        tab.eval_on_selector("#map svg [aria-label=contour] path:last-child", "one => one.getAttribute('fill')")
        != first
    )
    tab.set_viewport_size({"width": width + 60, "height": 800})
    until(tab, "document.querySelector('#map svg').width.baseVal.value === document.getElementById('map').clientWidth")
    assert tab.problems == []


def test_no_name_becomes_markup_in_the_browser(visit, runs):
    tab = visit(
        page=interactive.explore(FUNCTIONS["himmelblau"], runs, title=HOSTILE, labels=(HOSTILE, HOSTILE, HOSTILE))
    )
    tab.mouse.move(*on_screen(tab, STARTS[2]))  # hovering shows a name, too
    settle(tab)
    assert tab.title() == HOSTILE
    assert tab.locator("h1").text_content() == HOSTILE
    assert tab.locator("img").count() == 0
    assert tab.problems == []


def test_a_slider_leaves_the_levels_as_they_are(visit):
    tab = visit()
    tab.evaluate("document.querySelector('#map svg [aria-label=contour]').drawn = 'once'")
    before = ends(tab)
    slide(tab, "learning_rate", 0)
    assert ends(tab) != before
    assert tab.evaluate("document.querySelector('#map svg [aria-label=contour]').drawn") == "once"
    assert tab.problems == []
