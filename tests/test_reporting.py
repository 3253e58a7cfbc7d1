"""The page of results: what it holds, what it says of damaged and unfinished results, and how it treats names."""

import base64
import hashlib
import re

import numpy as np
import pytest
import xarray as xr

import gdlab
from gdlab.records import read_json, write_json
from gdlab.reporting import page, page_of, save, sources
from gdlab.reporting.datasets import repeating
from gdlab.version import VERSION
from tests.samples import judged, paths_of_two, write_training
from tests.test_cli import run_command
from tests.test_explorer import HOSTILE, data_of, unpacked


def numbers(entry):
    """The numbers of a column, stored as a list or compressed."""
    return np.array(entry if isinstance(entry, list) else unpacked(entry), float)


def texts(column):
    """The texts of a column."""
    return [column["texts"][int(code)] for code in numbers(column["codes"])]


def columns(piece):
    """The columns of a table or of dots, by name, as texts and arrays."""
    return {
        one["name"]: texts(one) if one["kind"] == "text" else numbers(one["numbers"])
        for one in piece["columns"]
        if one["kind"] != "sparkline"
    }


def pieces(data, kind, section=0):
    """The pieces of a kind in a section."""
    return [one for one in data["sections"][section]["pieces"] if one["kind"] == kind]


@pytest.fixture
def swept(tmp_path):
    """The file of a dataset with paths."""
    path = tmp_path / "swept.nc"
    paths_of_two(starts=3).to_netcdf(path)
    return path


def test_every_run_of_a_dataset_is_on_the_page_with_all_its_digits(swept):
    ds = paths_of_two(starts=3)
    data = data_of(page_of([swept]).html)
    table = columns(pieces(data, "rows")[-1])
    last = ds.value.isel(step=-1).stack(run=("optimizer", "learning_rate", "start"))
    assert table["optimizer"] == last.optimizer.values.tolist()
    np.testing.assert_array_equal(table["learning_rate"], last.learning_rate.values)
    np.testing.assert_array_equal(table["value"], last.values)


def test_settings_are_ordered_by_their_median_score(swept):
    best = pieces(data_of(page_of([swept]).html), "rows")[0]
    found = columns(best)
    # A step multiplies by 1 - rate, or by 1 - rate / 2: 0, 1/4, 0.5, 0.75, 0.9, 0.95; of equal ones the first.
    rates = {"whole": [0.1, 0.5, 1.5], "half": [0.1, 0.5, 1.5]}
    factor = {(name, r): abs(1 - r * (1 if name == "whole" else 0.5)) for name, row in rates.items() for r in row}
    expected = sorted(factor, key=factor.get)
    assert found["setting"] == [f"{name}, learning_rate {rate:g}" for name, rate in expected]
    finals = paths_of_two(starts=3).value.isel(step=-1)
    for (name, rate), (middle, low, high) in zip(expected, found["value"], strict=True):
        own = finals.sel(optimizer=name, learning_rate=rate).values
        assert (middle, low, high) == (np.median(own), own.min(), own.max())


def test_curves_have_the_median_and_contain_all_runs(swept):
    ds = paths_of_two(starts=3)
    curves = pieces(data_of(page_of([swept]).html), "curves")[0]
    assert [panel["name"] for panel in curves["panels"]] == ["value"]
    one = next(each for each in curves["panels"][0]["curves"] if each["name"] == "half, learning_rate 1.5")
    own = ds.value.sel(optimizer="half", learning_rate=1.5).values.astype(np.float32)
    np.testing.assert_array_equal(numbers(one["x"]), ds.step)
    for edge, statistic in (("middle", np.median), ("low", np.min), ("high", np.max)):
        np.testing.assert_allclose(numbers(one[edge]), statistic(own, axis=0), rtol=1e-6)


@pytest.mark.slow
def test_the_code_beside_a_dot_repeats_its_run():
    starts = np.array([[1.5, -0.5], [0.25, 0.75]], np.float32)
    factories = {"sgd": gdlab.optimizers.sgd, "adam": gdlab.optimizers.adam}
    axes = {"learning_rate": [0.001, 0.01], "weight_decay": [0.0, 0.1]}
    ds = gdlab.sweep(gdlab.FUNCTIONS["booth"], factories, axes, starts, max_steps=20, progress=False)
    template = repeating(ds)
    run = ds.isel(optimizer=1, learning_rate=1, weight_decay=1, start=1)
    cells = {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.1, "start point": "0.25, 0.75"}
    code = re.sub(r"\{([\w ]+)\}", lambda name: str(cells[name[1]]), template)
    again = eval(code, {"gdlab": gdlab, "np": np})
    assert again.value.item() == run.value.item()


def test_runs_that_are_not_finite_count_as_worst(tmp_path):
    ds = paths_of_two(starts=3).isel(step=-1).copy(deep=True)
    ds.value[0, 1] = np.nan  # the best setting
    ds.to_netcdf(tmp_path / "lost.nc")
    found = columns(pieces(data_of(page_of([tmp_path]).html), "rows")[0])
    assert found["setting"][-1] == "whole, learning_rate 0.5"
    assert np.isnan(found["value"][-1]).all()
    assert found["not finite"].tolist() == [0, 0, 0, 0, 0, 3]


