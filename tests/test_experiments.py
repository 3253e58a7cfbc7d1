import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def require_the_articles_counts(records):
    """Require the article's counts, the limit of 100,000 that momentum 0.9 reaches, and what the settings really do."""
    source = {(r["gradient"], r["momentum"]): r for r in records if r["setting"] == "source"}
    assert set(source) == {(g, m) for g in ("printed_quotient", "central", "autodiff") for m in (0.0, 0.1, 0.9)}
    assert [source["printed_quotient", m]["epochs"] for m in (0.0, 0.1, 0.9)] == [139, 127, 100_000]
    assert not source["printed_quotient", 0.9]["converged"]
    for gradient in ("central", "autodiff"):
        for m in (0.0, 0.1, 0.9):
            assert source[gradient, m]["epochs"] == 1
            assert source[gradient, m]["converged"]
            np.testing.assert_allclose(source[gradient, m]["point"], [-1.99998659, -1.99998659], atol=5e-9)
    # The sound descents end in the nearest local minimum, the root of the slope along the diagonal.
    for record in (r for r in records if r["setting"] == "sound"):
        assert record["converged"]
        np.testing.assert_allclose(record["point"], [-1.97445199, -1.97445199], atol=1e-7)


@pytest.mark.slow
def test_the_articles_epochs_are_139_and_127():
    experiment = load("ackley_descent")
    require_the_articles_counts(experiment.from_one_start(experiment.Config()))


