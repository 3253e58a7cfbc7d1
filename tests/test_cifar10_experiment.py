import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdlab import comparison, models
from gdlab.analysis.claims import judge_claim
from gdlab.comparison import Run
from gdlab.comparison.options import carry_out
from gdlab.comparison.reports import longest
from gdlab.comparison.summaries import orders_compared, rank_candidates, summarize, values
from gdlab.data import Dataset, Split

SCRIPT = Path(__file__).parents[1] / "experiments" / "cifar10_resnet18.py"
EPOCHS, SEEDS = 20, 3
E = np.arange(1, EPOCHS + 1)


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("cifar10_resnet18", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["cifar10_resnet18"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small(monkeypatch):
    """Replace CIFAR10 by a few random images, and ResNet18 by a network that compiles in a second."""
    rng = np.random.default_rng(0)
    parts = [Split(rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n, np.int32)) for n in (96, 40)]
    origin = {"version": "3.0.2", "encoding": "JPEG (lossy)"}
    data = Dataset("cifar10", *parts, tuple("abcdefghij"), origin)
    monkeypatch.setattr("gdlab.tasks.cifar10.load", lambda name, data_dir: data)
    network = models.mlp((32, 32, 3), 10, hidden=(4,))
    monkeypatch.setattr(models, "resnet18", lambda classes, **settings: network)


def ramp(first, last):
    return np.linspace(first, last, EPOCHS)


def valley(lowest, last):
    return np.concatenate([np.linspace(2.0, lowest, EPOCHS // 2), np.linspace(lowest, last, EPOCHS // 2)])


def trainings(train_accuracy, test_accuracy, test_loss, seeds=SEEDS):
    """Make the runs of an optimizer, whose curves move up by 0.001 from seed to seed, as for every optimizer."""
    curves = {"train_accuracy": train_accuracy, "test_accuracy": test_accuracy, "test_loss": test_loss}
    found = []
    for seed in range(seeds):
        history = {name: curve + 0.001 * seed for name, curve in curves.items()}
        history["train_loss"] = 2.0 - history["train_accuracy"]
        found.append(Run(seed, history, np.ones(len(train_accuracy)), {}))
    return found


def as_claimed():
    return {
        "momentum": trainings(ramp(0.40, 0.98), ramp(0.49, 0.90), valley(0.6, 0.8)),
        "adam": trainings(ramp(0.30, 0.97), ramp(0.40, 0.90), ramp(2.0, 0.50)),
        "adadelta": trainings(ramp(0.10, 0.50), ramp(0.20, 0.58), ramp(2.0, 1.10)),
        "adagrad": trainings(ramp(0.12, 0.52), ramp(0.21, 0.60), ramp(2.0, 1.00)),
        "adamw": trainings(ramp(0.28, 0.96), ramp(0.39, 0.89), ramp(2.0, 0.51)),
        "adamax": trainings(ramp(0.50, 0.99), ramp(0.50, 0.90), valley(0.6, 0.9)),
        "asgd": trainings(ramp(0.20, 0.80), ramp(0.30, 0.80), ramp(2.0, 0.70)),
    }


def changed(name, metric, curve):
    found = as_claimed()
    for seed, training in enumerate(found[name]):
        training.history[metric] = curve + 0.001 * seed
    return found


def verdict(experiment, place, found):
    return judge_claim(experiment.CLAIMS[place], found, rivals=tuple(experiment.ARTICLE), labels=experiment.ARTICLE)


def verdicts(experiment, found):
    return [verdict(experiment, place, found).verdict for place in range(len(experiment.CLAIMS))]


def diverge(run):
    return run._replace(history={name: np.append(curve[:-1], np.nan) for name, curve in run.history.items()})


def test_the_articles_claims_hold_where_they_should(experiment):
    assert verdicts(experiment, as_claimed()) == ["holds"] * 8
    # Optimizers that the article did not run do not affect its claims.
    assert verdicts(experiment, as_claimed() | {"lion": trainings(E**0.0, E**0.0, 0.1 * E**0.0)}) == ["holds"] * 8


@pytest.mark.parametrize(
    ("which", "change"),
    [
        (0, ("adamax", "train_accuracy", np.where(E <= 3, 0.0, ramp(0.50, 0.99)))),  # 85% of the epochs
        (1, ("adamw", "train_accuracy", ramp(0.28, 0.975))),
        (2, ("adam", "test_accuracy", ramp(0.40, 0.87))),
        (3, ("adam", "test_accuracy", ramp(0.495, 0.90))),
        (4, ("asgd", "test_loss", ramp(2.0, 0.505))),
        (5, ("momentum", "test_loss", ramp(2.0, 0.6))),
        (5, ("adamax", "test_loss", valley(0.6, 0.62))),  # a rise, but of less than 5%
        (6, ("adagrad", "train_accuracy", 0.5 - 0.4 * np.exp(-E / 3))),
        (6, ("adadelta", "train_accuracy", ramp(0.5, 0.1))),
        (7, ("adagrad", "test_accuracy", ramp(0.21, 0.88))),
    ],
)
def test_one_curve_breaks_one_claim(experiment, which, change):
    expected = ["holds"] * 8
    expected[which] = "does not hold"
    assert verdicts(experiment, changed(*change)) == expected


def test_claims_without_enough_evidence_are_not_decided(experiment):
    order = 1
    mixed = as_claimed()
    mixed["adamw"][0].history["train_accuracy"][-1] = 0.98  # better in one seed, worse in two
    assert verdict(experiment, order, mixed).verdict == "undecided"
    del mixed["adamw"]
    assert "needs AdamW" in verdict(experiment, order, mixed).why
    failed = as_claimed()  # what diverged is no rival, and no claim about it is decided
    failed["asgd"][1] = diverge(failed["asgd"][1])
    assert verdicts(experiment, failed) == ["holds"] * 8
    failed["momentum"][1] = diverge(failed["momentum"][1])
    assert verdicts(experiment, failed) == [*["undecided"] * 6, "holds", "undecided"]
    assert verdict(experiment, order, failed).why == "a run of SGD diverged"
    single = {name: found[:1] for name, found in as_claimed().items()}
    short = {
        name: [run._replace(history={k: v[:9] for k, v in run.history.items()}) for run in found]
        for name, found in as_claimed().items()
    }
    assert verdicts(experiment, single) == ["undecided"] * 8
    assert verdict(experiment, order, single).why == (
        "a single seed has no interval; it points in the claim's direction: smallest margin 0.01"
    )
    single["adamw"][0].history["train_accuracy"][-1] = 0.99
    assert "it points against the claim: smallest margin -0.02" in verdict(experiment, order, single).why
    single["adamw"] = as_claimed()["adamw"]  # the others have one seed
    assert verdict(experiment, order, single).why == "runs are missing"
    nothing = {name: [] for name in single}
    assert {verdict(experiment, place, nothing).why for place in range(8)} == {"runs are missing"}
    decided = [each != "undecided" for each in verdicts(experiment, short)]
    assert decided == [not claim.whole_curves for claim in experiment.CLAIMS]


def test_final_and_best_values(experiment):
    loss = np.array([3.0, 1.0, 2.0])
    (run,) = trainings(np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.6, 0.5]), loss, seeds=1)
    failed = diverge(run)
    accuracy, losses = experiment.ACCURACY, experiment.LOSS
    assert values([run, failed], accuracy).tolist() == [50, -np.inf]
    assert values([run, failed], losses).tolist() == [2.0, np.inf]
    assert values([run, failed], accuracy, which="best").tolist() == [60, 60]
    lost = run._replace(history={name: curve * np.nan for name, curve in run.history.items()})
    assert values([lost], losses, which="best").tolist() == [np.inf]
    # With early stopping the model of the best epoch is the one to report.
    assert values([run.kept(1)], accuracy).tolist() == [60]
    assert run.kept(None) is run
    assert summarize(np.array([0.5, -np.inf]))["mean"] is None
    found = summarize(np.array([1.0, 2.0, 6.0]))
    assert (found["mean"], found["sd"]) == (3, pytest.approx(7**0.5))
    names, ranked = rank_candidates(as_claimed(), losses, SEEDS)  # lower is better
    assert names[:2] == ["adam", "adamw"]
    np.testing.assert_allclose([end[1] for end in ranked.behind], [0.01] * 3)
    assert ranked.mean[0] == pytest.approx(0.501)


def test_protocols_are_compared(experiment):
    column = experiment.COLUMNS["test_accuracy"]
    sound = as_claimed()
    assert orders_compared(sound, sound, column)["survives"] == "yes"
    turned = orders_compared(sound, changed("asgd", "test_accuracy", ramp(0.3, 0.895)), column)
    assert turned["survives"] == "no"
    assert turned["reversed"] == [{"better": "adamw", "worse": "asgd", "neighbours": True, "significant": True}]
    source = changed("asgd", "test_accuracy", ramp(0.3, 0.895))
    source["asgd"][0].history["test_accuracy"][-1] = 0.88
    source["asgd"][2].history["test_accuracy"][-1] = 0.99
    assert orders_compared(sound, source, column)["survives"] == "undecided"
    partial_runs = sound | {"asgd": sound["asgd"][:1]}
    assert orders_compared(sound, partial_runs, column)["pairs"] == 6 * 5 // 2  # of those that have all seeds
    nothing = orders_compared({"adam": []}, {"adam": []}, column)
    assert (nothing["survives"], nothing["kendall_tau"]) == ("undecided", None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 3}, "patience: expected --hold-out above 0"),
        ({"patience": 3, "protocol": "both"}, "patience: expected --hold-out above 0"),
        ({"protocol": "fair"}, "protocol: expected one of sound, source, both"),
        ({"optimizers": ("adan", "adma")}, "optimizers: no optimizer named 'adma'; nearest: adam"),
        ({"optimizers": ("adam", "adam")}, "optimizers: expected at least one, without repeats, got adam adam"),
        ({"seeds": ()}, "seeds: expected at least one, without repeats, got none"),
        ({"epochs": 0}, "epochs: expected an integer of at least 1"),
        ({"dtype": "float16"}, "dtype: expected one of float32, bfloat16"),
    ],
)
def test_a_bad_setting_raises_an_error_of_one_line(experiment, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        experiment.Config(**settings)
    assert len(str(error.value).splitlines()) == 1
    if "patience" in settings:
        experiment.Config(**settings, hold_out=10)
        experiment.Config(patience=3, protocol="source")


def test_smoke_has_other_defaults_and_keeps_explicit_settings(experiment, monkeypatch):
    def parsed(*flags):
        monkeypatch.setattr(sys, "argv", ["cifar10_resnet18.py", *flags])
        return experiment.parse(experiment.Config, None, smoke=experiment.SMOKE)

    config = parsed("--smoke", "--epochs", "50", "--seeds", "0", "1", "2", "3", "4")  # the full run's defaults
    assert (config.epochs, config.seeds, config.width, config.train_size) == (50, (0, 1, 2, 3, 4), 8, 1024)
    assert parsed("--smoke").epochs == 2
    assert parsed("--smoke").out != experiment.Config().out
    assert parsed() == experiment.Config()
    assert config.optimizers == ("momentum", "adam", "adadelta", "adagrad", "adamw", "adamax", "asgd")


def test_settings_are_the_articles(experiment):
    config = experiment.Config()
    assert (config.epochs, config.batch_size, config.width, config.stem, config.head) == (
        50,
        64,
        64,
        "imagenet",
        "source",
    )
    (problem,) = experiment.make_study(config).problems
    assert problem.trials["momentum"] == [{"learning_rate": 0.01}]
    assert problem.trials["adam"] == [{}]
    assert not any(map(problem.is_tuned, problem.trials))


def test_missing_data_gives_one_line(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "GDLAB_DATA_DIR"}
    result = subprocess.run(
        [sys.executable, SCRIPT, "--smoke", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"HOME": str(tmp_path)},
    )
    assert result.returncode == 1
    assert result.stderr.startswith("cifar10_resnet18: cifar10: expected a prepared folder")
    assert "gdlab data prepare cifar10" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_reported_before_anything_runs(experiment, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="expected a folder to write to, got"):
        run(experiment, experiment.Config(out=tmp_path / "file"))


def test_a_missing_extra_gives_one_line_before_anything_runs(experiment, small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match="tensorboard: expected the package tensorboardX, got none"):
        run(experiment, experiment.Config(out=tmp_path / "out", tensorboard=True))
    assert not (tmp_path / "out").exists()


def run(experiment, config):
    carry_out(config, experiment.make_study, lambda study: experiment.make_report(config, study))


@pytest.fixture
def events(monkeypatch):
    """Record what is written to TensorBoard: (folder, name, epoch)."""
    found = []

    class SummaryWriter:
        def __init__(self, folder):
            Path(folder).mkdir(parents=True)  # raises if the folder exists
            self.folder = folder

        def add_scalar(self, name, value, epoch):
            assert np.isfinite(value)
            found.append((self.folder, name, epoch))

        def close(self):
            pass

    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    return found


def metrics(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("metrics.jsonl"))}


