"""The overview: every optimizer on every task, tables and ranking from made-up runs, and the command line."""

import csv
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from gdlab import comparison, optimizers, schedules
from gdlab.comparison import demon
from gdlab.comparison.options import carry_out
from gdlab.comparison.published import published
from gdlab.comparison.summaries import rank_over_problems, tuned_table
from gdlab.data import Dataset, Split
from gdlab.hyperparameters import given
from gdlab.records import write_json, write_lines
from gdlab.types import NameTable

SCRIPT = Path(__file__).parents[1] / "experiments" / "overview.py"
SHARED = Path(os.environ.get("GDLAB_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data" / "tfds")
DEEP = ("resnet18", "vgg16", "wrn16_8")
needs_mnist = pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="no prepared MNIST in $GDLAB_DATA_DIR")


@pytest.fixture(scope="module")
def overview():
    spec = importlib.util.spec_from_file_location("overview", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["overview"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny(overview, monkeypatch, tmp_path):
    """Make a tier of tiny networks, on random images and a text that repeats three words."""

    def load(name, data_dir):
        side, channels = (32, 3) if name.startswith("cifar") else (28, 1)
        generator = np.random.default_rng(0)
        parts = [
            Split(generator.integers(0, 256, (n, side, side, channels), np.uint8), np.arange(n, dtype=np.int32) % 10)
            for n in (48, 16)
        ]
        return Dataset(name, *parts, tuple("abcdefghij"), {"source": "made up"})

    for place in ("cifar10", "cifar100", "stl10", "fashion_mnist", "mnist"):
        monkeypatch.setattr(f"gdlab.tasks.{place}.load", load)
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text("the cat sat\n" * 40)
    sizes = {"train_size": 32, "hold_out": 16, "test_size": 16, "batch_size": 16}
    settings = {
        "resnet18": {"head": "linear", "width": 2, **sizes},
        "vgg16": {"dataset": "cifar10", "width": 2, **sizes},
        "wrn16_8": {"dataset": "cifar10", "depth": 10, "widen": 1, "width": 2, **sizes},
        "capsnet": {"width": 2, "capsules": 1, "capsule_size": 2, "class_size": 2, "decoder": (4,), **sizes},
        "lstm": {"width": 4, "layers": 2, "steps": 5, "batch_size": 4, "dropout": 0.2},
        "vae": {"hidden": (6, 5), **sizes},
    }
    smoke = demon.TIERS["smoke"]
    tier = smoke._replace(settings=settings, epochs=dict.fromkeys(settings, 2), trials=2)
    monkeypatch.setattr(demon, "TIERS", NameTable("tier", dict(demon.TIERS) | {"smoke": tier}))
    return tmp_path


@pytest.mark.slow
def test_one_task_runs_from_its_trials_to_the_report(overview, tiny, capsys):
    config = overview.Config(out=tiny / "out", text=tiny, tasks=("vae",), optimizers=("adam", "yellowfin"))
    carry_out(config, overview.make_study, lambda study: overview.make_report(config, study))
    found = json.loads((tiny / "out" / "results.json").read_text())["problems"]["mnist_vae"]["optimizers"]
    assert list(found) == ["adam", "yellowfin"]
    for one in found.values():
        assert np.isfinite(one["runs"]["2"]["final"]["test"]["values"]).all()
        assert one["missing"] == 0
    assert set(found["adam"]["setting"]) == {"learning_rate", "b1"}
    assert set(found["yellowfin"]["setting"]) == {"learning_rate"}
    pictures = {path.name for path in (tiny / "out").glob("*.png")}
    assert pictures == {"curves_mnist_vae.png", "vae_samples.png", "vae_latents.png"}
    assert "of the best of 2 trials" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("programs_are_forgotten")
@pytest.mark.parametrize("task", demon.KINDS)
def test_all_optimizers_run_on_every_task(overview, tiny, task):
    # Deep networks compile for minutes: each has a third of the optimizers, and the other ones have all.
    names = tuple(demon.ENTRIES)[DEEP.index(task) :: 3] if task in DEEP else tuple(demon.ENTRIES)
    config = overview.Config(out=tiny / "out", text=tiny, tasks=(task,), optimizers=names)  # in one program
    carry_out(config, overview.make_study, lambda study: overview.make_report(config, study))
    ((name, entry),) = json.loads((tiny / "out" / "results.json").read_text())["problems"].items()
    assert tuple(entry["optimizers"]) == names
    for optimizer, one in entry["optimizers"].items():
        (found_at,) = one["runs"].values()
        assert np.isfinite(found_at["final"]["test"]["values"]).all(), (name, optimizer)
        assert found_at["diverged"] == [False, False]
        assert one["missing"] == 0
        scores = [trial[entry["measure"]] for trial in one["trials"]]
        chosen = one["trials"][int(np.argmin(scores))]
        assert one["setting"] == {key: value for key, value in chosen.items() if key != entry["measure"]}
        momentum = demon.ENTRIES[optimizer].momentum
        assert set(one["setting"]) == {"learning_rate"} | ({momentum} if momentum else set())
    assert {len(one["trials"]) for one in entry["optimizers"].values()} == {2}


def made_up(study, problem, candidate, epochs, values, *, folder=None):
    """Write finished runs whose last test accuracies are `values`, one per seed; NaN means diverged."""
    setting = problem.trials[candidate][0]
    for seed, value in zip(study.seeds, values, strict=True):
        place = study.final_folder(problem.name, candidate, epochs, setting, seed)
        write_run(place, epochs, value)
    worse = -0.01 if problem.measure.metric == "accuracy" else 0.01
    for rank, trial in enumerate(problem.trials[candidate]):
        for seed in study.tuning_seeds:
            place = study.trial_folder(problem.name, candidate, trial, seed)
            write_run(place, problem.tuning_epochs, 0.9 + rank * worse)


def write_run(place, epochs, accuracy):
    well = np.isfinite(accuracy)
    task = {"train": 9, "valid": 2, "test": 3, "data": {}, "model": {"name": "m"}}
    write_json(place / "config.json", {"identity": {}, "task": task})
    row = {f"{part}_{name}": accuracy for part in ("train", "valid", "test") for name in ("accuracy", "loss")}
    done = epochs if well else 1
    write_lines(place / "metrics.jsonl", [{"epoch": epoch + 1, **row} for epoch in range(done)])
    write_lines(place / "seconds.jsonl", [{"epoch": epoch + 1, "seconds": 1.0} for epoch in range(done)])


def test_the_report_on_all_tasks_is_complete(overview, tiny, monkeypatch):
    config = overview.Config(out=tiny / "out", text=tiny)
    study = overview.make_study(config)
    generator = np.random.default_rng(0)
    for problem in study.problems:
        for name in demon.ENTRIES:
            made_up(study, problem, name, 2, generator.uniform(0.1, 0.9, 2))
    monkeypatch.setattr(overview, "draw_autoencoder", lambda *_: None)  # made-up runs have no parameters
    report = overview.make_report(config, study)
    kinds = ("cifar10_resnet18", "cifar10_vgg16", "cifar10_wrn16_8", "fashion_mnist_capsnet", f"{tiny.name}_lstm")
    found = json.loads((tiny / "out" / "results.json").read_text())["problems"]
    assert list(found) == [*kinds, "mnist_vae"]
    for table in ("adaptive", "non_adaptive", "tuned", "ranking"):
        rows = list(csv.reader((tiny / "out" / f"{table}.csv").open()))
        assert len(rows) == 1 + {"adaptive": 6, "non_adaptive": 4}.get(table, 10)
        assert r"\toprule" in (tiny / "out" / f"{table}.tex").read_text()
    pictures = {path.name for path in (tiny / "out").glob("*.png")}
    assert pictures == {*(f"curves_{name}.png" for name in found), "ranking.png"}
    assert "Average rank" in report


def test_tables_show_published_numbers_beside_ours(overview, tmp_path):
    config = overview.Config(tier="gpu", out=tmp_path, tasks=("resnet18", "capsnet"), columns="first", trials=2)
    study = overview.make_study(config)
    assert [problem.name for problem in study.problems] == ["cifar10_resnet18", "fashion_mnist_capsnet"]
    assert [problem.epochs for problem in study.problems] == [(30,), (50,)]
    resnet, capsnet = study.problems
    made_up(study, resnet, "momentum", 30, [0.90, 0.91, 0.92])
    made_up(study, resnet, "qhm", 30, [0.95, 0.85, np.nan])
    made_up(study, capsnet, "momentum", 50, [0.5, 0.5, 0.5])
    found = comparison.collect_all(study)

    def table(config, study, found, names):
        return overview.survey_tables(dataclasses.replace(config, optimizers=names), study, found)["non_adaptive"]

    ours = table(config, study, found, ("momentum", "qhm", "aggmo"))
    assert ours.head == [
        *("optimizer", "CIFAR10 ResNet18, error %, 30 epochs", "CIFAR10 ResNet18, published, 30 epochs"),
        "FASHION-MNIST CapsNet, error %, 50 epochs",
    ]
    known = published("cifar10_resnet18", "momentum", 30)
    assert ours.rows[0] == ("SGDM", "9.00 ± 1.00*", f"{known.mean:.2f} ± {known.sd:.2f}", "50.00 ± 0.00*")
    assert ours.rows[1][:2] == ("QHM", "1 of 3 diverged")
    assert ours.rows[2] == ("AggMo", "-", "11.14 ± 0.34", "-")
    assert found["cifar10_resnet18"]["momentum"].setting == resnet.trials["momentum"][0]

    def some(*names):
        return {problem: {name: own[name] for name in names} for problem, own in found.items()}

    tuned = tuned_table(study, some("momentum", "aggmo"))
    assert tuned.rows == (("SGDM", "0.03, momentum 0.9*", "0.1, momentum 0.9*"), ("AggMo", "-", "-"))
    assert rank_over_problems(study, some("momentum", "qhm")) is None  # QHM was not run on the second task
    made_up(study, capsnet, "qhm", 50, [0.6, 0.4, 0.7])
    found["fashion_mnist_capsnet"]["qhm"] = comparison.collect(study, "fashion_mnist_capsnet", "qhm")
    ranked, kept = rank_over_problems(study, some("momentum", "qhm"))
    assert kept == ["cifar10_resnet18", "fashion_mnist_capsnet"]
    np.testing.assert_array_equal(ranked.by_task, [[1, 2], [2, 1]])
    # At other epochs nothing is published.
    longer = dataclasses.replace(config, tasks=("resnet18",), epochs=31)
    short = overview.make_study(longer)
    empty = {"cifar10_resnet18": {"momentum": comparison.collect(short, "cifar10_resnet18", "momentum")}}
    assert len(table(longer, short, empty, ("momentum",)).head) == 2
    # On other tiers the networks are not the article's, and nothing is shown beside them.
    alone = table(dataclasses.replace(config, tier="laptop"), study, found, ("momentum",))
    assert not any("published" in head for head in alone.head)


def test_the_gpu_tier_is_the_articles(overview, tmp_path):
    study = overview.make_study(overview.Config(tier="gpu", out=tmp_path, columns="all"))
    epochs = {problem.name: problem.epochs for problem in study.problems}
    assert epochs == {
        "cifar10_resnet18": (30, 75, 150, 300),
        "cifar100_vgg16": (75, 150, 300),
        "stl10_wrn16_8": (50, 100, 200),
        "fashion_mnist_capsnet": (50, 100),
        "ptb_lstm": (25, 39),
        "mnist_vae": (50, 100, 200),
    }
    assert not study.together
    budgets = {len(trials) for problem in study.problems for trials in problem.trials.values()}
    assert len(budgets) == 1
    (budget,) = budgets
    for problem in study.problems:
        assert all(set(trial) == {"learning_rate"} for trial in problem.trials["yellowfin"])
        assert len({trial["learning_rate"] for trial in problem.trials["yellowfin"]}) == budget


def test_optimizers_follow_the_protocol():
    steps, rate, momentum = 8, 0.1, 0.9

    def path(optimizer):
        x = jnp.array([1.0, -2.0])
        state, found = optimizer.init(x), []
        for _ in range(steps):
            updates, state = optimizer.update(x**3 + x, state, x)
            x = x + updates
            found.append(x)
        return np.array(found)

    decayed = schedules.step(rate, steps)  # tested on its own: x 0.1 at 50% and 75%
    expected = {
        "adam": optimizers.adam(rate, b1=momentum),
        "amsgrad": optimizers.amsgrad(rate, b1=momentum),
        "adamw": optimizers.adamw(rate, b1=momentum),
        "qhadam": optimizers.qhadam(rate, b1=momentum),
        "yellowfin": optimizers.yellowfin(rate),
        "demon_adam": optimizers.demon_adam(rate, total_steps=steps, momentum=momentum),
        "momentum": optimizers.momentum(decayed, momentum=momentum),
        "aggmo": optimizers.aggmo(decayed, betas=(0.0, 0.9, 0.99)),
        "qhm": optimizers.qhm(lambda count: decayed(count) / (1 - momentum), momentum=momentum, nu=0.7),
        "demon_sgdm": optimizers.demon_sgdm(rate, total_steps=steps, momentum=momentum),
    }
    for name, entry in demon.ENTRIES.items():
        own = {} if entry.momentum is None else {entry.momentum: momentum}
        found = path(given(entry.factory, total_steps=steps)(rate, **own))
        np.testing.assert_allclose(found, path(expected.pop(name)), rtol=1e-12, err_msg=name)
    assert not expected


@pytest.mark.slow
@needs_mnist
def test_shards_of_the_work_are_collected(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPT), "--tasks", "vae", "--optimizers", "adam", "qhm", "--seeds", "0"]
    command += ["--trials", "2", "--epochs", "1", "--out", str(out), "--data-dir", str(SHARED)]
    environment = os.environ | {"GDLAB_CACHE_DIR": str(tmp_path / "cache")}

    def call(*more):
        done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for number in (1, 2):
        assert f"Shard {number}/2 is done" in call("--shard", f"{number}/2")
        assert not (out / "report.md").exists()
    report = call("--collect")
    assert "are not done yet" not in report
    assert len(list(out.glob("runs/**/metrics.jsonl"))) == 2 * (2 + 1)  # two trials and a final run each


def test_bad_input_raises_an_error_of_one_line(overview, tmp_path):
    for settings, answer in (
        ({"tier": "huge"}, "tier: expected one of smoke, laptop, gpu; got 'huge'"),
        ({"tasks": ("resnet",)}, "tasks: no task of the overview named 'resnet'; nearest: resnet18"),
        ({"optimizers": ("adm",)}, "optimizers: no optimizer of the overview named 'adm'; nearest: adam"),
        ({"tasks": ("vae", "vae")}, "tasks: expected distinct names, got vae vae"),
        ({"seeds": ()}, "seeds: expected at least one, without repeats, got none"),
        (
            {"optimizers": ("adam", "qhm", "adam")},
            "optimizers: expected at least one, without repeats, got adam qhm adam",
        ),
        ({"slurm": 2, "collect": True}, "slurm: expected neither --shard nor --collect beside --slurm"),
        ({"shard": "3/2"}, "shard: expected i/n with i from 1 to n, such as 1/4, got '3/2'"),
        ({"shard": "one"}, "shard: expected i/n"),
        ({"dtype": "int8"}, "dtype: expected one of float32, bfloat16"),
    ):
        with pytest.raises(ValueError, match=answer) as caught:
            overview.Config(**settings)
        assert "\n" not in str(caught.value)
    done = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            "--tasks",
            "lstm",
            "--text",
            str(tmp_path / "no"),
            "--out",
            str(tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("overview: dataset: expected ptb or a folder with train.txt")