@pytest.mark.slow
def test_ackley_descent(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gdlab.plots.interactive.has_display", lambda: False)  # opens no browser
    experiment = load("ackley_descent")
    out = tmp_path / "out"
    plotly = importlib.util.find_spec("plotly") is not None
    experiment.main(experiment.Config(out=out, starts=40, tuning_starts=20, steps=100, interactive=plotly))
    assert (out / "ackley_interactive.html").exists() == plotly
    assert (out / "explore.html").stat().st_size > 5e5
    records = json.loads((out / "results.json").read_text())
    assert {"method", "momentum", "gradient", "learning_rate", "epochs", "converged", "point"} <= set(records[0])
    require_the_articles_counts(records)
    starts = json.loads((out / "starts.json").read_text())
    assert len(starts) == 11
    assert all(0 <= r["share_low"] <= r["share"] <= r["share_high"] <= 1 for r in starts)
    for name in ("scatter", "contour", "contour3d", "surface"):
        with Image.open(out / f"ackley_{name}.png") as image:
            assert min(image.size) > 400
    with Image.open(out / "race.gif") as gif:
        assert gif.n_frames > 20
    assert not list(tmp_path.rglob(".*"))
    printed = capsys.readouterr().out
    assert "139" in printed
    assert "127" in printed


@pytest.mark.slow
@pytest.mark.parametrize("cases", [("Ackley",), None])
def test_gradient_accuracy(tmp_path, capsys, cases, monkeypatch):
    experiment = load("gradient_accuracy")
    kept = {name: case for name, case in experiment.CASES.items() if cases is None or name in cases}
    monkeypatch.setattr(experiment, "CASES", kept)
    experiment.main(experiment.Config(out=tmp_path / "out"))
    records = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(records) == len(kept) * 2 * 6
    for record in (r for r in records if r["dtype"] == "float64"):
        place = (record["function"], record["scheme"])
        if record["order"] <= 4:
            assert record["observed_order"] is not None, place
        if record["observed_order"] is not None:
            assert record["observed_order"] == pytest.approx(record["order"], abs=0.1), place
    assert (tmp_path / "out" / "gradient_accuracy.png").exists()
    assert "central4" in capsys.readouterr().out


@pytest.mark.slow
def test_optimizer_zoo(tmp_path, capsys):
    experiment = load("optimizer_zoo")
    out = tmp_path / "out"
    names = ("sgd", "demon_adam")
    config = experiment.Config(out=out, optimizers=names, starts=16, tuning_starts=8, learning_rates=5, steps=60)
    experiment.main(config)
    records = json.loads((out / "results.json").read_text())
    functions = ("rosenbrock", "beale", "rastrigin", "ackley")
    assert {(r["optimizer"], r["function"]) for r in records} == {(n, f) for n in names for f in functions}
    for record in records:
        assert any(record["learning_rate"] == pytest.approx(rate) for rate in np.geomspace(1e-5, 100, 5))
        assert 0 <= record["share_low"] <= record["share"] <= record["share_high"] <= 1
        assert record["share_stayed"] <= record["share"]
        assert (record["median_steps"] is None) == (record["share"] == 0)
    for name in (*functions, "summary"):
        with Image.open(out / f"{name}.png") as image:
            assert min(image.size) > 200
    assert "Rastrigin: 16 starts" in capsys.readouterr().out


def test_optimizer_zoo_where_the_answer_is_known(tmp_path):
    # On |x|^2 gradient descent at rate 1/2 arrives in one step, at 1/4 it halves x, at 1 it never gets closer.
    experiment = load("optimizer_zoo")
    config = experiment.Config(
        out=tmp_path / "out",
        functions=("sphere",),
        optimizers=("sgd", "adam", "adamw"),
        learning_rates=3,
        lowest_rate=0.25,
        highest_rate=1.0,
        starts=16,
        tuning_starts=8,
        steps=60,
    )
    experiment.main(config)
    sgd, adam, adamw = json.loads((tmp_path / "out" / "results.json").read_text())
    assert sgd["learning_rate"] == pytest.approx(0.5)
    assert not sgd["at_edge"]
    assert [sgd[k] for k in ("share", "share_stayed", "median_steps", "fewest_steps", "drawn_steps")] == [1, 1, 1, 1, 1]
    assert sgd["share_low"] == pytest.approx(16 / (16 + 1.959964**2), rel=1e-6)  # Wilson's interval for 16 of 16
    assert adam == adamw | {"optimizer": "adam"}  # no weight decay


@pytest.mark.slow
def test_gradient_free(tmp_path, capsys):
    experiment = load("gradient_free")
    out = tmp_path / "out"
    experiment.main(experiment.Config(out=out, budget=300, trials=2, starts=8, dims=(2, 16), starts_each=6))
    records = json.loads((out / "results.json").read_text())
    arrived, digits = (
        {(r["method"], r["function"], r["dim"]): r for r in records if kind in r} for kind in ("share", "digits")
    )
    assert len(arrived) == (8 + 3) * 6
    assert len(digits) == 8 * 2 * 2
    for record in arrived.values():
        assert (record["median_evaluations"] is None) == (record["share"] <= 0.5)
        assert 0 <= record["share_low"] <= record["share"] <= record["share_high"] <= 1
    assert arrived["adam", "plateaus", 2]["share"] == 0  # there is no slope
    assert arrived["cma_es", "plateaus", 2]["share"] > 0.5
    assert all(0 <= r["digits_low"] <= r["digits"] <= r["digits_high"] < 7.001 for r in digits.values())  # float32
    for name in ("shares", "digits"):
        with Image.open(out / f"{name}.png") as image:
            assert min(image.size) > 400
    assert "bowl, 16" in capsys.readouterr().out
    with pytest.raises(ValueError, match="budget: expected at least 21 evaluations, for the start and one population"):
        experiment.main(experiment.Config(out=out, budget=16))


@pytest.mark.slow
def test_basins(tmp_path, capsys):
    experiment = load("basins")
    out = tmp_path / "out"
    functions = ("himmelblau", "six_hump_camel", "booth")
    config = experiment.Config(
        out=out, functions=functions, optimizers=("sgd", "adam"), side=40, learning_rates=5, steps=2000
    )
    experiment.main(config)
    records = json.loads((out / "results.json").read_text())
    assert [(r["function"], r["optimizer"]) for r in records] == [(f, o) for f in functions for o in config.optimizers]
    for record in records:
        # The numbers of minima are those of the literature: all four of Himmelblau's are global, and Booth has one.
        assert record["minima"] == {"himmelblau": 4, "six_hump_camel": 6, "booth": 1}[record["function"]]
        assert record["share_global"] <= record["share_settled"] <= 1
        if record["function"] != "six_hump_camel":
            assert record["share_global"] == record["share_settled"] > 0.95
        else:
            assert 0.2 < record["share_global"] < 0.95
    assert "himmelblau" in (out / "basins.csv").read_text()
    assert r"\toprule" in (out / "basins.tex").read_text()
    for name in functions:
        with Image.open(out / f"{name}.png") as image:
            assert min(image.size) > 500
    assert "at some" in capsys.readouterr().out


def test_minima_of_a_function_are_found_and_saddles_are_not():
    experiment = load("basins")
    from gdlab import FUNCTIONS

    ends = np.array([[0.09, -0.71], [-0.1, 0.7], [1.7, -0.8], [-1.7, 0.8], [1.6, 0.55], [-1.6, -0.55], [0.0, 0.0]])
    minima = experiment.find_minima(FUNCTIONS["six_hump_camel"], ends.astype(np.float32))
    # Dixon & Szego's six: +-(0.0898, -0.7127), +-(1.7036, -0.7961), +-(1.6071, 0.5687); the origin is a saddle.
    expected = np.array([[0.0898, -0.7127], [1.7036, -0.7961], [1.6071, 0.5687]])
    expected = np.concatenate([expected, -expected])
    assert len(minima) == 6
    distances = np.linalg.norm(minima[:, None] - expected, axis=-1)
    assert distances.min(axis=0).max() < 1e-4


@pytest.mark.slow
def test_stability(tmp_path, capsys):
    experiment = load("stability")
    out = tmp_path / "out"
    experiment.main(experiment.Config(out=out, cells=32, steps=400, rosenbrock_cells=8, starts=8))
    for record in json.loads((out / "results.json").read_text()):
        assert record["cells"] == 32 * 32
        assert record["disagree_off_boundary"] == 0
        assert record["largest_difference"] < 0.03
    assert len(json.loads((out / "rosenbrock.json").read_text())) == 2
    for name in ("quadratic", "rosenbrock"):
        with Image.open(out / f"{name}.png") as image:
            assert min(image.size) > 500
    assert "heavy ball" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["heavy ball", "Nesterov"])