@pytest.mark.slow
def test_a_killed_benchmark_resumes_and_ends_in_the_same_numbers(
    experiment, small, events, tmp_path, capsys, monkeypatch
):
    settings = dict(optimizers=("momentum", "adam"), seeds=(0, 1), epochs=2, batch_size=32, protocol="both")
    config = experiment.Config(out=tmp_path / "killed", to_results=tmp_path / "kept", tensorboard=True, **settings)
    write, rows = comparison.followers.tqdm.write, []

    def die(line, *arguments, **others):
        write(line, *arguments, **others)
        rows.append(line)
        if len(rows) == 7:  # after the first epoch of the fourth run
            raise KeyboardInterrupt

    monkeypatch.setattr(comparison.followers.tqdm, "write", die)
    with pytest.raises(KeyboardInterrupt):
        run(experiment, config)
    assert not (tmp_path / "killed" / "results.json").exists()
    assert len([*(tmp_path / "kept").rglob("*.json")]) == 3  # the fourth run was killed
    monkeypatch.setattr(comparison.followers.tqdm, "write", write)
    capsys.readouterr()
    run(experiment, config)
    printed = capsys.readouterr().out
    whole = experiment.make_study(experiment.Config(out=tmp_path / "whole", **settings))
    comparison.run(whole, progress=False, workers=1)
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    assert len(metrics(tmp_path / "killed")) == 8
    results = json.loads((tmp_path / "killed" / "results.json").read_text())
    for problem in whole.problems:
        found = comparison.collect_all(whole)
        losses = values(longest(problem, found)["adam"], experiment.LOSS)
        written = results["protocols"][problem.name]["optimizers"]["adam"]["runs"]["2"]["final"]["test loss (nats)"]
        np.testing.assert_array_equal(written["values"], losses)
    assert results["comparison"]["pairs"] == 1

    # The small files of the runs give the same report, without the data.
    monkeypatch.setattr("gdlab.tasks.cifar10.load", None)
    taken = dict(out=tmp_path / "taken", from_results=tmp_path / "kept", collect=True)
    run(experiment, experiment.Config(**settings, **taken))
    assert "Taken from" in capsys.readouterr().out
    again = json.loads((tmp_path / "taken" / "results.json").read_text())
    assert [again[name] for name in ("protocols", "claims")] == [results[name] for name in ("protocols", "claims")]

    # Every epoch has its line, also those before the kill; each start has its own folder of events.
    assert printed.count("epoch   1 of 2") == printed.count("epoch   2 of 2") == 8
    assert "source protocol  Adam  seed 1  epoch   2 of 2" in printed
    starts = sorted(str(path.relative_to(tmp_path / "killed/tensorboard")) for path in tmp_path.rglob("start-*"))
    assert len(starts) == 3 + 8  # three runs had written their first events
    assert starts[0] == "sound/adam/epochs-2/seed-0/start-000"
    replayed = [epoch for folder, name, epoch in events if folder.endswith("/start-001") and name == "train/loss"]
    assert replayed == [1, 2] * 3
    assert {"train/loss", "test/accuracy"} <= {name for _, name, _ in events}

    out = tmp_path / "killed"
    text = (out / "report.txt").read_text()
    assert text in printed
    for part in (
        "Adam",
        "JPEG (lossy)",
        "Kendall's tau",
        "undecided",
        "Differences from the source",
        "batch_size 32 (64)",
    ):
        assert part in text
    assert "| SGD |" in (out / "report.md").read_text()
    for protocol in ("sound", "source"):
        rankings = ("ranking_test_accuracy", "ranking_train_accuracy", "ranking_test_loss", "ranking_peak")
        for name in ("final", "best", *rankings, "epochs_to_target", "early_stopping"):
            assert all((out / protocol / f"{name}{suffix}").exists() for suffix in (".txt", ".csv", ".tex"))
        for name in ("training_accuracy", "test_accuracy", "training_loss", "test_loss", "learning"):
            with Image.open(out / protocol / f"{name}.png") as image:
                assert min(image.size) > 400
    assert (out / "protocols.png").exists()
    # The report agrees with the files of the runs.
    (path,) = (out / "runs/sound/adam").rglob("seed-1/metrics.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    final = results["protocols"]["sound"]["optimizers"]["adam"]["runs"]["2"]["final"]
    assert final["test accuracy (%)"]["values"][1] == pytest.approx(100 * rows[-1]["test_accuracy"])


@pytest.mark.slow
def test_a_run_that_diverges_is_recorded_and_the_others_continue(experiment, small, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(experiment.SETTINGS, "momentum", {"learning_rate": 1e30})
    config = experiment.Config(
        out=tmp_path / "out",
        optimizers=("momentum", "adam"),
        seeds=(0,),
        epochs=2,
        batch_size=32,
        hold_out=32,
        patience=1,
    )
    run(experiment, config)
    printed = capsys.readouterr().out
    assert "diverged: a loss is not finite; the other runs continue" in printed
    assert "1 of 1 diverged" in printed
    results = json.loads((tmp_path / "out" / "results.json").read_text())["protocols"]["sound"]
    momentum, adam = (results["optimizers"][name]["runs"]["2"] for name in ("momentum", "adam"))
    assert momentum["diverged"] == [True]
    assert momentum["final"]["test accuracy (%)"]["mean"] is None
    assert adam["diverged"] == [False]
    assert adam["final"] == adam["best"]  # with early stopping the best epoch's model is kept
    lines = (tmp_path / "out" / "sound" / "ranking_test_accuracy.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == ["Adam", "SGD"]
