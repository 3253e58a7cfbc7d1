"""The page on which the paths of sweeps are explored: its data and its errors."""

import base64
import gzip
import hashlib
import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from gdlab import FUNCTIONS, Grid
from gdlab.plots import explorer, interactive
from tests.samples import grid, paths_of_two
from tests.test_cli import run_command

HOSTILE = '</script><script>document.title = "injected"</script><img src=x onerror="document.title = \'injected\'">'


def data_of(page):
    """The data that a page holds."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def unpacked(entry):
    """The numbers of a packed array, read as its description says."""
    planes = np.frombuffer(gzip.decompress(base64.b64decode(entry["data"])), np.uint8)
    dtype = np.dtype(entry["kind"]).newbyteorder("<")
    return planes.reshape(dtype.itemsize, -1).T.copy().view(dtype).reshape(entry["shape"])


def explored(runs, **settings):
    """The data of the page of these runs on a bowl."""
    return data_of(interactive.explore(grid(), runs, **settings).page)


def test_the_page_holds_every_path_at_its_place():
    runs = paths_of_two(starts=3)
    data = explored(runs, title="bowl")
    assert [one["name"] for one in data["series"]] == ["whole", "half"]
    assert [axis["name"] for axis in data["axes"]] == ["learning_rate"]
    assert data["axes"][0]["at"] == 1  # 0.5 leaves the least: 0.5^4 and 0.75^4
    assert data["steps"] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(data["starts"], runs.point.isel(optimizer=0, learning_rate=0, step=0))
    np.testing.assert_array_equal(unpacked(data["ground"]["values"]), grid().z.astype(np.float32))
    for one in data["series"]:
        own = runs.sel(optimizer=one["name"])
        assert one["axes"] == [{"name": "learning_rate", "labels": ["0.1", "0.5", "1.5"]}]
        paths = unpacked(one["paths"])
        for axis in range(2):
            np.testing.assert_array_equal(paths[axis], own.point[..., axis].values.astype(np.float32))
        np.testing.assert_array_equal(paths[2], own.value.values.astype(np.float32))
        assert (unpacked(one["ends"]) == 4).all()


def test_two_axes_and_a_thinned_path():
    runs = paths_of_two()
    more = xr.concat([runs, runs * np.nan], dim="b1").assign_coords(b1=[0.5, 0.9])
    data = explored(more.transpose("step", "start", "optimizer", "b1", "learning_rate", "coordinate"), thin=3)
    assert data["steps"] == [0, 3, 4]  # the last one is kept, too
    assert [axis["name"] for axis in data["axes"]] == ["b1", "learning_rate"]
    assert data["axes"][0]["at"] == 0  # what is not finite comes last
    paths = unpacked(data["series"][0]["paths"])
    assert paths.shape == (3, 6, 2, 3)
    expected = runs.value.isel(optimizer=0, learning_rate=2, step=[0, 3, 4]).values
    np.testing.assert_array_equal(paths[2, 2], expected.astype(np.float32))  # the last axis varies fastest
    assert np.isnan(paths[2, 3:]).all()


def test_far_points_are_drawn_in_their_direction():
    runs = paths_of_two()
    far = runs.assign(point=runs.point.where(runs.step < 4, runs.point * 1e9))
    before, after = (unpacked(explored(one)["series"][0]["paths"])[:2, 0, 0] for one in (runs, far))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(after[:, 4]).max() == pytest.approx(2 * explorer.FAR)  # the bowl is two wide
    np.testing.assert_allclose(after[1, 4] / after[0, 4], before[1, 4] / before[0, 4], rtol=1e-5)


def test_how_each_descent_ended():
    runs = paths_of_two()
    no = np.zeros(runs.steps.shape, bool)
    flags = {name: no.copy() for name in ("converged", "diverged", "reached")}
    flags["converged"][0, 0, :] = flags["reached"][0, 0, 1] = flags["diverged"][0, 2, 0] = True
    runs = runs.assign({name: (runs.steps.dims, flag) for name, flag in flags.items()})
    runs = runs.assign(first_reached=(runs.steps.dims, np.where(flags["reached"], 2, -1)))
    data = explored(runs)
    one = data["series"][0]
    texts = [[data["outcomes"][code] for code in row] for row in unpacked(one["outcomes"])]
    assert texts[0] == ["converged after step", "at a minimizer, first after step"]
    assert texts[1] == ["all steps done", "all steps done"]
    assert texts[2] == ["diverged after step", "all steps done"]
    assert unpacked(one["ends"])[0].tolist() == [4, 2]


def test_optimizers_with_axes_of_their_own_share_sliders_by_name():
    runs = paths_of_two()
    first = runs.sel(optimizer="whole", drop=True)
    second = xr.concat([runs.sel(optimizer="half", drop=True)] * 2, dim="b1").assign_coords(b1=[0.5, 0.9])
    data = explored({"plain": first, "with b1": second.assign_coords(learning_rate=[1.0, 2.0, 3.0])})
    assert {axis["name"]: axis["count"] for axis in data["axes"]} == {"learning_rate": 3, "b1": 2}
    assert [[axis["name"] for axis in one["axes"]] for one in data["series"]] == [
        ["learning_rate"],
        ["b1", "learning_rate"],
    ]
    assert data["series"][1]["axes"][1]["labels"] == ["1", "2", "3"]


def test_trials_are_labelled_by_their_hyperparameters():
    runs = paths_of_two().rename(learning_rate="trial")
    runs = runs.assign_coords(trial=np.arange(3), b1=("trial", [0.5, 0.7, 0.9]))
    assert explored(runs)["series"][0]["axes"][0]["labels"] == ["0.5", "0.7", "0.9"]
    both = runs.assign_coords(rate=("trial", [0.1, 0.2, 0.3]))
    assert explored(both)["series"][0]["axes"][0]["labels"][2] == "b1 0.9, rate 0.3"


def test_names_and_titles_cannot_become_markup():
    runs = paths_of_two().assign_coords(optimizer=[HOSTILE, "half"])
    page = interactive.explore(grid(), runs, title=HOSTILE, labels=(HOSTILE, "b", "c")).page
    plain = interactive.explore(grid(), paths_of_two()).page
    for tag in ("<script", "</script", "<img"):
        assert page.count(tag) == plain.count(tag), tag
    assert data_of(page)["series"][0]["name"] == HOSTILE


def test_the_page_loads_nothing_and_runs_only_its_own_scripts():
    page = interactive.explore(grid(), paths_of_two()).page
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert policy == f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
    assert len(page.encode()) < 1.5e6


def test_the_libraries_are_the_ones_that_are_named():
    table = (explorer.WEB / "README.md").read_text()
    for name, version in (("d3.min.js", "7.9.2"), ("plot.min.js", "0.6.17")):
        text = (explorer.WEB / name).read_bytes()
        assert f"v{version} " in text[:100].decode()
        assert re.search(rf"`{name}`.*{version}.*`{hashlib.sha256(text).hexdigest()}`", table), name


def bad_runs():
    """Runs of which no page can be made, and what is said of them."""
    runs = paths_of_two()
    alone = runs.sel(optimizer="half", drop=True)
    yield (
        runs.isel(step=-1, drop=True),
        r"^runs: expected paths, as sweep\(\.\.\., record=\"path\"\) returns, got .* value",
    )
    three = xr.concat([runs.point, runs.point[..., :1]], dim="coordinate")
    yield (
        runs.drop_vars("point").assign(point=three),
        "^runs: expected paths of a function of two variables, got points of 3",
    )
    yield (
        runs.rename(point="point/w"),
        "^runs: expected paths of a function of two variables, got points that are trees",
    )
    two = xr.concat([runs, runs], dim="function").assign_coords(function=["f", "g"])
    yield two, "^runs: expected paths on one function, got f, g; select one"
    yield runs.isel(start=[]), "^runs: expected at least one path, got the sizes"
    yield {"a": alone, "b": alone.isel(start=[0])}, "^runs: expected the same starts in all, got others in b than in a"
    yield (
        {"a": alone, "b": alone.isel(step=slice(3))},
        "^runs: expected the same steps in all, got others in b than in a",
    )
    yield (
        {"a": alone, "b": alone.isel(learning_rate=[0])},
        "as many values of learning_rate in all, got 3 in a and 1 in b",
    )
    yield {}, "^runs: expected a mapping from names to datasets with at least 1 entry, got 0"
    yield runs.assign(value=runs.value * np.nan), "^runs: expected at least one finite value, got none"


@pytest.mark.parametrize("case", range(10))
def test_runs_that_cannot_be_explored_are_one_line(case):
    runs, message = [*bad_runs()][case]
    with pytest.raises(ValueError, match=message) as error:
        explored(runs)
    assert "\n" not in str(error.value)


def test_other_bad_input_is_one_line():
    with pytest.raises(ValueError, match=r"^function: expected a function of dimension 2, got powell of dimension 4$"):
        interactive.explore(FUNCTIONS["powell"]._replace(dim=4), paths_of_two())
    uneven = Grid(np.array([0.0, 1.0, 3.0]), np.arange(3.0), np.eye(3))
    with pytest.raises(ValueError, match=r"^function\.x: expected evenly spaced coordinates, got gaps from 1 to 2$"):
        interactive.explore(uneven, paths_of_two())
    with pytest.raises(ValueError, match=r"^path: expected the suffix \.html, got 'page\.png'$"):
        interactive.save(interactive.explore(grid(), paths_of_two()), "page.png")


def test_a_page_that_is_too_large_says_what_to_leave_out(monkeypatch):
    runs = paths_of_two(starts=60, steps=100)
    noise = np.random.default_rng(0).normal(size=runs.point.shape)
    runs = runs.assign(point=runs.point + noise, value=runs.value + noise[..., 0] ** 2)
    runs = runs.assign(point=runs.point.where(runs.step > 0, runs.point.isel(optimizer=0, learning_rate=0, step=0)))
    monkeypatch.setattr(explorer, "LARGEST_PAGE", 600_000)
    with pytest.raises(
        ValueError, match=r"^runs: expected a page of at most 0\.6 MB, got .* by thin=(\d+), or"
    ) as error:
        explored(runs)
    thin = int(re.search(r"thin=(\d+)", str(error.value))[1])
    explored(runs, thin=thin)
    assert len(str(error.value).splitlines()) == 1


@pytest.fixture
def explore(monkeypatch, capsys):
    """Run `gdlab explore` where no browser opens; returns what it prints and its exit status."""
    monkeypatch.setattr("gdlab.plots.webpage.has_display", lambda: False)
    return partial(run_command, monkeypatch, capsys, "explore")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ackly", "name: no function named 'ackly'; nearest: ackley"),
        ("ackley --optimizers adm", "optimizers: no optimizer named 'adm'; nearest: adam"),
        ("ackley --steps 0", "steps: expected an integer of at least 1, got 0"),
        ("ackley --starts 0", "starts: expected an integer of at least 1, got 0"),
        ("ackley --rates 1 0.1 5", "rates: expected a number in [1, inf), got 0.1"),
        ("ackley --box 3 -3", "box: expected the lower end first, got 3 and -3"),
        ("ackley --vary b9=1,2", "vary: expected an argument of sgd, momentum, adam, got 'b9'"),
        ("ackley --vary b1=x", "vary: expected NAME=NUMBER,NUMBER,..., got 'b1=x'"),
        ("ackley --save page.png", "path: expected the suffix .html, got 'page.png'"),
    ],
)
def test_bad_words_of_the_command_are_one_line(explore, words, message):
    _, status = explore(*words.split())
    assert status.startswith(f"gdlab: {message}")
    assert len(status.splitlines()) == 1


@pytest.mark.slow
def test_the_command_computes_and_writes_a_page(explore, tmp_path):
    file = tmp_path / "booth.html"
    small = ["--steps", "5", "--starts", "3", "--rates", "0.01", "0.1", "2"]
    out, status = explore(
        "booth", "--optimizers", "sgd", "adam", *small, "--vary", "b1=0.5,0.9,0.99", "--save", str(file)
    )
    assert (out, status) == (f"Written to {file}\n", 0)
    data = data_of(file.read_text())
    assert [one["name"] for one in data["series"]] == ["sgd", "adam"]
    assert {axis["name"]: axis["count"] for axis in data["axes"]} == {"learning_rate": 2, "b1": 3}
    assert data["minimizers"] == [[1, 3]]
    assert len(data["starts"]) == 3
    out, status = explore("ackley", "--optimizers", "sgd", *small)
    written = Path(re.fullmatch(r"Written to (.*\.html)\n", out)[1])
    try:
        assert data_of(written.read_text())["ground"]["x"] == [-5, 5]
    finally:
        shutil.rmtree(written.parent)