def test_spectral_radius_and_boundary_are_those_of_the_iterations_matrix(method):
    experiment = load("stability")
    rng = np.random.default_rng(0)
    for rate, beta, curvature in rng.uniform([0, 0, 0.1], [1, 1, 5], (50, 3)):
        # (x, x_before): heavy ball x + beta (x - b) - rate lam x; Nesterov y - rate lam y with y = x + beta (x - b).
        if method == "heavy ball":
            row = [1 + beta - rate * curvature, -beta]
        else:
            row = [(1 + beta) * (1 - rate * curvature), -beta * (1 - rate * curvature)]
        expected = np.abs(np.linalg.eigvals(np.array([row, [1.0, 0.0]]))).max()
        found = experiment.spectral_radius(experiment.METHODS[method], np.array(rate), np.array(beta), (curvature,))
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert (found < 1) == (rate < experiment.METHODS[method].boundary(np.array(beta), curvature))


@pytest.mark.slow
def test_toy_race(tmp_path, capsys):
    experiment = load("toy_race")
    out = tmp_path / "out"
    config = experiment.Config(
        out=out,
        functions=("booth", "sphere", "rosenbrock"),
        optimizers=("sgd", "adam", "adamw", "demon_sgdm"),
        starts=32,
        tuning_starts=16,
        trials=8,
        steps=200,
        matrices=("matrix_square_root", "deep_linear"),
        matrix_starts=6,
        matrix_tuning_starts=3,
        matrix_steps=100,
    )
    experiment.main(config)
    records = {r["optimizer"]: r for r in json.loads((out / "results.json").read_text())}
    assert set(records) == set(config.optimizers)
    rates = experiment.sample_hyperparameters(
        {"learning_rate": experiment.log_range(config.lowest_rate, config.highest_rate)}, 8, seed=0
    )
    for record in records.values():
        assert 0 <= record["share_low"] <= record["share"] <= record["share_high"] <= 1
        assert record["share"] == pytest.approx(np.mean([f["share"] for f in record["functions"].values()]))
        assert list(record["tuning"]) == ["1", "2", "4", "8"]
        assert list(record["tuning"].values()) == sorted(record["tuning"].values())
        for found in record["functions"].values():
            assert any(found["learning_rate"] == pytest.approx(rate["learning_rate"]) for rate in rates)
    assert records["adam"] == records["adamw"] | {"optimizer": "adam"}  # no weight decay
    import xarray as xr

    tuning = xr.load_dataset(out / "tuning.nc", engine="scipy")
    assert tuning.reached.dims == ("optimizer", "function", "trial", "start")
    # A search of all eight trials finds the best one, whose share is that of the tuning starts at the chosen rate.
    best = tuning.reached.mean("start").max("trial").mean("function")
    for name, record in records.items():
        assert record["tuning"]["8"] == pytest.approx(float(best.sel(optimizer=name)))
    matrices = {r["optimizer"]: r for r in json.loads((out / "matrices.json").read_text())}
    assert matrices.keys() == records.keys()
    assert matrices["adam"] == matrices["adamw"] | {"optimizer": "adam"}
    assert matrices["adam"]["functions"].keys() == set(config.matrices)
    assert matrices["adam"]["share"] > matrices["sgd"]["share"]
    tuning = xr.load_dataset(out / "matrices_tuning.nc", engine="scipy")
    assert dict(tuning.sizes) == {"optimizer": 4, "function": 2, "trial": 8, "start": 3}
    for name in ("race", "functions", "matrices_race", "matrices_functions"):
        assert all((out / f"{name}{suffix}").stat().st_size > 100 for suffix in (".txt", ".csv", ".tex"))
    for name in (f"{kind}{name}" for kind in ("", "matrices_") for name in ("shares", "profile", "sensitivity")):
        with Image.open(out / f"{name}.png") as image:
            assert min(image.size) > 200
    assert "demon_sgdm" in capsys.readouterr().out