def test_a_search_has_a_dot_for_each_trial(tmp_path):
    ds = paths_of_two().rename(learning_rate="trial").isel(step=-1)
    ds = ds.assign_coords(trial=np.arange(3), b1=("trial", [0.5, 0.7, 0.9]), rate=("trial", [1e-3, 1e-1, 1e-2]))
    ds.to_netcdf(tmp_path / "search.nc")
    dots = pieces(data_of(page_of([tmp_path]).html), "dots")[0]
    assert dots["axes"] == [{"column": "b1", "logarithmic": False}, {"column": "rate", "logarithmic": True}]
    assert columns(dots)["rate"].tolist() == [1e-3, 1e-3, 1e-1, 1e-1, 1e-2, 1e-2] * 2
    assert dots["better"] == "lower"


def test_a_training_has_its_curves_and_says_that_it_is_partial(tmp_path):
    write_training(tmp_path / "run", losses=[2.0, 1.0, 0.5], epochs=5)
    data = data_of(page_of([tmp_path / "run"]).html)
    (section,) = data["sections"]
    assert re.fullmatch(
        r"Partial: 1 of 1 trainings ended early or are still going \(3 of their 5 epochs; last written [\d: -]+\)\.",
        section["warnings"][0],
    )
    panels = {panel["name"]: panel["curves"] for panel in pieces(data, "curves")[0]["panels"]}
    np.testing.assert_allclose(numbers(panels["test loss"][0]["middle"]), [2.0, 1.0, 0.5])


def test_a_study_has_results_with_intervals_curves_and_trials(tmp_path):
    for candidate, rate in (("adam", 1e-3), ("sgd", 1e-1)):
        for seed, loss in enumerate((0.5, 0.7)):
            folder = tmp_path / "runs" / "digits" / candidate / "epochs-2" / f"learning_rate-{rate}" / f"seed-{seed}"
            write_training(folder, losses=[1.0, loss], seed=seed, candidate=candidate, setting={"learning_rate": rate})
        for trial in (rate, 10 * rate):
            folder = tmp_path / "runs" / "digits" / candidate / "tuning-2" / f"learning_rate-{trial}" / "seed-1000"
            setting = {"learning_rate": trial}
            write_training(folder, losses=[1.0, trial], seed=1000, candidate=candidate, setting=setting)
    data = data_of(page_of([tmp_path]).html)
    assert data["sections"][0]["title"] == "digits"
    assert data["sections"][0]["warnings"] == []
    results = columns(pieces(data, "rows")[0])
    assert results["optimizer"] == ["adam (learning_rate 0.001)", "sgd (learning_rate 0.1)"]
    # Student's interval of two seeds: 0.6 and 12.706 standard errors of 0.1.
    np.testing.assert_allclose(results["test loss"], [[0.6, 0.6 - 1.2706205, 0.6 + 1.2706205]] * 2)
    assert results["seeds"].tolist() == [2, 2]
    trials = columns(pieces(data, "dots")[0])
    assert sorted(
        zip(trials["optimizer"], trials["learning_rate"], trials["valid loss after 2 epochs"], strict=True)
    ) == [
        ("adam", 0.001, 0.001),
        ("adam", 0.01, 0.01),
        ("sgd", 0.1, 0.1),
        ("sgd", 1.0, 1.0),
    ]


def test_a_judgement_has_its_checks_verdicts_and_map(tmp_path):
    write_json(tmp_path / "judgement.json", judged())
    data = data_of(page_of([tmp_path / "judgement.json"]).html)
    assert data["sections"][0]["title"] == "Judgement of newcomer"
    checks, nearest, verdicts = (columns(one) for one in pieces(data, "rows")[:3])
    assert checks["result"] == ["passed", "FAILED"]
    assert nearest["optimizer"] == ["adam", "nadam"]
    assert verdicts["verdict"] == ["better", "cannot tell"]
    np.testing.assert_array_equal(verdicts["difference"], [[0.3, 0.1, 0.5], [0.0, np.nan, np.nan]])
    levels = pieces(data, "levels")[0]
    assert levels["rows"] == ["layer scales  (scales)", "mine  (own)"]
    assert levels["values"] == [[3.0, 2.0], [1.5, 4.0]]
    (family,) = pieces(data, "ranges")[0]["groups"]
    assert family["ranges"][0]["margin"] == 0.1
    assert family["ranges"][1]["margin"] == 0.05  # a network
    (panel,) = pieces(data, "curves")[0]["panels"]
    assert panel["name"] == "net"
    assert [curve["name"] for curve in panel["curves"]] == ["newcomer", "sgd"]
    own = panel["curves"][0]
    assert [own[key] for key in ("x", "low", "middle", "high")] == [[1, 2], [0.5, 1], [0.75, 1.5], [1, 2]]


