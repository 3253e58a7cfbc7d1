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


def test_ackley_descent(tmp_path, capsys):
    experiment = load("ackley_descent")
    out = tmp_path / "out"
    experiment.main(experiment.Config(out=out, starts=40, tuning_starts=20, steps=100))
    records = json.loads((out / "results.json").read_text())
    assert {"method", "momentum", "gradient", "learning_rate", "epochs", "converged", "point"} <= set(records[0])
    source = {(r["gradient"], r["momentum"]): r for r in records if r["setting"] == "source"}
    assert set(source) == {(g, m) for g in ("printed_quotient", "central", "autodiff") for m in (0.0, 0.1, 0.9)}
    # The article's counts, and the limit of 100,000 that momentum 0.9 runs into.
    assert [source["printed_quotient", m]["epochs"] for m in (0.0, 0.1, 0.9)] == [139, 127, 100_000]
    assert not source["printed_quotient", 0.9]["converged"]
    for gradient in ("central", "autodiff"):
        for m in (0.0, 0.1, 0.9):
            assert source[gradient, m]["epochs"] == 1
            assert source[gradient, m]["converged"]
            np.testing.assert_allclose(source[gradient, m]["point"], [-1.99998659, -1.99998659], atol=5e-9)
    # The sound descents rest in the nearest local minimum: the root of the slope along the diagonal.
    for record in (r for r in records if r["setting"] == "sound"):
        assert record["converged"]
        np.testing.assert_allclose(record["point"], [-1.97445199, -1.97445199], atol=1e-7)
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


def test_gradient_accuracy(tmp_path, capsys):
    experiment = load("gradient_accuracy")
    experiment.main(experiment.Config(out=tmp_path / "out"))
    records = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(records) == 4 * 2 * 6
    for record in (r for r in records if r["dtype"] == "float64"):
        place = (record["function"], record["scheme"])
        if record["order"] <= 4:
            assert record["observed_order"] is not None, place
        if record["observed_order"] is not None:
            assert record["observed_order"] == pytest.approx(record["order"], abs=0.1), place
    assert (tmp_path / "out" / "gradient_accuracy.png").exists()
    assert "central4" in capsys.readouterr().out


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


@pytest.mark.parametrize("script", ["ackley_descent", "gradient_accuracy", "optimizer_zoo"])
def test_bad_arguments_give_one_line_and_leave_nothing(script, tmp_path):
    (tmp_path / "file").write_text("")
    result = subprocess.run(
        [sys.executable, EXPERIMENTS / f"{script}.py", "--out", tmp_path / "file"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"{script}: wanted a folder to write to, got")
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
    assert "learning_rate: wanted a number in (0, inf), got -1" in result.stderr + result.stdout
