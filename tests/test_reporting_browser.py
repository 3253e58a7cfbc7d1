"""The page of results in a browser: nothing fails, tables sort and filter, figures change, files are downloaded."""

import csv
import math
import re
import time
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest

from gdlab.records import read_json, write_json
from gdlab.reporting import board, page_of, save
from gdlab.reporting.judgements import decision
from tests.browsing import settle
from tests.samples import judged, many_runs, paths_of_two, write_training
from tests.test_explorer import HOSTILE

pytestmark = pytest.mark.slow

MANY = 100_000
BOARD = Path(__file__).parents[1] / "benchmarks" / "board"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A judgement, a study, a single training and two datasets, one with paths and names that are markup."""
    folder = tmp_path_factory.mktemp("results")
    write_json(folder / "judgement" / "judgement.json", judged() | {"name": HOSTILE})
    write_training(folder / "single", losses=[3.0, 2.0, 1.0], problem="single", candidate=HOSTILE)
    for seed in range(2):
        for rate in (0.1, 0.01):
            setting = {"learning_rate": rate}
            place = folder / "study" / "digits" / "sgd"
            write_training(place / f"tuning-2-{rate}" / f"seed-{seed}", losses=[2.0, 10 * rate + seed], setting=setting)
        for candidate in ("sgd", "adam"):
            own = {"candidate": candidate, "setting": {"learning_rate": 0.1}}
            write_training(place / f"{candidate}-{seed}", losses=[2.0, 1.0 + seed], seed=seed, **own)
    paths_of_two(starts=3).assign_coords(optimizer=[HOSTILE, "half"]).to_netcdf(folder / "paths.nc")
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A scan of many settings and seeds."""
    path = tmp_path_factory.mktemp("many") / "scan.nc"
    many_runs(MANY // 10).to_netcdf(path)
    return path


@pytest.fixture
def visit(open_file, tmp_path):
    """Open the page of some results, with settings of the browser."""

    def visit(*places, width=1200, scheme="light"):
        file = save(page_of(places), tmp_path / "page.html")
        return open_file(file, width=width, color_scheme=scheme, timeout=60_000)

    return visit


def piece(tab, title):
    """The piece of this title."""
    return tab.locator(f'section.piece[aria-label="{title}"]').first


def column(part, index):
    """The texts of a column of a table."""
    return part.locator("tbody tr").evaluate_all("(rows, k) => rows.map(row => row.children[k].textContent)", index)


@pytest.mark.parametrize("width", [390, 820, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_result_is_drawn_at_every_width(visit, results, width, scheme):
    tab = visit(results, width=width, scheme=scheme)
    for part in tab.locator("section.piece").all():
        part.scroll_into_view_if_needed()
        settle(tab)
        assert part.locator("svg, canvas, table").count(), part.get_attribute("aria-label")
    assert tab.problems == []
    assert [address.split(":")[0] for address in tab.requests] == ["file"]
    assert tab.title() != "injected"
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    lightness = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (lightness == "rgb(255, 255, 255)") == (scheme == "light")


def test_verdicts_have_the_colours_of_their_answers(visit):
    entry = next(BOARD.glob("qhadam-*.json"))
    tab = visit(entry)
    part = piece(tab, "By family of problems, and by network")
    part.scroll_into_view_if_needed()
    settle(tab)
    fills = part.locator("[aria-label=dot] circle").evaluate_all("dots => dots.map(dot => dot.getAttribute('fill'))")
    answers = [verdict["answer"] for verdict in read_json(entry)["verdicts"]["parts"]["adam"].values()]
    assert set(answers) == {"worse", "equal", "cannot tell"}
    assert len(set(zip(answers, fills, strict=True))) == len(set(fills)) == 3
    assert tab.problems == []


def first_decimal(value):
    """The first decimal at which a number, rounded there, is not 0."""
    return next(place for place in range(7) if float(f"{value:.{place}f}"))


def test_an_end_that_is_not_zero_is_not_shown_as_zero(visit, tmp_path):
    found = judged()
    found["verdicts"]["overall"]["sgd"]["all diagnostics"] |= {"mean": -0.0119, "low": -0.0234, "high": -0.00033}
    write_json(tmp_path / "judgement.json", found)
    verdicts = piece(visit(tmp_path / "judgement.json"), "Is it better?")
    assert column(verdicts, 3)[0] == "-0.0119 (-0.0234 to -0.0003)"


def test_the_board_fits_on_a_page_and_intervals_have_two_digits(open_file, tmp_path):
    tab = open_file(board.build(BOARD, tmp_path / "site"), width=1280)
    scroll = tab.locator(".scroll").first
    assert scroll.evaluate("part => part.scrollWidth <= part.clientWidth")
    names, against = (column(piece(tab, "Entries"), place) for place in (0, 6))
    expected = {
        entry.content["name"]: decision(entry.content["verdicts"]["overall"]["adam"]["all diagnostics"])
        for entry in board.entries(BOARD)[0].values()
        if entry.content["name"] != "adam"
    }
    for name, text in zip(names, against, strict=True):
        if name == "adam":
            assert text == "\N{EN DASH}"  # not against itself
            continue
        one = expected[name]
        if name == "adamw":
            assert text == "0 (0 to 0)"  # without weight decay it is Adam
            continue
        decimals = max(1 - math.floor(math.log10(one.high - one.low)), *map(first_decimal, (one.low, one.high)))
        numbers = [float(each) for each in re.findall(r"-?[\d.]+", text)]
        assert numbers == pytest.approx([one.mean, one.low, one.high], abs=0.51 * 10**-decimals)
        assert {len(each) for each in re.findall(r"\.(\d+)", text)} == {decimals}
    tab.get_by_role("link", name="adadelta", exact=True).click()
    tab.wait_for_url("**/adadelta-*.html")
    tab.wait_for_selector("html[data-ready]")
    assert tab.title() == "Judgement of adadelta"
    assert tab.problems == []


def test_tables_sort_filter_and_download(visit, results):
    tab = visit(results / "paths.nc")
    runs = piece(tab, "All runs")
    head = runs.locator("thead th", has_text="value")
    place = runs.locator("thead th").evaluate_all("heads => heads.findIndex(one => one.textContent === 'value')")
    values = np.sort(paths_of_two(starts=3).value.isel(step=-1).values.reshape(-1))
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    np.testing.assert_allclose([float(text) for text in column(runs, place)], values[:10], rtol=1e-3, atol=1e-12)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    np.testing.assert_allclose([float(text) for text in column(runs, place)], values[::-1][:10], rtol=1e-3)
    runs.get_by_role("searchbox").fill("half")
    assert set(column(runs, 0)) == {"half"}
    assert "9 of 18" in runs.inner_text()
    with tab.expect_download() as saved:
        runs.get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(saved.value.path().read_text(encoding="utf-8").splitlines()))
    own = np.sort(paths_of_two(starts=3).value.sel(optimizer="half").isel(step=-1).values.reshape(-1))[::-1]
    assert [float(row["value"]) for row in rows] == own.tolist()  # all digits
    assert tab.problems == []


def test_bands_and_curves_are_switched_on_and_off(visit, results):
    tab = visit(results / "study")
    curves = piece(tab, "Learning curves")
    curves.scroll_into_view_if_needed()
    areas = "[aria-label=area] path"
    assert curves.locator(areas).count() == 2
    curves.get_by_label("bands").uncheck()
    assert curves.locator(areas).count() == 0
    lines = curves.locator("[aria-label=line] path").count()
    curves.locator(".legend input").first.uncheck()
    assert curves.locator("[aria-label=line] path").count() == lines - 1
    curves.get_by_label("Measure").select_option("valid loss")
    assert "valid loss" in curves.locator(".holder svg").first.get_attribute("aria-label")
    with tab.expect_download() as saved:
        curves.get_by_role("button", name="SVG").click()
    drawing = saved.value.path().read_text(encoding="utf-8")
    assert xml.etree.ElementTree.fromstring(drawing).tag.endswith("svg")
    assert "var(--" not in drawing
    assert tab.problems == []


def test_a_click_on_a_dot_tells_its_run(visit, results):
    tab = visit(results / "paths.nc")
    dots = piece(tab, "Sensitivity")
    dots.scroll_into_view_if_needed()
    settle(tab)
    dots.get_by_role("button", name="Best run").click()
    cross = dots.locator(".cross")
    box, canvas = cross.bounding_box(), dots.locator("canvas").bounding_box()
    at = {"x": box["x"] + 8 - canvas["x"], "y": box["y"] + 8 - canvas["y"]}
    first = dots.locator(".details").inner_text()
    assert "learning_rate" in first
    dots.locator("canvas").press("ArrowRight")
    assert dots.locator(".details").inner_text() != first
    dots.locator("canvas").click(position=at)
    assert dots.locator("dd").nth(1).inner_text() == "1.5"  # a step multiplies by 1 - 0.75
    assert tab.problems == []


def test_a_hundred_thousand_runs_take_few_elements(visit, many):
    tab = visit(many)
    dots, runs = piece(tab, "Sensitivity"), piece(tab, "All runs")
    for part in (dots, runs):
        part.scroll_into_view_if_needed()
        settle(tab)
    assert tab.evaluate("document.querySelectorAll('*').length") < 2_000
    before = column(runs, 0)
    runs.locator("thead button").nth(0).click()
    assert column(runs, 0) != before
    dots.get_by_role("button", name="Best run").click()
    best = dots.locator(".details").inner_text()
    dots.locator("canvas").click(position={"x": 300, "y": 150})
    assert dots.locator(".details").inner_text() != best
    assert tab.problems == []


def test_the_print_style_leaves_out_what_is_pressed(visit, results):
    tab = visit(results)
    tab.emulate_media(media="print")
    time.sleep(0.2)
    assert not tab.locator(".tools").first.is_visible()
    assert tab.locator("table").first.is_visible()
