"""The experiments' command lines: a wrong option is answered by its name, what is expected and exit status 2."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import tyro

from gdlab.comparison import options, submit

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture(scope="module")
def load():
    found = {}

    def read(name):
        if name not in found:
            spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
            found[name] = importlib.util.module_from_spec(spec)
            sys.modules[name] = found[name]
            spec.loader.exec_module(found[name])
        return found[name]

    return read


WRONG = [
    ("ackley_descent", "--steps 0", "steps: expected an integer of at least 1, got 0"),
    ("ackley_descent", "--seed -1", "seed: expected an integer of at least 0, got -1"),
    ("ackley_descent", "--start nan 1", "start: expected a number in (-inf, inf), got nan"),
    ("ackley_descent", "--momenta 0.1 0.1", "momenta: expected at least one, without repeats, got [0.1, 0.1]"),
    ("ackley_descent", "--learning-rate inf", "learning_rate: expected a finite number, got inf"),
    ("basins", "--seed -3", "seed: expected an integer of at least 0, got -3"),
    ("basins", "--functions powell", "powell: expected dimension divisible by 4, got 2"),
    ("gradient_accuracy", "--steps 3", "--steps"),
    ("gradient_free", "--trials 0", "trials: expected an integer of at least 1, got 0"),
    ("gradient_free", "--gradient-cost 0", "gradient_cost: expected a number in (0, inf), got 0"),
    ("gradient_free", "--dims 2 1", "dims: expected an integer of at least 2, got 1"),
    ("learning_rate_scan", "--seeds 0", "seeds: expected an integer of at least 1, got 0"),
    ("learning_rate_scan", "--train-size -5", "train_size: expected an integer of at least 1, got -5"),
    ("learning_rate_scan", "--strategy fast", "strategy: expected one of auto, vmap, map; got 'fast'"),
    ("learning_rate_scan", "--task digits", "task: no task named 'digits'; nearest: digits_mlp"),
    ("learning_rate_scan", "--lowest-rate 2 --highest-rate 1", "highest_rate: expected a number in (2, inf), got 1"),
    ("optimizer_zoo", "--seed -1", "seed: expected an integer of at least 0, got -1"),
    ("optimizer_zoo", "--optimizers adm", "optimizers: no optimizer named 'adm'; nearest: adam"),
    ("policy_gradient", "--seeds 1", "seeds: expected an integer of at least 2, got 1"),
    ("policy_gradient", "--optimizers adm", "optimizers: no optimizer named 'adm'; nearest: adam"),
    ("stability", "--condition nan", "condition: expected a number in (1, inf), got nan"),
    ("toy_race", "--seed -1", "seed: expected an integer of at least 0, got -1"),
    ("toy_race", "--trials two", "--trials"),
    ("overview", "--seeds -1", "seeds: expected an integer of at least 0, got -1"),
    ("overview", "--seeds 1 1", "seeds: expected at least one, without repeats, got 1 1"),
    ("overview", "--seeds 1000", "seeds: expected other seeds than those of trials, got 1000"),
    ("overview", "--epochs 0", "epochs: expected an integer of at least 1, got 0"),
    ("overview", "--trials 0", "trials: expected an integer of at least 1, got 0"),
    ("overview", "--trials 2000", "budget: expected settings whose learning rates float32 can hold, got 2000"),
    ("overview", "--workers 0", "workers: expected an integer of at least 1, got 0"),
    ("overview", "--slurm -1", "slurm: expected an integer of at least 0, got -1"),
    ("overview", "--slurm-hours 0", "slurm_hours: expected a number in (0, inf), got 0"),
    ("overview", "--slurm 2 --collect", "slurm: expected neither --shard nor --collect beside --slurm"),
    ("overview", "--shard 0/4", "shard: expected i/n with i from 1 to n, such as 1/4, got '0/4'"),
    ("cifar10_resnet18", "--width 0", "width: expected an integer of at least 1, got 0"),
    ("cifar10_resnet18", "--hold-out -1", "hold_out: expected an integer of at least 0, got -1"),
    ("cifar10_resnet18", "--stem big", "stem: expected one of imagenet, cifar; got 'big'"),
    ("cifar10_resnet18", "--patience 0 --hold-out 9", "patience: expected an integer of at least 1, got 0"),
    ("cifar10_resnet18", "--dtype float16", "dtype: expected one of float32, bfloat16; got 'float16'"),
]


@pytest.mark.parametrize(("name", "line", "answer"), WRONG)
def test_a_wrong_option_ends_with_status_2_before_any_work(load, tmp_path, capsys, name, line, answer):
    with pytest.raises(SystemExit) as caught:
        tyro.cli(load(name).Config, args=[*line.split(), "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    said = re.sub(r"[\s│]+", " ", capsys.readouterr().err)  # the message is framed
    assert answer in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted({name for name, _, _ in WRONG}))
def test_the_home_directory_is_found_in_every_path(load, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tyro.cli(load(name).Config, args=["--out=~/out"])
    assert config.out == tmp_path / "out"
    paths = {"overview": ("data_dir", "text"), "cifar10_resnet18": ("data_dir", "weights")}
    for option in paths.get(name, ("data_dir", "resume") if name == "learning_rate_scan" else ()):
        config = tyro.cli(load(name).Config, args=[f"--{option.replace('_', '-')}=~/some"])
        assert getattr(config, option) == tmp_path / "some"


def test_slurm_is_missing_in_one_line_and_nothing_runs_instead(load, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    config = tyro.cli(load("overview").Config, args=["--slurm", "2", "--out", str(tmp_path / "out")])
    with pytest.raises(FileNotFoundError, match=r"slurm: expected Slurm on this machine, .* run each part by itself"):
        options.carry_out(config, load("overview").make_study, lambda study: pytest.fail("a report was made"))
    assert not list(tmp_path.iterdir())
    for arguments, answer in (
        ((3, 2, tmp_path), "work: expected a function, got 3"),
        ((print, 0, tmp_path), "shards: expected an integer of at least 1, got 0"),
        ((print, 2, None), "folder: expected a path, got None"),
    ):
        with pytest.raises((TypeError, ValueError), match=answer):
            submit(*arguments)
    with pytest.raises(ValueError, match="hours: expected a number in"):
        submit(print, 2, tmp_path, hours=-1.0)


def test_a_report_of_a_folder_that_cannot_be_written_to_is_printed(load, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(options, "can_write", lambda folder: False)
    config = load("overview").Config(out=tmp_path / "out", collect=True, tasks=("vae",), optimizers=("adam",))
    (tmp_path / "out").mkdir()
    options.carry_out(config, load("overview").make_study, lambda study: load("overview").make_report(config, study))
    printed = capsys.readouterr().out
    assert "trainings are not done yet" in printed
    assert f"Not written: {tmp_path / 'out'} cannot be written to" in printed
    assert not list((tmp_path / "out").iterdir())