def test_a_judgement_whose_networks_have_no_curves_is_shown(tmp_path):
    found = judged()
    del found["record"]["networks"]["net"]["curves"]
    write_json(tmp_path / "judgement.json", found)
    (panel,) = pieces(data_of(page_of([tmp_path / "judgement.json"]).html), "curves")[0]["panels"]
    assert [curve["name"] for curve in panel["curves"]] == ["sgd"]
    del found["opponents"]["sgd"]["networks"]["net"]["curves"]
    write_json(tmp_path / "judgement.json", found)
    assert pieces(data_of(page_of([tmp_path / "judgement.json"]).html), "curves") == []


def test_a_damaged_file_among_many_is_named_and_the_rest_is_shown(tmp_path, swept):
    (tmp_path / "broken.nc").write_bytes(b"nothing")
    write_json(tmp_path / "old" / "judgement.json", {"verdicts": {}, "version": "0.1"})
    write_training(tmp_path / "run", losses=[1.0, 0.5])
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text('{"epochs": 2, "identity"')
    found = page_of([tmp_path])
    assert found.sections == ("swept", "digits")
    assert sorted(line.split(":")[0].removeprefix(str(tmp_path)) for line in found.damaged[:2]) == [
        "/broken.nc",
        "/old/judgement.json",
    ]
    assert "torn" in found.damaged[2]
    assert data_of(found.html)["damaged"] == list(found.damaged)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place: None, "places: expected a judgement, a study, a dataset .* got nothing of that kind"),
        (lambda place: (place / "a.nc").write_bytes(b"x"), r"places: expected .* got .*a\.nc: "),
        (lambda place: write_json(place / "judgement.json", {}), "places: .*expected a judgement, as gdlab judge"),
        (lambda place: write_json(place / "judgement.json", {"verdicts": 1}), "expected a judgement of this version"),
        (lambda place: xr.Dataset({"a": ("x", ["text"])}).to_netcdf(place / "a.nc"), "expected a variable with one"),
        (lambda place: xr.Dataset({"a": ("seed", np.zeros(0))}).to_netcdf(place / "a.nc"), "expected at least one run"),
        (
            lambda place: xr.Dataset({"a": ("seed", np.zeros(100_001, np.int8))}).to_netcdf(place / "a.nc"),
            "expected at most 100,000 runs, got 100,001",
        ),
    ],
)
def test_a_folder_without_results_is_refused_in_one_line(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        page_of([tmp_path])
    assert "\n" not in str(caught.value)


def test_other_bad_input(tmp_path, swept, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"places: expected a judgement.*which does not exist"):
        page_of([tmp_path / "none"])
    with pytest.raises(ValueError, match=r"places: expected at least one"):
        page_of([])
    with pytest.raises(ValueError, match=r"path: expected the suffix \.html, got 'a\.txt'"):
        save(page_of([swept]), "a.txt")
    monkeypatch.setattr(page, "LARGEST_PAGE", 1000)
    with pytest.raises(ValueError, match=r"places: expected a page of at most 0\.001 MB, got .*; report fewer results"):
        page_of([swept])


def test_names_cannot_become_markup_and_the_page_loads_nothing(tmp_path, swept):
    plain = page_of([swept]).html
    xr.load_dataset(swept).assign_coords(optimizer=[HOSTILE, "half"]).to_netcdf(tmp_path / "hostile.nc")
    write_training(tmp_path / "run", losses=[1.0], epochs=1, candidate=HOSTILE, problem=HOSTILE)
    hostile = page_of([tmp_path / "hostile.nc", tmp_path / "run"], title=HOSTILE).html
    for tag in ("<script", "</script", "<img"):
        assert hostile.count(tag) == plain.count(tag), tag
    scripts = re.findall(r"<script>(.*?)</script>", hostile, re.DOTALL)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', hostile)[1]
    allowed = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    assert policy == f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
    assert len(plain.encode()) < 1.5e6


def test_the_command_writes_the_page_and_names_what_it_left_out(tmp_path, swept, monkeypatch, capsys):
    (tmp_path / "broken.nc").write_bytes(b"nothing")
    out, status = run_command(monkeypatch, capsys, "report", str(tmp_path), "-o", str(tmp_path / "page.html"))
    assert status == 0
    assert "swept" in out
    assert VERSION in data_of((tmp_path / "page.html").read_text())["made"]
    out, status = run_command(monkeypatch, capsys, "report", str(tmp_path / "none"))
    assert "does not exist" in str(status)


def test_a_folder_of_results_is_searched_in_the_order_of_names(tmp_path):
    for name in ("b", "a"):
        write_training(tmp_path / name, losses=[1.0], epochs=1, problem=name)
    found = sources.find([tmp_path])
    assert [section.title for section in found.sections] == ["a", "b"]
    assert read_json(tmp_path / "a" / "config.json")["problem"] == "a"