@pytest.mark.slow
def test_learning_rate_scan(tmp_path, capsys):
    experiment = load("learning_rate_scan")
    out = tmp_path / "out"
    config = experiment.Config(
        out=out,
        optimizers=("adam", "demon_sgdm"),
        rates=3,
        lowest_rate=1e-6,
        highest_rate=1e-2,
        seeds=2,
        epochs=3,
        train_size=300,
        hold_out=100,
        resume=tmp_path / "lanes",
    )
    experiment.main(config)
    records = {r["optimizer"]: r for r in json.loads((out / "results.json").read_text())}
    assert set(records) == {"adam", "demon_sgdm"}
    settings = json.loads((out / "settings.json").read_text())
    assert settings["lanes"] == 2 * 3 * 2
    assert settings["config"]["epochs"] == 3
    import xarray as xr

    ds = xr.load_dataset(out / "scan.nc", engine="scipy")
    assert dict(ds.sizes) == {"optimizer": 2, "learning_rate": 3, "seed": 2, "epoch": 3}
    final = ds.isel(epoch=-1).mean("seed")
    for name, record in records.items():
        held_out = final.valid_accuracy.sel(optimizer=name)
        best = held_out.idxmax()
        assert record["learning_rate"] == pytest.approx(float(best))
        assert record["test_accuracy"] == pytest.approx(
            float(final.test_accuracy.sel(optimizer=name, learning_rate=best)), rel=1e-6
        )
        assert record["test_low"] <= record["test_accuracy"] <= record["test_high"]
    assert records["adam"]["learning_rate"] == pytest.approx(1e-2)
    assert records["adam"]["at_the_edge"]
    for name in ("sensitivity", "loss_maps"):
        with Image.open(out / f"{name}.png") as image:
            assert min(image.size) > 200
    assert "0.01*" in capsys.readouterr().out
    with pytest.raises(ValueError, match="hold_out: expected an integer of at least 1"):
        experiment.Config(hold_out=0)


@pytest.mark.parametrize(
    "script",
    [
        "cifar10_resnet18",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "ackley_descent",
                "basins",
                "gradient_accuracy",
                "learning_rate_scan",
                "optimizer_zoo",
                "stability",
                "toy_race",
            )
        ),
    ],
)
def test_bad_arguments_print_one_line_and_write_nothing(script, tmp_path):
    (tmp_path / "file").write_text("")
    result = subprocess.run(
        [sys.executable, EXPERIMENTS / f"{script}.py", "--out", tmp_path / "file"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"{script}: expected a folder to write to, got")
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_bad_setting_is_named():
    result = subprocess.run(
        [sys.executable, EXPERIMENTS / "ackley_descent.py", "--learning-rate", "-1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "learning_rate: expected a number in (0, inf), got -1" in result.stderr + result.stdout
